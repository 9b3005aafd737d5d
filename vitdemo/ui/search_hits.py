"""The hits of a search as HTML, and what a click on them tells."""

import base64
import html
import math
import os

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import BusyError, PictureError
from vitdemo.records import Hit
from vitdemo.retrieval.duplicates import Groups
from vitdemo.retrieval.metadata import told_day
from vitdemo.retrieval.rerank import BEST
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.ui.albums import number
from vitdemo.ui.finding import Finding
from vitdemo.ui.parts import hints, percent

FIRST = 12  # thumbnails that are waited for before anything is shown
GROUPS_SHOWN = 40
WHY = "Choose a picture to see where it fits your words."
# A hit is told by its id: its place may have changed since.
CLICKS = """
element.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-id]");
  if (!chosen) return;
  if (chosen.dataset.act === "why") {
    for (const one of element.querySelectorAll("button.vt-hit")) {
      one.ariaPressed = String(one === chosen);
    }
  }
  const detail = { id: chosen.dataset.id };
  if (chosen.dataset.act === "why") trigger("why", detail);
  else if (chosen.dataset.act === "like") trigger("like", detail);
  else trigger("versus", detail);
});
"""


def hits_output(value: str, elem_id: str) -> gr.HTML:
    """A place for hits; its events ``why``, ``like`` and ``versus`` carry the hit's id."""
    return gr.HTML(value=value, js_on_load=CLICKS, apply_default_css=False, elem_id=elem_id)


def page_html(finding: Finding, thumbnails: Thumbnails, why: bool, versus: bool,
              only: int = 0) -> str:
    """One page of hits with how the search was understood. ``why`` and ``versus`` say whether hits
    can be explained and compared. Where ``only`` is given, as many thumbnails are made and a grey
    place stands for the others."""
    shown = finding.shown()
    said = [f'<p class="vt-understood">Looked for: {html.escape(finding.query.understood())}'
            f'{html.escape(_where(finding))}</p>', hints(finding.missed)]
    if not shown:
        nothing = ("No picture fits these conditions. Loosen them under “Only pictures that …”."
                   if finding.filters else "There are no pictures here yet.")
        return "".join(said) + f'<p class="vt-empty">{nothing}</p>'
    first = (finding.page - 1) * finding.size + 1
    told = [_count(finding, first, len(shown)), _order(finding, first), WHY if why else ""]
    said.append(f'<p class="vt-hint">{" ".join(filter(None, told))}</p>')
    made = thumbnails.many([hit.path for hit in shown[:only or len(shown)]])
    waiting: list[bytes | PictureError | None] = [*made, *[None] * (len(shown) - len(made))]
    items = [_item(hit, image, finding.chosen == hit.id, why, versus and place > 1)
             for place, (hit, image) in enumerate(zip(shown, waiting, strict=True), first)]
    return (f'{"".join(said)}<ol class="vt-hits" start="{first}">{"".join(items)}</ol>')


def _item(hit: Hit, image: bytes | PictureError | None, chosen: bool, why: bool,
          versus: bool) -> str:
    name, id_ = html.escape(os.path.basename(hit.path)), html.escape(hit.id)
    score = f"{hit.score:.3f}"
    told = "How near it is to your words, from -1 to 1"
    if not math.isnan(hit.match):
        score += f" · {percent(hit.match)}"
        told += "; then how likely the words fit, by a second look"
    button = "button" if why else "div"
    pressed = f' type="button" aria-pressed="{str(chosen).lower()}"' if why else ""
    acts = (f'<button type="button" class="vt-act" data-id="{id_}" data-act="like">More like this'
            "</button>")
    if versus:
        acts += (f'<button type="button" class="vt-act" data-id="{id_}" data-act="versus" '
                 'title="Compare it with the chosen one, or else with the first">Why not this one?'
                 "</button>")
    return (f'<li><{button} class="vt-hit" data-id="{id_}" data-act="why"{pressed}>'
            f'{_image(image, name)}<span class="vt-name" title="{name}">{name}</span>'
            f'<span class="vt-small vt-day">{html.escape(told_day(hit.metadata))}</span>'
            f'<span class="vt-score" title="{told}">{score}</span></{button}>'
            f'<div class="vt-acts">{acts}</div></li>')


