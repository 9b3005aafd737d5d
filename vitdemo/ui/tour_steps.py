"""The five steps of the guided tour: real runs of the model on an example picture, kept once made.

The example pictures are no secret, so what was found out about them is shared by all visitors.
"""

import html
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitdemo import viewer
from vitdemo.attention import sanity
from vitdemo.attention.faithfulness import evidence_sentence
from vitdemo.attention.masking import blank_picture
from vitdemo.cache import LRU
from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import open_picture
from vitdemo.records import Caption, Evidence, PictureShare
from vitdemo.ui.tour_parts import (
    Subject,
    anyway,
    end,
    likeness,
    note,
    pair,
    payload,
    trial,
    verdict,
)
from vitdemo.ui.tour_texts import EMPTY, LAST
from vitdemo.viewer.build import matter_sentence

KEPT = 48  # findings that are kept: some hundred kilobytes each
RARE = 0.01  # added to probabilities, so that a word that hardly comes up is not the chosen one
SHORT = 3  # letters; the word that step 2 starts with has at least as many, where there is one


@dataclass(frozen=True)
class Found:
    """What a step shows: a payload for the viewer (None: nothing to view), HTML beneath it, and
    the words that another run may be about."""

    payload: dict[str, Any] | None
    html: str
    words: tuple[str, ...] = ()
    word: int = -1


