"""The steps of the guided tour: real runs of the model on an example picture, kept once made.

The example pictures are no secret, so what was found out about them is shared by all visitors.
"""

import html
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitdemo import viewer
from vitdemo.attention import sanity
from vitdemo.attention.dependence import first_word
from vitdemo.attention.masking import blank_picture, blurred_pictures
from vitdemo.cache import LRU
from vitdemo.engine import Engine
from vitdemo.errors import TaskError, VitDemoError
from vitdemo.overlay import percent
from vitdemo.preprocess import open_picture
from vitdemo.records import Caption, WhatIf
from vitdemo.texts import LANGUAGES, language, phrase, speaking
from vitdemo.ui import markup
from vitdemo.ui.tabs.describe import first_language
from vitdemo.ui.tour.parts import (
    Finding,
    Subject,
    anyway,
    end,
    figures,
    map_of,
    numbers,
    verdict,
)
from vitdemo.viewer.build import matter_sentence

log = logging.getLogger(__name__)

STEPS = ("map", "matter", "blank", "shuffled", "random", "end")
LAST = len(STEPS) - 1
KEPT = 64  # findings that are kept: some hundred kilobytes each


class Guide:
    """Runs the steps over an engine. Safe to call from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._kept: LRU[Any] = LRU(KEPT)
        self._lock = threading.Lock()

    def start(self, path: Path) -> threading.Thread:
        """Make all steps on a picture now, in the background, in every language."""
        thread = threading.Thread(target=self._make, args=(path,), name="tour", daemon=True)
        thread.start()
        return thread

    def _make(self, path: Path) -> None:
        for code in LANGUAGES:
            with speaking(code):
                for number in range(LAST):
                    try:
                        self.step(number, path)
                    except VitDemoError as error:  # is told to who comes there
                        log.info("a step of the tour is left out: %s", error)

    def known(self, number: int, path: Path, word: int = -1) -> Finding | None:
        """What a step has found before; None where the model has to work for it."""
        if number >= LAST:
            return Finding(None, end())
        with self._lock:
            found: Finding | None = self._kept.get(_key(number, path, word))
        return found

    def step(self, number: int, path: Path, word: int = -1) -> Finding:
        """What step ``number`` (from 0; the last is the end) finds on a picture, in the current
        language. ``word`` is the one that it is about, -1 to choose one.

        Raises:
            TaskError: the model cannot do what the step needs; the message says what.
        """
        if known := self.known(number, path, word):
            return known
        runs = (self._map, self._matter, self._blank, self._shuffled, self._random)
        return self._once(_key(number, path, word), lambda: runs[number](path, word))

    def _once(self, key: str, run: Callable[[], Any]) -> Any:
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = run()
            with self._lock:
                self._kept.put(key, found)
        return found

    def _subject(self, path: Path) -> Subject:
        """The picture with its caption; a model that cannot caption gets a sentence to compare."""
        return self._once(f"subject:{path}:{first_language(self.engine)}",
                          lambda: self._describe(path))

    def _describe(self, path: Path) -> Subject:
        info = self.engine.info
        photo = open_picture(path)
        if "explain" not in info.tasks:
            raise left_out(self.engine, "explain")
        spoken = first_language(self.engine)
        with speaking(spoken):  # which need not be the reader's
            said: Caption | str = phrase("tour.sentence", name=path.stem.replace("-", " ").replace(
                "_", " "))
        if "caption" in info.tasks:
            said = self.engine.caption(photo, language=spoken)
        elif "match" not in info.tasks:
            raise left_out(self.engine, "caption")
        found = self.engine.explain(photo, said)
        if not found:
            raise TaskError("tour.no_words")
        return Subject(photo, said, found[-1])

    def _map(self, path: Path, _: int) -> Finding:
        subject = self._subject(path)
        model = self.engine.info.behind(subject.maps).name
        why = "" if isinstance(subject.said, Caption) else markup.status(
            phrase("tour.given", model=model), "vt-note")
        return Finding(viewer.payload([subject.maps], subject.photo, model), why)

    def _matter(self, path: Path, word: int) -> Finding:
        subject = self._subject(path)
        words = subject.words()
        word = word if 0 <= word < len(words) else max(0, first_word(subject.maps))
        found = self.engine.what_if(subject.photo, subject.said, word, source=subject.maps.source)
        says = html.escape(matter_sentence(found, subject.maps))
        cells = _trial(subject, found, words[word])
        return Finding(None, f"{cells}<p><strong>{says}</strong></p>", words, word)

    def _blank(self, path: Path, _: int) -> Finding:
        try:
            subject = self._subject(path)
        except TaskError as error:
            return Finding(None, markup.status(str(error), "vt-note"))
        share, = (one for one in self.engine.picture_share(subject.photo, subject.said)
                  if one.source == subject.maps.source)
        if "caption" not in self.engine.info.tasks:
            reason = str(left_out(self.engine, "caption"))
            return Finding(None, markup.status(reason, "vt-note") + anyway(subject, share))
        photo = subject.photo.image
        grey = open_picture(blank_picture(photo.size))
        said = self.engine.caption(grey, language=first_language(self.engine))
        return Finding(None, figures((photo, phrase("tour.whole"), subject.text),
                                     (grey.image, phrase("tour.grey"), said.text))
                       + anyway(subject, share))

    def _shuffled(self, path: Path, _: int) -> Finding:
        subject = self._subject(path)
        text, order = sanity.shuffle_words(subject.raw.words)
        after = self.engine.explain(subject.photo, subject.says(text))[-1]
        found = sanity.compare_shuffled(subject.raw, after, order)
        says = verdict(found.verdict == "word", phrase(f"tour.shuffled.{found.verdict}"))
        if found.verdict == "unclear":
            return Finding(None, says)
        word = max(0, first_word(subject.maps))
        name = phrase("tour.map_of", word=subject.words()[word])
        return Finding(None, figures(
            (map_of(subject, subject.maps, word), name, subject.text),
            (map_of(subject, after, order.index(word)), name, text)) + says)

    def _random(self, path: Path, _seed: int) -> Finding:
        subject = self._subject(path)
        word = max(0, first_word(subject.maps))
        maps, _ = self.engine.explain_randomised(subject.photo, subject.said)
        after = viewer.dress(maps[-1], subject.text)
        found = sanity.compare_randomised(subject.maps, after)
        name = phrase("tour.map_of", word=subject.words()[word])
        return Finding(None, figures(
            (map_of(subject, subject.maps, word), name, phrase("tour.real")),
            (map_of(subject, after, word), name, phrase("tour.copy")))
            + verdict(found.verdict == "changed", phrase(f"tour.random.{found.verdict}"))
            + numbers(subject.words(), found.similarity))


def _key(number: int, path: Path, word: int) -> str:
    return f"{number}:{path}:{language()}:{word if number == 1 else -1}"


def _trial(subject: Subject, found: WhatIf, word: str) -> str:
    """Three pictures side by side: as it is, without the strongest fifth, without a random one."""
    hidden = np.zeros((2, len(subject.maps.boxes)), dtype=bool)
    hidden[0, list(found.hidden)] = True
    hidden[1, list(found.random)] = True
    blurred = blurred_pictures(subject.photo.image, subject.maps.boxes, hidden)
    what = word if isinstance(subject.said, Caption) else phrase("tour.it_fits")
    cells = ((subject.photo.image, phrase("tour.whole"), found.before, found.probability),
             (blurred[0], phrase("tour.strongest"), found.after, found.probability_after),
             (blurred[1], phrase("tour.chance"), found.after_random, found.probability_random))
    return figures(*((image, name, phrase("tour.trial", text=text, what=what,
                                          chance=percent(chance)))
                     for image, name, text, chance in cells))


def left_out(engine: Engine, task: str) -> TaskError:
    """Why a step is left out."""
    return TaskError(f"tour.left_out.{task}", model=engine.info.name,
                     why=engine.info.why_not(task))
