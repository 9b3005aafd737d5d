"""The hits of a search as HTML, and what a click on them tells."""

import base64
import html
import math

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import BusyError, PictureError
from vitdemo.overlay import percent
from vitdemo.records import Hit
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.metadata import told_day
from vitdemo.retrieval.rerank import BEST
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.texts import joined, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import html_output
from vitdemo.ui.search.state import HitList
from vitdemo.video import called

FIRST = 12  # thumbnails that are waited for before anything is shown
# A hit is told by its id: its place may have changed since. What a click opens is there at once.
CLICKS = """
const acts = ["why", "versus", "like", "unfold", "undate", "accept"];
element.addEventListener("click", (event) => {
  const { act, id = "" } = event.target.closest("[data-act]")?.dataset ?? {};
  if (!acts.includes(act)) return;
  if (act === "why" || act === "versus") {
    const hits = [...element.querySelectorAll("button.vt-hit")];
    const chosen = hits.find((hit) => hit.dataset.id === id);
    if (act === "why") for (const hit of hits) hit.ariaPressed = String(hit === chosen);
    document.dispatchEvent(new CustomEvent("vt-sheet", { detail: { shows: act, chosen } }));
  }
  trigger(act, { id });
});
// On a phone the fields stand above the hits: a new search leads to them.
let told = "";
watch("value", () => {
  const words = element.querySelector(".vt-understood")?.textContent ?? "";
  if (words && words !== told && element.getBoundingClientRect().top > window.innerHeight * 0.8) {
    document.querySelector("#search-bar")?.scrollIntoView({ block: "start" });
  }
  told = words;
});
"""


def hits_output(value: str, elem_id: str) -> gr.HTML:
    """A place for hits; its events ``why``, ``like``, ``versus`` and ``unfold`` carry the hit's id,
    ``accept`` and ``undate`` nothing."""
    return html_output(value, elem_id, js_on_load=CLICKS)


def page_html(hits: HitList, thumbnails: Thumbnails, why: bool, versus: bool,
              only: int = 0) -> str:
    """One page of hits with how the search was understood. ``why`` and ``versus`` say whether hits
    can be explained and compared. Where ``only`` is given, as many thumbnails are made and a grey
    place stands for the others."""
    groups = hits.shown()
    asked = "".join(f"<span> · {html.escape(one)}</span>" for one in filters_told(hits.filters))
    date = (f'<button type="button" class="vt-chip" data-act="undate" '
            f'title="{markup.said("search.hits.undate")}">{hits.query.date} '
            '<span aria-hidden="true">×</span></button>') if hits.query.date else ""
    told = markup.said("search.hits.looked_for", what=hits.query.understood())
    parts = [f'<p class="vt-understood"><span>{told}</span>{date}{asked}</p>',
             markup.hints(hits.missed)]
    if not groups:
        key = "search.hits.none_fits_filters" if hits.filters else "search.hits.no_pictures"
        return "".join(parts) + f'<p class="vt-empty">{markup.said(key)}</p>'
    first = (hits.page - 1) * hits.wish.size + 1
    order = joined((_order(hits, first, len(groups)),
                    phrase("search.hits.older") if hits.lacks_texts() else ""))
    parts.append(f'<p class="vt-hint">{html.escape(order)}</p>')
    made = thumbnails.many([group[0].path for group in groups[:only or len(groups)]])
    images: list[bytes | PictureError | None] = [*made, *[None] * (len(groups) - len(made))]
    dated = bool(hits.wish.newest or hits.query.date or hits.filters.after or hits.filters.before)
    items = [_item(group, image, hits.chosen == group[0].id, why, versus and place > 1, dated)
             for place, (group, image) in enumerate(zip(groups, images, strict=True), first)]
    return f'{"".join(parts)}<ol class="vt-hits" start="{first}">{"".join(items)}</ol>'


def _item(group: list[Hit], image: bytes | PictureError | None, chosen: bool, why: bool,
          versus: bool, dated: bool) -> str:
    """``dated`` says whether days matter here: else that of a file, which copying changes, is not
    shown."""
    hit = group[0]
    copied = hit.metadata.get("dated") in ("file", "modified")
    day = "" if copied and not dated else told_day(hit.metadata)
    name, id_ = html.escape(called(hit.path)), html.escape(hit.id)
    tag = "button" if why else "div"
    pressed = f' type="button" aria-pressed="{str(chosen).lower()}"' if why else ""
    acts = _act(id_, "like")
    if versus:
        acts += _act(id_, "versus")
    if len(group) > 1:
        acts += _act(id_, "unfold", count=len(group) - 1)
    return (f'<li><{tag} class="vt-hit" data-id="{id_}" data-act="why"{pressed}>'
            f'{image_html(image, name)}<span class="vt-name" title="{name}">{name}</span>'
            f'<span class="vt-small vt-day">{html.escape(day)}</span>{_scores(hit)}</{tag}>'
            f'<div class="vt-acts">{acts}</div></li>')


