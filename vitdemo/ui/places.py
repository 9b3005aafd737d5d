"""The button that copies a link to what is set in a tab, and what happens when one is opened."""

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.ui.controls import FIELDS
from vitdemo.ui.desk import Desk
from vitdemo.ui.link import TASKS, View, chosen_of, query_of, read_query
from vitdemo.ui.parts import QUIET, Context
from vitdemo.ui.search_link import search_of, settings_of
from vitdemo.ui.turns import Panel

# Reads what the viewer shows and where the page lies, for the handler; `view` is filled in.
READ_PAGE = """(chosen, address, ...fields) => [
  document.querySelector("#%s .vd-viewer")?.dataset.chosen ?? "",
  window.location.origin + window.location.pathname, ...fields]"""
# The address is shown as well, as not every browser lets a page write to the clipboard.
COPY = """(link) => { if (link) navigator.clipboard?.writeText(link).catch(() => {}); }"""


@dataclass(frozen=True)
class Place:
    """The fields of one tab that a link sets. ``view`` is the viewer's element id."""

    task: str
    view: str
    text: gr.Textbox
    panel: Panel
    language: gr.Radio | None = None
    controls: tuple[Any, ...] = ()
    settings: tuple[Any, ...] = ()  # of a search, in the order of `SEARCH`
    go: gr.State | None = None  # changes where a link asks for something to be run


def copy_button(place: Place) -> None:
    """Lay out "Copy a link to this view" and tie it."""
    button = gr.Button("Copy a link to this view", size="sm", elem_id=f"{place.task}-copy",
                       elem_classes="vt-copy")
    # Not shown: they carry what only the browser knows into the handler.
    chosen, address = gr.Textbox(visible=False), gr.Textbox(visible=False)
    link = gr.Textbox(label="Link, copied (without the picture)", visible=False, lines=1,
                      max_lines=3, interactive=False, buttons=["copy"],
                      elem_id=f"{place.task}-link")

    def make(chosen: str, address: str, text: str, *fields: Any) -> Any:
        fields = fields if place.language is not None else ("", *fields)
        end = len(fields) - len(place.settings)
        url, note = link_to(address, place.task, chosen, text, str(fields[0] or ""),
                            fields[1:end], fields[end:])
        return gr.update(value=url, visible=True, label="Link, copied (without the picture)" + note)

    inputs = [chosen, address, place.text, *([place.language] if place.language else []),
              *place.controls, *place.settings]
    made = button.click(make, inputs, link, js=READ_PAGE % place.view, **QUIET)
    made.then(None, link, None, js=COPY)


def link_to(address: str, task: str, chosen: str, text: str, language: str,
            controls: Sequence[Any], settings: Sequence[Any] = ()) -> tuple[str, str]:
    """The link to what is set, and a remark on what it leaves out."""
    long = len(text) > LIMITS.max_text_characters
    decoding = dict(zip(FIELDS, controls, strict=True)) if controls else {}
    view = View(task, "" if long else text.strip(), language, decoding, chosen_of(chosen),
                search_of(settings) if settings else {})
    return f"{address}?{query_of(view)}", "; the text is too long for a link" if long else ""


def open_links(context: Context, blocks: gr.Blocks, places: Sequence[Place], tabs: gr.Tabs,
               inner: gr.Tabs, notice: gr.HTML) -> None:
    """Set the tab, its fields and the viewer's first choice from the page's address."""
    desks = [place.panel.state for place in places]
    fields = [field for place in places for field in _fields(place)]

    def opened(request: gr.Request, *held: Desk) -> list[Any]:
        view, complaints = read_query(dict(request.query_params or {}),
                                      context.engine.info.languages, context.engine.methods)
        chosen, within = TASKS.get(view.task or "describe", ("describe", ""))
        updates: list[Any] = [gr.update(selected=chosen) if view.task else gr.skip(),
                              gr.update(selected=within) if within else gr.skip(),
                              complaint(complaints)]
        for place, desk in zip(places, held, strict=True):
            mine = place.task == (view.task or "describe")
            if mine:
                desk.wanted = dict(view.choice)
            updates += _updates(place, view) if mine else [gr.skip()] * len(_fields(place))
        return updates

    blocks.load(opened, desks, [tabs, inner, notice, *fields], **QUIET)


def _fields(place: Place) -> list[Any]:
    return [place.text, *([place.language] if place.language else []), *place.controls,
            *place.settings, *([place.go] if place.go is not None else [])]


def _updates(place: Place, view: View) -> list[Any]:
    """New values for the fields of a place, in the order of `_fields`."""
    values = [view.text] + ([view.language] if place.language else [])
    found: list[Any] = [value or gr.skip() for value in values]
    if place.controls:
        found += [view.decoding.get(name, gr.skip()) for name in FIELDS]
    if place.settings:
        found += settings_of(view.search, place.settings[0])
    if place.go is not None:
        found.append(time.time() if view.text else gr.skip())
    return found


def complaint(sentences: Sequence[str]) -> str:
    """What could not be had of a link, as HTML."""
    items = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="vt-linked" role="status">{items}</div>' if items else ""
