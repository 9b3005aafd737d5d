"""Pieces of the page as HTML: sentences, buttons, bars. All text is escaped here."""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from gradio.processing_utils import save_bytes_to_cache

from vitdemo import viewer
from vitdemo.overlay import percent
from vitdemo.preprocess import open_small
from vitdemo.texts import phrase
from vitdemo.ui.session import uploads_root

THUMBNAIL = 240  # longest side of an example in a list, in pixels


def said(key: str, /, **values: object) -> str:
    """A sentence of the catalogue, as HTML."""
    return html.escape(phrase(key, **values))


def items(texts: Iterable[object]) -> str:
    """The items of a list, as HTML."""
    return "".join(f"<li>{html.escape(str(text))}</li>" for text in texts)


def notice(wrong: object) -> str:
    """An error, or a sentence about one, as HTML that a screen reader reads out."""
    return f'<p class="vt-error" role="alert">{html.escape(str(wrong))}</p>'


def status(text: str, css: str = "vt-hint") -> str:
    """A sentence on how things stand, as HTML that a screen reader reads out when it can."""
    return f'<p class="{css}" role="status">{html.escape(text)}</p>'


def empty(text: str) -> str:
    """What stands where a result will be, as HTML."""
    return f'<p class="vt-empty">{html.escape(text)}</p>'


def hints(texts: Sequence[str]) -> str:
    """Sentences beside a result, one a paragraph, as HTML; those that are empty left out."""
    return "".join(f'<p class="vt-hint">{html.escape(text)}</p>' for text in texts if text)


def heading(text: str) -> str:
    """The head of a part of the page, as HTML."""
    return f'<h2 class="vt-heading">{html.escape(text)}</h2>'


def bars(rows: Sequence[tuple[str, float]], label: str, chosen: int | None = None) -> str:
    """Texts with a value 0..1 each, as horizontal bars in HTML, the first one large; nan is a value
    that is not there.

    Where ``chosen`` is given, each is a button with its ``data-index``, and that one is pressed.
    """
    lines = []
    for place, (text, value) in enumerate(rows):
        name = "vt-row vt-best" if place == 0 else "vt-row"
        tag, more = "div", ""
        if chosen is not None:
            tag, more = "button", (f' type="button" data-index="{place}" '
                                   f'aria-pressed="{str(place == chosen).lower()}"')
        lines.append(
            f'<li><{tag} class="{name}"{more}><span class="vt-what">{html.escape(text)}</span>'
            f'{bar(value)}</{tag}></li>')
    return f'<ol class="vt-bars" aria-label="{html.escape(label)}">{"".join(lines)}</ol>'


def bar(value: float) -> str:
    """A share 0..1 as a number and a bar; nan is one that is not there."""
    width = 0.0 if math.isnan(value) else 100 * min(1.0, max(0.0, value))
    return (f'<span class="vt-value">{percent(value)}</span><span class="vt-track" '
            f'aria-hidden="true"><span class="vt-fill" style="width:{width:.1f}%"></span></span>')


def progress(text: str, done: int, total: int) -> str:
    """A sentence and a bar; one that only moves where the end is not known."""
    ends = f' value="{done}" max="{total}"' if total else ""
    return (f'<div class="vt-report" role="status"><p>{html.escape(text)}</p>'
            f'<progress class="vt-progress"{ends}></progress></div>')


def report(sentences: Sequence[str], left_out: Sequence[str] = (),
           notes: Sequence[str] = ()) -> str:
    """Sentences, as HTML already, a list of what was left out and why, and notes on what was read
    though it is damaged."""
    lines = [f"<p>{sentence}</p>" for sentence in sentences]
    for reasons, what, state in ((left_out, "left_out", " open"), (notes, "noted", "")):
        if not reasons:
            continue
        more = len(reasons) - 50
        told = [*reasons[:50], *([phrase("gallery.more", count=more)] if more > 0 else [])]
        head = said(f"gallery.{what}", count=len(reasons))
        lines.append(f"<details{state}><summary>{head}</summary>"
                     f"<ul>{items(told)}</ul></details>")
    return f'<div class="vt-report" role="status">{"".join(lines)}</div>'


def _thumbnail_file(path: Path) -> str:
    """The address of a small copy of a picture file, on the page that Gradio serves.

    A data URL would be on the page once for each tab.

    Raises:
        PictureError: the file cannot be read.
    """
    small = save_bytes_to_cache(viewer.jpeg(open_small(path, THUMBNAIL), THUMBNAIL),
                                f"{path.stem}.jpg", str(uploads_root()))
    return html.escape(f"gradio_api/file={quote(small)}")


def thumbnails(paths: Sequence[Path], label: str, heading: bool = False) -> str:
    """Small pictures as buttons, in HTML; ``heading`` says whether the label is seen, too."""
    names = [html.escape(path.stem.replace("-", " ").replace("_", " ")) for path in paths]
    head = f'<p class="vt-heading">{html.escape(label)}</p>' if heading else ""
    return head + choices([f'<img src="{_thumbnail_file(path)}" alt="{name}">'
                           for path, name in zip(paths, names, strict=True)], label, "vt-thumbs",
                          titles=names)


def chips(texts: Sequence[str], label: str, chosen: int | None = None, other: str = "") -> str:
    """Short texts as buttons, in HTML: the ``chosen`` one pressed, ``other`` as the last one."""
    last = f'<button type="button" data-index="other">{html.escape(other)}</button>'
    return choices(list(map(html.escape, texts)), label, "vt-chips", chosen,
                   last=last if other else "")


def choices(shown: Sequence[str], label: str, css: str, chosen: int | None = None,
            titles: Sequence[str] = (), last: str = "") -> str:
    """A group of buttons with these in them, as HTML already, each with its ``data-index``."""
    items = []
    for index, inside in enumerate(shown):
        more = f' title="{titles[index]}"' if titles else ""
        if chosen is not None:
            more += f' aria-pressed="{str(index == chosen).lower()}"'
        items.append(f'<button type="button" data-index="{index}"{more}>{inside}</button>')
    return (f'<div class="{css}" role="group" aria-label="{html.escape(label)}">'
            f'{"".join(items)}{last}</div>')