def _scores(hit: Hit) -> str:
    """How near it is and, where that is known, whether it fits, each with its label."""
    near = markup.said("search.hits.similarity", value=f"{hit.score:.2f}")
    about = markup.said("search.hits.similarity_about")
    parts = f'<span title="{about}">{near}</span>'
    if not math.isnan(hit.match):
        key = {True: "fits", False: "fits_less", None: "match"}[hit.fits]
        about = markup.said("search.hits.match_about", percent=percent(hit.match))
        fits = markup.said(f"search.hits.{key}", percent=percent(hit.match))
        parts += f'<span class="vt-{key}" title="{about}">{fits}</span>'
    if hit.told > 0:
        parts += f'<span class="vt-fits">{markup.said("search.hits.told")}</span>'
    return f'<span class="vt-score">{parts}</span>'


def _act(id_: str, act: str, **values: object) -> str:
    text = markup.said(f"search.hits.{act}", **values)
    return (f'<button type="button" class="vt-act" data-id="{id_}" data-act="{act}">{text}'
            "</button>")


def image_html(image: bytes | PictureError | None, name: str) -> str:
    """A thumbnail, or what stands in its place; None is one that is still to come."""
    if image is None:
        return '<span class="vt-gone" aria-hidden="true"></span>'
    if isinstance(image, PictureError):  # deleted or changed since it was indexed, or no memory
        key = "search.hits.no_memory" if isinstance(image, BusyError) else "search.hits.gone"
        return f'<span class="vt-gone">{markup.said(key)}</span>'
    data = base64.b64encode(image).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'


def filters_told(asked: Filters) -> list[str]:
    """What was asked for beside the words, for a person."""
    told = [phrase("search.filter.folder", folder=asked.folder)] if asked.folder else []
    if asked.after or asked.before:
        told.append(asked.after if asked.after == asked.before else phrase(
            "search.filter.days", first=asked.after or "…", last=asked.before or "…"))
    for side, low, high in (("width", asked.min_width, asked.max_width),
                            ("height", asked.min_height, asked.max_height)):
        if low or high:
            told.append(phrase(f"search.filter.{side}", low=low or 0, high=high or "…"))
    if asked.orientation:
        told.append(phrase(f"search.form.{asked.orientation}"))
    return told + ([asked.camera] if asked.camera else [])


def _order(hits: HitList, first: int, count: int) -> str:
    """How many are shown, and in which order."""
    if hits.page == 1 and not hits.more():
        key = "all"
    else:
        key = "first" if hits.page == 1 else "some"
    told = phrase(f"search.hits.{key}", count=count, first=first, last=first + count - 1)
    if hits.wish.newest:
        order = phrase("search.hits.by_day", count=BEST)
    elif not hits.query.terms:
        order = phrase("search.hits.by_looks")
    else:
        order = phrase("search.hits.by_both" if hits.accepted else "search.hits.by_words")
    return joined((told, order))


def verdict_html(hits: HitList) -> str:
    """What the second look found: whether anything fits, and whether hits would change places."""
    fitting, moved = hits.fitting(), hits.moved()
    parts = []
    if fitting is not None:
        words = phrase("search.hits.fitting", count=fitting) if fitting else phrase(
            "search.hits.nothing_fits", words=hits.query.sentence)
        parts.append(f"<strong>{html.escape(words)}</strong>" if not fitting else
                     html.escape(words))
    if moved and fitting != 0:  # of what does not fit no order is better
        parts.append('<button type="button" class="vt-chip" data-act="accept">'
                     f'{markup.said("search.hits.moved", count=moved)}</button>')
    return f'<p class="vt-hint" role="status">{" ".join(parts)}</p>' if parts else ""


def pager_text(hits: HitList) -> str:
    """Which page is shown."""
    if not hits.groups or (hits.page == 1 and not hits.more()):
        return ""
    last = hits.page * hits.wish.size >= LIMITS.max_hits
    text = phrase("search.hits.last_page" if last else "search.hits.page", page=hits.page,
                  most=f"{LIMITS.max_hits:,}")
    return f'<span class="vt-page">{html.escape(text)}</span>'
