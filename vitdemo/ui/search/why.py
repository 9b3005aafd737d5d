"""Why this hit, and why not that one: maps of the words, and each word's part in the score."""

import html
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.overlay import percent
from vitdemo.preprocess import open_picture, open_pictures
from vitdemo.records import Hit
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.text_words import said_of
from vitdemo.retrieval.why import Why, WhyNot, why, why_not
from vitdemo.texts import joined, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    MODEL,
    Context,
    PageValue,
    carried,
    compare_output,
    drop_refused,
    html_output,
    refusal,
    uploaded,
    viewer_output,
)
from vitdemo.ui.search.film import Film, build_film, film_html, tie_film
from vitdemo.ui.search.sheet import note, sheet_head
from vitdemo.ui.search.state import HitList, Search
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.turns import Panel, Turn, Turns
from vitdemo.ui.viewer_requests import check_after, tie_requests
from vitdemo.video import called
from vitdemo.wanted import NotWanted


@dataclass(frozen=True)
class Views:
    """What the sheet shows. ``path`` is that of the picture whose maps are on it."""

    head: gr.HTML
    view: gr.HTML
    film: Film
    parts: gr.HTML
    desk: Panel
    path: gr.State
    versus_panel: Panel
    versus: gr.HTML
    verdict: gr.HTML

    @property
    def cleared(self) -> list[Any]:
        """What a new search empties."""
        return [self.view, self.parts, self.versus, self.verdict, *self.film.cleared]

    def empty(self) -> tuple[Any, ...]:
        """What it is then."""
        return {}, "", {}, "", "", ""


def build_why(context: Context, desk: Panel) -> Views:
    """Lay them out; within the sheet. ``desk`` keeps the result on it."""
    head = sheet_head()
    view = viewer_output("", "search-view")
    film = build_film()
    parts = html_output(elem_id="search-parts")
    verdict = html_output(elem_id="search-verdict")
    versus = compare_output("search-versus", visible=context.can("match", "explain"))
    return Views(head, view, film, parts, desk, gr.State(""), Panel.of(Turns()), versus,
                 verdict)


def tie_why(context: Context, search: gr.State, hits: gr.HTML, expected: Any, views: Views,
            page: Callable[[HitList], str]) -> None:
    """Tie clicks on hits, and the picture that was expected. ``page`` is the hits' HTML."""
    engine, panel = context.engine, views.desk

    def explain(desk: Desk, turn: Turn, event: gr.EventData, held: Search, strips: Turns
                ) -> Iterator[tuple[Any, ...]]:
        with suppress(NotWanted):  # a strip that is being made is of another hit
            strips.begin(turn.number)
        found = held.list
        hit = found.hit(carried(event).get("id"))
        found.chosen = hit.id
        photo = open_picture(hit.path, name=called(hit.path))
        sentence = found.query.sentence
        shown: dict[str, Any] = {"picture": viewer.display(photo)}
        if sentence and context.can("match", "explain"):
            yield {**shown, "writing": sentence}, "", "", gr.skip(), "", ""
            shown = desk.finish(engine, photo, shown, sentence, sentence,
                                checking=context.settings.check_at_once)
        elif not sentence:
            shown["reason"] = phrase("search.why.no_words")
        parts = parts_html(why(engine, found.query, [photo])[0], hit)
        said = said_html(found.query, hit, folders=not context.settings.shared)
        yield (shown, said + parts, hit.path, note(),
               film_html(context, hit.path, sentence), "")

    def beside_hit(versus: Turns, turn: Turn, event: gr.EventData, held: Search
                   ) -> Iterator[tuple[Any, ...]]:
        other = held.list.hit(carried(event).get("id"))
        yield {}, "", gr.skip(), ""
        yield *beside(context, held.list, other.path), note(), ""

    def beside_upload(versus: Turns, turn: Turn, request: gr.Request, other: str | None,
                      held: Search) -> Iterator[tuple[Any, ...]]:
        if other:  # emptying the field is an input, too
            yield {}, "", note(phrase("search.sheet.comparing"), shows="versus",
                               title=os.path.basename(other)), ""
            yield *beside(context, held.list, uploaded(other)), note(), ""

    explained = panel.act(hits.why, explain, [search, views.film.panel.state],
                          [views.view, views.parts, views.path, views.head, *views.film.cleared],
                          lambda error, _: ({"message": str(error)}, "", "", note(), "", ""),
                          **MODEL)
    tie_film(context, views.film, views.path, search)
    check_after(context, explained, views.view, panel, views.path)
    tie_requests(context, views.view, panel, views.path)
    refused = PageValue("")
    outputs = [views.versus, views.verdict, views.head, refused]
    views.versus_panel.act(hits.versus, beside_hit, [search], outputs,
                           lambda error, _: ({}, markup.notice(error), note(), ""), **MODEL)
    given = views.versus_panel.act(
        expected.input, beside_upload, [expected, search], outputs,
        lambda error, given: ({}, markup.notice(error), note(), refusal(error, given[3])),
        **MODEL)
    drop_refused(given, refused, expected)


