"""What the steps of the tour are about, and the HTML of what they found."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from vitdemo import viewer
from vitdemo.overlay import draw, percent
from vitdemo.preprocess import Picture
from vitdemo.records import Caption, Explanation, PictureShare
from vitdemo.report import CAN, CANNOT
from vitdemo.texts import phrase
from vitdemo.ui import markup

SIDE = 480  # longest side of the small pictures, in pixels


@dataclass(frozen=True)
class Finding:
    """What a step shows: a payload for the viewer (None: nothing to view), HTML beneath it, and
    the words that another run may be about."""

    payload: dict[str, Any] | None
    html: str
    words: tuple[str, ...] = ()
    word: int = -1


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

    def words(self) -> tuple[str, ...]:
        """The words, as on the screen."""
        return tuple(word.text for word in self.maps.words)


def end() -> str:
    """What a map can and cannot say."""
    parts = []
    for key, caveats in (("report.can", CAN), ("report.cannot", CANNOT)):
        parts.append(f"<h3>{markup.said(key)}</h3><ul>{markup.items(map(phrase, caveats))}</ul>")
    return "".join(parts)


def verdict(good: bool, sentence: str) -> str:
    mark = "vt-good" if good else "vt-doubt"
    return f'<p class="vt-verdict {mark}">{html.escape(sentence)}</p>'


def figures(*cells: tuple[Image.Image, str, str]) -> str:
    """Pictures side by side, each with its name and what is said of it, as HTML."""
    found = "".join(
        f'<figure><img src="{viewer.data_url(image, SIDE)}" alt=""><figcaption>'
        f'<strong>{html.escape(name)}</strong><span dir="auto">{html.escape(text)}</span>'
        "</figcaption></figure>" for image, name, text in cells)
    return f'<div class="vt-trial">{found}</div>'


def map_of(subject: Subject, maps: Explanation, word: int) -> Image.Image:
    """A word's map over a small copy of the picture."""
    small = subject.photo.image.copy()
    small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    return draw(small, maps, maps.mean_map()[word])


def anyway(subject: Subject, share: PictureShare) -> str:
    """Each word's probability on the picture and on a grey one."""
    if not isinstance(subject.said, Caption):
        return markup.status(phrase("tour.fits", here=percent(share.probability[0]),
                                    grey=percent(share.blank[0])), "vt-note")
    heads = "".join(f'<th scope="col">{markup.said(f"tour.column.{name}")}</th>'
                    for name in ("word", "here", "grey"))
    rows = [('<tr class="vt-anyway">' if marked else "<tr>")
            + f'<th scope="row"><bdi>{html.escape(word)}</bdi></th><td>{markup.bar(here)}</td>'
              f"<td>{markup.bar(grey)}</td></tr>"
            for word, here, grey, marked in zip(subject.words(), share.probability, share.blank,
                                                share.anyway, strict=True)]
    marked = sum(share.anyway)
    said = (phrase("tour.anyway", count=marked, all=len(rows)) if marked
            else phrase("tour.from_picture"))
    return (f'<p><strong>{html.escape(said)}</strong></p><table class="vt-likely"><thead><tr>'
            f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def numbers(words: Sequence[str], similarity: Sequence[float]) -> str:
    """How like each word's two maps are, from -1 to 1, for experts."""
    rows = "".join(f'<tr><th scope="row"><bdi>{html.escape(word)}</bdi></th><td>{value:.2f}</td>'
                   "</tr>" for word, value in zip(words, similarity, strict=True))
    return (f"<details><summary>{markup.said('tour.experts')}</summary>"
            f"<p>{markup.said('tour.likeness')}</p>"
            f'<table class="vt-likely"><tbody>{rows}</tbody></table></details>')