def _image(image: bytes | PictureError | None, name: str) -> str:
    if image is None:
        return '<span class="vt-gone" aria-hidden="true"></span>'
    if isinstance(image, BusyError):
        return '<span class="vt-gone">not shown for want of memory: search again</span>'
    if isinstance(image, PictureError):  # deleted or changed since it was indexed
        return '<span class="vt-gone">no longer there</span>'
    return f'<img src="{data_url(image)}" alt="{name}">'


def data_url(jpeg: bytes) -> str:
    """A JPEG for an <img>."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _where(finding: Finding) -> str:
    """What was asked for beside the words."""
    asked = finding.filters
    told = [f"in {asked.folder}"] if asked.folder else []
    if asked.after or asked.before:
        told.append(f"{asked.after or '…'} to {asked.before or '…'}")
    for side, low, high in (("wide", asked.min_width, asked.max_width),
                            ("high", asked.min_height, asked.max_height)):
        if low or high:
            told.append(f"{low or 0} to {high or '…'} pixels {side}")
    told += [value for value in (asked.orientation, asked.camera) if value]
    return "".join(f"; {one}" for one in told)


def _count(finding: Finding, first: int, count: int) -> str:
    if finding.page == 1 and not finding.more():
        return "The only picture there." if count == 1 else f"All {count:,}, the best first."
    if finding.page == 1:
        return f"The best {count}."
    return f"Pictures {first:,} to {first + count - 1:,}."


def _order(finding: Finding, first: int) -> str:
    if not finding.query.terms:
        return "Each with how much it looks like the picture (1 is most)."
    if finding.second and finding.head and first <= BEST:
        return ("Each with how near it is to your words (1 is best) and, after a second look at "
                f"the best {len(finding.head)}, how likely they fit; the order is by both.")
    return "Each with how near it is to your words (1 is best); the order is by that alone."


def pager_text(finding: Finding) -> str:
    """Which page is shown."""
    if not finding.hits or (finding.page == 1 and not finding.more()):
        return ""
    last = finding.page * finding.size >= LIMITS.max_hits
    end = f" – the last: no more than {LIMITS.max_hits:,} are listed" if last else ""
    return f'<span class="vt-page">Page {finding.page}{end}</span>'


def groups_html(found: Groups, thumbnails: Thumbnails, paths: bool = True) -> str:
    """Groups of almost the same pictures, the one to keep first. Without ``paths`` only the names
    of the files are told."""
    copies = sum(len(group.pictures) - 1 for group in found.groups)
    said = [f"{number(len(found.groups), 'group')} of almost the same pictures among "
            f"{found.compared:,}; {copies:,} could go." if found.groups else
            f"No two of {number(found.compared, 'picture')} are almost the same."]
    if found.more:
        said.append("There are more pictures than are compared at once: choose a folder or dates "
                    "under “Only pictures that …” and look again.")
    if found.gone:
        said.append(f"{number(found.gone, 'picture')} could not be opened any more.")
    if found.groups:
        said.append("Nothing is deleted here; that is for you to do.")
    parts = [f'<p class="vt-hint" role="status">{" ".join(said)}</p>']
    for group in found.groups[:GROUPS_SHOWN]:
        images = thumbnails.many([twin.path for twin in group.pictures])
        items = []
        for place, (twin, image) in enumerate(zip(group.pictures, images, strict=True)):
            name = html.escape(os.path.basename(twin.path))
            mark = f"<strong>Keep.</strong> {html.escape(group.reason)}" if place == 0 else (
                f"{twin.cosine:.3f} alike, {twin.distance} of 64 bits differ")
            title = html.escape(twin.path) if paths else name
            items.append(
                f'<li class="vt-twin">{_image(image, name)}<span class="vt-name" '
                f'title="{title}">{name}</span><span class="vt-small">'
                f"{twin.width} x {twin.height}, {twin.bytes / 1e6:.1f} MB"
                f'{f", {twin.day}" if twin.day else ""}<br>{mark}</span></li>')
        parts.append(f'<ul class="vt-hits vt-twins">{"".join(items)}</ul>')
    if len(found.groups) > GROUPS_SHOWN:
        parts.append(f'<p class="vt-hint">The largest {GROUPS_SHOWN} groups are shown.</p>')
    return "".join(parts)