def beside(context: Context, found: HitList, path: str) -> tuple[dict[str, Any], str]:
    """The chosen hit, or else the first, beside another picture file: the comparing viewer's
    payload, and the verdict as HTML.

    Raises:
        StoreError: nothing was searched for yet.
        PictureError: one of them cannot be used.
    """
    ranked = found.ranked()
    best = found.hit(found.chosen or (ranked[0].id if ranked else ""))
    assert found.gallery is not None
    photo, other = open_pictures([best.path, path])
    compared = why_not(found.gallery, found.query, found.filters, photo, other, path)
    name = os.path.basename(path)
    said = verdict_html(compared, best, name)
    sentence = found.query.sentence
    if not (sentence and context.can("match", "explain")):
        return {"hint": phrase("search.why.no_words")}, said
    sides = []
    hit_name = phrase("search.why.hit", name=called(best.path))
    for picture, title in ((photo, hit_name), (other, name)):
        maps = context.engine.explain(picture, sentence)
        model = context.engine.info.doing("match").name
        sides.append({**viewer.payload(maps, picture, model), "name": title,
                      "asks": []})  # nothing here is on a desk to be checked
    return {"left": sides[0], "right": sides[1]}, said


def parts_html(found: Why, hit: Hit) -> str:
    """Each word's part in a hit's score, as bars to the left or right of zero."""
    rows = []
    most = max((abs(part.loss) for part in found.parts if not math.isnan(part.loss)), default=1.0)
    for part in found.parts:
        rows.append(_row(_name(part.text, part.weight), _signed(part.loss), part.loss, most))
    head = markup.said("search.why.parts", score=f"{found.score:.3f}")
    match = "" if math.isnan(hit.match) else phrase("search.why.match",
                                                    percent=percent(hit.match))
    about = html.escape(joined((phrase("search.why.about"), match)))
    return (f'<details class="vt-parts"><summary>{head}</summary>'
            f'<ul class="vt-bars">{"".join(rows)}</ul><p class="vt-hint">{about}</p></details>')


def said_html(query: Query, hit: Hit, folders: bool = True) -> str:
    """What of the words stands in what is written about a hit, each once and with its place; the
    names of folders only where ``folders`` says so."""
    said = said_of([word for word in query.words if word.weight > 0], hit.path, hit.metadata)
    lines = markup.items(phrase(f"search.why.{one.source}", text=one.text)
                         for one in dict.fromkeys(said) if folders or one.source != "folder")
    return f'<ul class="vt-said">{lines}</ul>' if lines else ""


def _row(name: str, said: str, loss: float, most: float) -> str:
    width = 0.0 if math.isnan(loss) else 50 * abs(loss) / (most or 1.0)
    left = 50.0 if loss >= 0 or math.isnan(loss) else 50 - width
    kind = "vt-for" if loss >= 0 else "vt-against"
    return (f'<li class="vt-row"><span class="vt-what">{html.escape(name)}</span>'
            f'<span class="vt-value">{said}</span><span class="vt-track vt-middle" '
            f'aria-hidden="true"><span class="vt-fill {kind}" style="margin-left:{left:.1f}%;'
            f'width:{width:.1f}%"></span></span></li>')


def _name(text: str, weight: float) -> str:
    if weight == 1:
        return text
    return f"{'−' if weight < 0 else '+'}{f'{abs(weight):g} × ' if abs(weight) != 1 else ''}{text}"


def verdict_html(found: WhyNot, best: Hit, name: str) -> str:
    """What sets the other picture apart from the hit, in words and in a table."""
    if not found.held:
        where = phrase("search.why.not_held", name=name)
    elif found.misfits:
        where = phrase("search.why.left_out", name=name, reasons="; ".join(map(str, found.misfits)))
    elif found.place:
        where = phrase("search.why.place", name=name, place=f"{found.place:,}")
    else:
        where = phrase("search.why.far", name=name, count=f"{found.looked:,}")
    gap = found.hit.score - found.other.score
    key = "same" if abs(gap) < 0.0005 else "less" if gap > 0 else "more"
    compared = phrase(f"search.why.{key}", score=f"{found.other.score:.3f}", gap=f"{abs(gap):.3f}")
    rows = [(_name(ours.text, ours.weight), _signed(ours.loss), _signed(theirs.loss))
            for ours, theirs in zip(found.hit.parts, found.other.parts, strict=True)]
    rows.append((phrase("search.why.score"), f"{found.hit.score:.3f}",
                 f"{found.other.score:.3f}"))
    body = "".join(f'<tr><th scope="row" class="vt-first">{html.escape(what)}</th><td>{ours}</td>'
                   f"<td>{theirs}</td></tr>" for what, ours, theirs in rows)
    return (f'<section class="vt-parts" role="status"><p>{html.escape(where)} '
            f'{html.escape(compared)}</p>'
            '<table class="vt-table"><thead><tr><th scope="col" class="vt-first">'
            f'{markup.said("search.why.part")}</th>'
            f'<th scope="col">{html.escape(called(best.path))}</th>'
            f'<th scope="col">{html.escape(name)}</th></tr></thead><tbody>{body}</tbody></table>'
            "</section>")


def _signed(loss: float) -> str:
    if math.isnan(loss):
        return markup.said("search.why.all")
    return f"{'+' if loss >= 0 else '−'}{abs(loss):.3f}"
