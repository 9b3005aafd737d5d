"""The five steps of the guided tour: real runs of the model on an example picture, kept once made.

The example pictures are no secret, so what was found out about them is shared by all visitors.
"""

import html
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitdemo import viewer
from vitdemo.attention import sanity
from vitdemo.attention.faithfulness import evidence_sentence
from vitdemo.attention.masking import blank_picture, blurred_pictures
from vitdemo.cache import LRU
from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.records import Caption, Explanation, PictureShare, WhatIf
from vitdemo.report import CAN, CANNOT
from vitdemo.ui.parts import percent
from vitdemo.ui.tour_texts import EMPTY, LAST, TRY
from vitdemo.viewer.build import matter_sentence

KEPT = 48  # findings that are kept: some hundred kilobytes each
SHORT = 3  # letters; the word that step 2 starts with has at least as many, where there is one
SIDE = 480  # longest side of the small pictures of step 2, in pixels


@dataclass(frozen=True)
class Subject:
    """A picture and what the model says of it: a caption, or a sentence to compare. ``raw`` are
    the maps over the model's own words, `maps` over those on the screen."""

    photo: Picture
    said: Caption | str
    raw: Explanation

    @property
    def text(self) -> str:
        return self.said.text if isinstance(self.said, Caption) else self.said

    @property
    def maps(self) -> Explanation:
        return viewer.dress(self.raw, self.text)

    def says(self, text: str) -> Caption | str:
        """The same with other words, which the model is told to have said."""
        return replace(self.said, raw_text=text) if isinstance(self.said, Caption) else text

    def words(self) -> list[str]:
        """The words, as on the screen."""
        return [word.text for word in self.maps.words]


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
        note = "" if isinstance(subject.said, Caption) else _note(
            f"{self.engine.info.name} cannot write descriptions, so this sentence was given to it. "
            "It only says how well the sentence fits.")
        return Found(payload(subject, [subject.maps], self.engine), note)

    def _share(self, subject: Subject, path: Path, language: str) -> PictureShare:
        found = self._once(f"share:{path}:{language}",
                           lambda: self.engine.picture_share(subject.photo, subject.said))
        share: PictureShare = next(one for one in found if one.source == subject.maps.source)
        return share

    def _chosen(self, subject: Subject, path: Path, language: str, word: int) -> int:
        """The word asked for, or the one that the picture counted for most."""
        words = subject.words()
        if 0 <= word < len(words):
            return word
        share = self._share(subject, path, language)
        drops = np.nan_to_num(np.subtract(share.probability, share.blank))
        long = [len(one) >= SHORT or not one.isascii() for one in words]
        return int(np.argmax(drops + (np.array(long) if any(long) else 0) * 2))

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
        return Found(None, _trial(subject, found, name) + says, tuple(subject.words()), word)

    def _blank(self, path: Path, language: str, _: int) -> Found:
        parts = []
        if "caption" in self.engine.info.tasks:
            grey = self._once(f"grey:{language}", lambda: self.engine.caption(
                open_picture(blank_picture(Image.new("RGB", (640, 480)))), language=language))
            parts.append(f'<figure class="vt-grey"><div role="img" aria-label="{EMPTY}"></div>'
                         f"<figcaption>{EMPTY}. The model still says: <q>{html.escape(grey.text)}"
                         "</q></figcaption></figure>")
        else:
            parts.append(_note(left_out(self.engine, "caption")))
        try:
            subject = self._subject(path, language)
        except TaskError as error:
            return Found(None, "".join(parts) + _note(str(error)))
        share = self._share(subject, path, language)
        return Found(None, "".join(parts) + _anyway(subject, share))

    def _shuffled(self, path: Path, language: str, _: int) -> Found:
        subject = self._subject(path, language)
        text, order = sanity.shuffle_words(subject.raw.words)
        after = self.engine.explain(subject.photo, subject.says(text))[-1]
        found = sanity.compare_shuffled(subject.raw, after, order)
        shown = payload(subject, [subject.maps, after], self.engine,
                        ["In the right order", "The same words, shuffled"])
        return Found(shown, _verdict(found.verdict == "word", sanity.shuffled_sentence(found)))

    def _random(self, path: Path, language: str, word: int) -> Found:
        subject = self._subject(path, language)
        word = self._chosen(subject, path, language, word)
        engine = self.engine.randomised()
        after = viewer.dress(engine.explain(subject.photo, subject.said)[-1], subject.text)
        found = sanity.compare_randomised(subject.maps, after)
        random = engine.evidence(subject.photo, subject.said, source=subject.maps.source,
                                 words=[word])[0]
        name = html.escape(subject.words()[word])
        badge = self._badge(subject, path, language, word)
        shown = payload(subject, [subject.maps, after], self.engine,
                        ["The real model", "The copy with random numbers"])
        says = (_verdict(found.verdict == "changed", sanity.randomised_sentence(found))
                + f"<dl><dt>Evidence for “{name}”, real model</dt><dd>{html.escape(badge)}</dd>"
                f"<dt>Evidence for “{name}”, random copy</dt>"
                f"<dd>{html.escape(evidence_sentence(random))}</dd></dl>"
                + _likeness(subject.words(), found.similarity))
        return Found(shown, says)


