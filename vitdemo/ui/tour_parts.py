"""What the steps of the tour are about, and the HTML of what they found."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitdemo import viewer
from vitdemo.attention.masking import blurred_pictures
from vitdemo.engine import Engine
from vitdemo.overlay import draw
from vitdemo.preprocess import Picture
from vitdemo.records import Caption, Explanation, PictureShare, WhatIf
from vitdemo.report import CAN, CANNOT
from vitdemo.ui.parts import percent
from vitdemo.ui.tour_texts import TRY

SIDE = 480  # longest side of the small pictures, in pixels


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


def payload(subject: Subject, maps: Sequence[Explanation], engine: Engine,
            titles: Sequence[str] = (), word: int = -1) -> dict[str, Any]:
    """What the viewer shows of one or two texts over the picture; ``word`` of the last one is
    chosen to begin with."""
    texts = viewer.texts(maps)
    for text, title in zip(texts, titles, strict=False):
        text["title"] = title
    return {"picture": viewer.display(subject.photo), "model": engine.info.name, "texts": texts,
            "choose": {"word": word}}


def end() -> str:
    """What a map can and cannot say."""
    can, cannot = ("".join(f"<li>{html.escape(text)}</li>" for text in texts)
                   for texts in (CAN, CANNOT))
    return (f"<h3>A map can say</h3><ul>{can}</ul><h3>A map cannot say</h3><ul>{cannot}</ul>"
            f"<p>{html.escape(TRY)}</p>")


def note(text: str) -> str:
    return f'<p class="vt-note">{html.escape(text)}</p>'


def verdict(good: bool, sentence: str) -> str:
    mark = "vt-good" if good else "vt-doubt"
    return f'<p class="vt-verdict {mark}">{html.escape(sentence)}</p>'


def trial(subject: Subject, found: WhatIf, word: str) -> str:
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


def pair(subject: Subject, *sides: tuple[Explanation, int, str]) -> str:
    """The map of a word in two explanations, side by side, each on the scale of its own text."""
    small = subject.photo.image.copy()
    small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    cells = []
    for maps, word, name in sides:
        means = maps.mean_map()
        drawn = viewer.data_url(draw(small, maps, means[word], float(means.max())), SIDE)
        what = f"“{maps.words[word].text}”, {name}"
        cells.append(f'<figure><img src="{drawn}" alt="Map of {html.escape(what)}">'
                     f"<figcaption>{html.escape(what)}</figcaption></figure>")
    return f'<div class="vt-trial vt-pair">{"".join(cells)}</div>'


def anyway(subject: Subject, share: PictureShare) -> str:
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


def likeness(words: Sequence[str], similarity: Sequence[float]) -> str:
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