@dataclass
class Tour:
    """Runs the steps over an engine. Safe to call from several threads."""

    engine: Engine
    _kept: LRU[Any] = field(default_factory=lambda: LRU(KEPT))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, number: int, path: Path, language: str, word: int = -1) -> Found:
        """What step ``number`` (from 0; 5 is the end) finds on a picture. ``word`` is the one that
        step 2 is about, -1 to choose one.

        Raises:
            TaskError: the model cannot do what the step needs; the message says what.
        """
        if number >= LAST:
            return Found(None, end())
        runs = (self._map, self._matter, self._blank, self._shuffled, self._random)
        if number != 1:
            word = -1
        return self._once(f"{number}:{path}:{language}:{word}",
                          lambda: runs[number](path, language, word))

    def _once(self, key: str, run: Callable[[], Any]) -> Any:
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = run()
            with self._lock:
                self._kept.put(key, found)
        return found

    def _subject(self, path: Path, language: str) -> Subject:
        """The picture with its caption; a model that cannot caption gets a sentence to compare."""
        return self._once(f"subject:{path}:{language}", lambda: self._describe(path, language))

    def _describe(self, path: Path, language: str) -> Subject:
        info = self.engine.info
        photo = open_picture(path)
        if "explain" not in info.tasks:
            raise TaskError(left_out(self.engine, "explain"))
        said: Caption | str = f"a photograph of a {path.stem.replace('-', ' ').replace('_', ' ')}"
        if "caption" in info.tasks:
            said = self.engine.caption(photo, language=language)
        elif "match" not in info.tasks:
            raise TaskError(left_out(self.engine, "caption"))
        found = self.engine.explain(photo, said)
        if not found:
            raise TaskError("The model had no words for this picture. Choose another one.")
        return Subject(photo, said, found[-1])

    def _map(self, path: Path, language: str, _: int) -> Found:
        subject = self._subject(path, language)
        why = "" if isinstance(subject.said, Caption) else note(
            f"{self.engine.info.name} cannot write descriptions, so this sentence was given to it. "
            "It only says how well the sentence fits.")
        return Found(payload(subject, [subject.maps], self.engine), why)

    def _share(self, subject: Subject, path: Path, language: str) -> PictureShare:
        found = self._once(f"share:{path}:{language}",
                           lambda: self.engine.picture_share(subject.photo, subject.said))
        share: PictureShare = next(one for one in found if one.source == subject.maps.source)
        return share

    def _chosen(self, subject: Subject, path: Path, language: str, word: int) -> int:
        """The word asked for, or the one that the picture made more likely by the largest factor.
        """
        words = subject.words()
        if 0 <= word < len(words):
            return word
        share = self._share(subject, path, language)
        here, grey = (np.nan_to_num(values) + RARE for values in
                      (np.array(share.probability), np.array(share.blank)))
        long = np.array([len(one) >= SHORT or not one.isascii() for one in words])
        return int(np.argmax(np.where(long | ~long.any(), here / grey, 0)))

    def _badge(self, subject: Subject, path: Path, language: str, word: int) -> str:
        found = self._once(f"evidence:{path}:{language}:{word}", lambda: self.engine.evidence(
            subject.photo, subject.said, source=subject.maps.source, words=[word])[0])
        return evidence_sentence(found)

    def _matter(self, path: Path, language: str, word: int) -> Found:
        subject = self._subject(path, language)
        word = self._chosen(subject, path, language, word)
        found = self.engine.what_if(subject.photo, subject.said, word, source=subject.maps.source)
        name = subject.words()[word]
        says = (f"<p><strong>{html.escape(matter_sentence(found, subject.maps))}</strong></p>"
                "<p>One trial can be luck. So the evidence repeats it step by step, and against "
                f"ten random orders. For “{html.escape(name)}” it says: "
                f"<strong>{html.escape(self._badge(subject, path, language, word))}</strong></p>")
        return Found(None, trial(subject, found, name) + says, tuple(subject.words()), word)

    def _blank(self, path: Path, language: str, _: int) -> Found:
        parts = []
        if "caption" in self.engine.info.tasks:
            grey = self._once(f"grey:{language}", lambda: self.engine.caption(
                open_picture(blank_picture((640, 480))), language=language))
            parts.append(f'<figure class="vt-grey"><div role="img" aria-label="{EMPTY}"></div>'
                         f"<figcaption>{EMPTY}. The model still says: <q>{html.escape(grey.text)}"
                         "</q></figcaption></figure>")
        else:
            parts.append(note(left_out(self.engine, "caption")))
        try:
            subject = self._subject(path, language)
        except TaskError as error:
            return Found(None, "".join(parts) + note(str(error)))
        share = self._share(subject, path, language)
        return Found(None, "".join(parts) + anyway(subject, share))

    def _shuffled(self, path: Path, language: str, _: int) -> Found:
        subject = self._subject(path, language)
        text, order = sanity.shuffle_words(subject.raw.words)
        after = self.engine.explain(subject.photo, subject.says(text))[-1]
        found = sanity.compare_shuffled(subject.raw, after, order)
        word = self._chosen(subject, path, language, -1)
        place = order.index(word) if found.verdict != "unclear" else -1
        sides = "" if place < 0 else pair(subject, (subject.maps, word, "in the right order"),
                                          (after, place, "shuffled"))
        shown = payload(subject, [subject.maps, after], self.engine,
                        ["In the right order", "The same words, shuffled"], place)
        return Found(shown, sides + verdict(found.verdict == "word",
                                            sanity.shuffled_sentence(found)))

    def _random(self, path: Path, language: str, word: int) -> Found:
        subject = self._subject(path, language)
        word = self._chosen(subject, path, language, word)
        maps, checked = self.engine.explain_randomised(subject.photo, subject.said, [word],
                                                       subject.maps.source)
        after = viewer.dress(maps[-1], subject.text)
        found = sanity.compare_randomised(subject.maps, after)
        name = html.escape(subject.words()[word])
        badge = self._badge(subject, path, language, word)
        shown = payload(subject, [subject.maps, after], self.engine,
                        ["The real model", "The copy with random numbers"], word)
        says = (pair(subject, (subject.maps, word, "the real model"),
                     (after, word, "the random copy"))
                + verdict(found.verdict == "changed", sanity.randomised_sentence(found))
                + f"<dl><dt>Evidence for “{name}”, real model</dt><dd>{html.escape(badge)}</dd>"
                f"<dt>Evidence for “{name}”, random copy</dt>"
                f"<dd>{html.escape(_random_badge(checked[0]))}</dd></dl>"
                + likeness(subject.words(), found.similarity))
        return Found(shown, says)


def _random_badge(evidence: Evidence) -> str:
    """The badge of a copy that has learned nothing; it gives every word about no probability."""
    if evidence.verdict == "language":
        return "The picture makes no difference to this word."
    return evidence_sentence(evidence)


def left_out(engine: Engine, task: str) -> str:
    """Why a step is left out, as one sentence."""
    info = engine.info
    what = {"explain": "show where it looked", "caption": "describe pictures"}[task]
    why = info.missing.get(task, "") or "it was not made for it"
    return (f"This part is left out: {info.name} cannot {what} ({why[:1].lower()}"
            f"{why[1:].rstrip('.')}).")