def left_out(engine: Engine, task: str) -> str:
    """Why a step is left out, as one sentence."""
    info = engine.info
    what = {"explain": "show where it looked", "caption": "describe pictures"}[task]
    why = info.missing.get(task, "") or "it was not made for it"
    return (f"This part is left out: {info.name} cannot {what} ({why[:1].lower()}"
            f"{why[1:].rstrip('.')}).")


def payload(subject: Subject, maps: Sequence[Explanation], engine: Engine,
            titles: Sequence[str] = ()) -> dict[str, Any]:
    """What the viewer shows of one or two texts over the picture."""
    texts = viewer.texts(maps)
    for text, title in zip(texts, titles, strict=False):
        text["title"] = title
    return {"picture": viewer.display(subject.photo), "model": engine.info.name, "texts": texts}


def end() -> str:
    """What a map can and cannot say."""
    can, cannot = ("".join(f"<li>{html.escape(text)}</li>" for text in texts)
                   for texts in (CAN, CANNOT))
    return (f"<h3>A map can say</h3><ul>{can}</ul><h3>A map cannot say</h3><ul>{cannot}</ul>"
            f"<p>{html.escape(TRY)}</p>")


def _note(text: str) -> str:
    return f'<p class="vt-note">{html.escape(text)}</p>'


def _verdict(good: bool, sentence: str) -> str:
    mark = "vt-good" if good else "vt-doubt"
    return f'<p class="vt-verdict {mark}">{html.escape(sentence)}</p>'


def _trial(subject: Subject, found: WhatIf, word: str) -> str:
    """Three pictures side by side: as it is, without the strongest fifth, without a random one."""
    hidden = np.zeros((2, len(subject.maps.boxes)), dtype=bool)
    hidden[0, list(found.hidden)] = True
    hidden[1, list(found.random)] = True
    blurred = blurred_pictures(subject.photo.image, subject.maps.boxes, hidden)
    cells = []
    written = isinstance(subject.said, Caption)
    for image, name, text, chance in (
            (subject.photo.image, "The picture as it is", found.before, found.probability),
            (blurred[0], f"Without the strongest fifth for “{word}”", found.after,
             found.probability_after),
            (blurred[1], "Without a random fifth", found.after_random, found.probability_random)):
        says = f"<q>{html.escape(text)}</q> " if written else ""
        what = f"“{word}”" if written else "It fits"
        cells.append(f'<figure><img src="{viewer.data_url(image, SIDE)}" alt="">'
                     f"<figcaption><strong>{html.escape(name)}</strong> {says}"
                     f'<span class="vt-chance">{html.escape(what)}: {percent(chance)}</span>'
                     "</figcaption></figure>")
    return f'<div class="vt-trial">{"".join(cells)}</div>'


def _anyway(subject: Subject, share: PictureShare) -> str:
    """Each word's probability on the picture and on a grey one."""
    if not isinstance(subject.said, Caption):
        return (f"<p>The sentence fits the picture: {percent(share.probability[0])}. It fits a "
                f"grey picture: {percent(share.blank[0])}.</p>")
    count = sum(share.anyway)
    words = subject.words()
    said = (f"{count} of these {len(words)} words would have come anyway. They are marked."
            if count else "None of these words would have come anyway.")
    rows = [('<tr class="vt-anyway">' if anyway else "<tr>")
            + f'<th scope="row">{html.escape(word)}</th><td>{_bar(here)}</td><td>{_bar(grey)}</td>'
              f'<td>{"anyway" if anyway else ""}</td></tr>'
            for word, here, grey, anyway in zip(words, share.probability, share.blank,
                                                share.anyway, strict=True)]
    return (f"<p><strong>{html.escape(said)}</strong> The table says how sure the model was of "
            'each word.</p><table class="vt-table"><thead><tr><th scope="col">Word</th>'
            '<th scope="col">This picture</th><th scope="col">Grey picture</th>'
            f'<th scope="col"></th></tr></thead><tbody>{"".join(rows)}</tbody></table>')


def _likeness(words: Sequence[str], similarity: Sequence[float]) -> str:
    """How like each word's two maps are, from -1 to 1."""
    rows = "".join(f'<tr><th scope="row">{html.escape(word)}</th><td>{value:.2f}</td></tr>'
                   for word, value in zip(words, similarity, strict=True))
    return ("<details><summary>The numbers, word by word</summary><p>1: the two maps are the same. "
            "0: they have nothing in common. Below 0: they are opposites. This is Spearman’s rank "
            'correlation of the regions.</p><table class="vt-table"><tbody>'
            f"{rows}</tbody></table></details>")


def _bar(value: float) -> str:
    width = 0.0 if math.isnan(value) else 100 * max(0.0, min(1.0, value))
    shown = "–" if math.isnan(value) else percent(value)
    return (f'<span class="vt-value">{shown}</span><span class="vt-track" aria-hidden="true">'
            f'<span class="vt-fill" style="width:{width:.1f}%"></span></span>')
