"""Search the other way round: which of several sentences fits a picture, and where."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Match
from vitdemo.retrieval.lines import rank_lines
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    MODEL,
    Context,
    PageValue,
    clickable_html,
    drop_refused,
    picture_input,
    place_of,
    read_picture,
    refusal,
    save_panel,
    viewer_output,
)
from vitdemo.ui.deep_links import Place, copy_button
from vitdemo.ui.downloads import build_downloads
from vitdemo.ui.line import LONG
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.turns import AT_ONCE, Panel, Turn
from vitdemo.ui.viewer_requests import check_after, tie_requests
from vitdemo.words import unread_notes

BUSY = {"show_progress": "minimal", **LONG}


def build_fits(context: Context) -> Place:
    """Lay out the tab and tie its handlers; gives what a link sets in it."""
    panel = Panel.of(Desk())
    with gr.Row(elem_classes="vt-columns"):
        with gr.Column(scale=5, min_width=300, elem_classes="vt-asks"):
            picture = picture_input(elem_id="fits-picture")
            sentences = gr.Textbox(
                label=phrase("fits.sentences"), lines=5, max_lines=12,
                placeholder=phrase("fits.example"), elem_id="fits-sentences")
            run = gr.Button(phrase("fits.run"), variant="primary", elem_id="fits-run")
        with gr.Column(scale=7, min_width=300):
            result = clickable_html(markup.empty(phrase("fits.start")), elem_id="fits-result")
            view = viewer_output("", "fits-view")
            place = Place("fits", "fits-view", panel, {"text": sentences})
            with save_panel("fits"):
                build_downloads(context, panel.state, picture, "fits")
                copy_button(place)
    _tie(context, place, (picture, run, result, view))
    return place


def _tie(context: Context, place: Place, parts: tuple[Any, ...]) -> None:
    picture, run, result, view = parts
    panel = place.panel
    ranked = gr.State(())  # the sentences on screen, best first
    refused = PageValue("")

    def finish(desk: Desk, photo: Picture, text: str) -> dict[str, Any]:
        return desk.finish(context.engine, photo, {"picture": viewer.display(photo)}, text, text,
                           checking=context.settings.check_at_once)

    def fits(desk: Desk, turn: Turn, request: gr.Request, path: str | None, text: str
             ) -> Iterator[tuple[Any, ...]]:
        photo = read_picture(path)
        lines = lines_of(text)
        yield markup.empty(phrase("fits.reading", count=len(lines))), {}, (), ""
        found = rank_lines(context.engine, photo, lines)
        explained = context.can("explain")
        table = match_bars(found, 0 if explained else None, len(lines))
        yield table, {}, found, ""
        if explained:
            yield table, finish(desk, photo, found[0].text), found, ""

    def take(desk: Desk, turn: Turn, request: gr.Request, path: str | None
             ) -> Iterator[tuple[Any, ...]]:
        yield markup.empty(phrase("fits.start")), {}, (), ""
        if path:
            read_picture(path)

    def choose(desk: Desk, turn: Turn, event: gr.EventData, path: str | None,
               found: Sequence[Match]) -> Iterator[tuple[Any, ...]]:
        place = place_of(event, len(found))
        if context.can("explain"):
            photo, text = read_picture(path), found[place].text
            yield match_bars(found, place), {"picture": viewer.display(photo), "writing": text}
            yield match_bars(found, place), finish(desk, photo, text)

    def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return markup.notice(error), {}, (), refusal(error, given[3])

    outputs = [result, view, ranked, refused]
    ran = panel.act(run.click, fits, [picture, place.fields["text"]], outputs, failed,
                    api_name="fits", **BUSY)
    given = panel.act([picture.input, picture.clear], take, [picture], outputs, failed, **AT_ONCE)
    chosen = panel.act(result.click, choose, [picture, ranked], [result, view],
                       lambda error, _: (gr.skip(), {"message": str(error)}),
                       **MODEL)
    for event in (ran, given):
        drop_refused(event, refused, picture)
    for event in (ran, chosen):
        check_after(context, event, view, panel, picture)
    tie_requests(context, view, panel, picture)


def lines_of(text: str) -> list[str]:
    """The sentences of a text, one on each line, empty lines left out.

    Raises:
        TextError: there is none, or there are too many.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise TextError("fits.none")
    if len(lines) > LIMITS.max_lines:
        raise TextError("fits.too_many", count=f"{len(lines):,}", most=f"{LIMITS.max_lines:,}")
    return lines


def match_bars(ranked: Sequence[Match], chosen: int | None = None, given: int = 0) -> str:
    """Sentences with how likely each one fits, as HTML; buttons where one is ``chosen``. Of
    ``given`` ones, where those are more, it says that the others are left out."""
    rows = [(match.text, match.score) for match in ranked]
    best = phrase("fits.best", count=len(rows), given=f"{given:,}") if given > len(rows) else ""
    choose = phrase("fits.choose") if chosen is not None and len(rows) > 1 else ""
    notes = markup.hints([best, choose, *unread_notes([match.text for match in ranked],
                                       [match.unread for match in ranked])])
    title = phrase("fits.title")
    return markup.heading(title) + notes + markup.bars(rows, title, chosen)
