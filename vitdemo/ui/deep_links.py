"""The button that copies a link to what is set in a tab, and what happens when one is opened."""

import filecmp
import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.texts import phrase
from vitdemo.ui.components import QUIET, Context, PageValue
from vitdemo.ui.controls import FIELDS
from vitdemo.ui.link import TASKS, View, chosen_of, query_of, read_query
from vitdemo.ui.search.link import search_of, settings_of
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.turns import Panel

# Reads what the viewer shows and where the page lies, for the handler; `view` is filled in.
READ_PAGE = """(chosen, address, ...fields) => {
  const viewer = document.querySelector("#%s .vd-viewer");
  const said = viewer?.querySelector(".vd-word[aria-pressed='true']")?.textContent ?? "";
  const stated = { said, ...JSON.parse(viewer?.dataset.chosen || "{}") };
  return [JSON.stringify(stated), location.origin + location.pathname, ...fields];
}"""
# The address is shown as well, as not every browser lets a page write to the clipboard.
# A link to an example does what a person would do: choose the example, then ask.
OPEN = """async (name, index, asks) => {
  if (index < 0) return;
  const wait = async (selector) => {
    for (let tries = 0; tries < 200; tries++) {
      const there = document.querySelector(selector);
      if (there) return there;
      await new Promise((done) => setTimeout(done, 50));
    }
    return null;
  };
  (await wait(`#${name}-examples [data-index="${index}"]`))?.click();
  if (asks && await wait(`#${name}-view .vd-photo[src]`)) (await wait(`#${name}-run`))?.click();
}"""
COPY = """(link) => { if (link) navigator.clipboard?.writeText(link).catch(() => {}); }"""


PICTURED = ("describe", "ask")  # tasks about a picture that a link can open


@dataclass(frozen=True)
class Place:
    """The fields of one tab that a link sets. ``view`` is the viewer's element id, ``picture`` the
    field of the picture that it is about, which only a link to an example carries."""

    task: str
    view: str
    text: gr.Textbox
    panel: Panel
    language: gr.Radio | None = None
    controls: tuple[Any, ...] = ()
    settings: tuple[Any, ...] = ()  # of a search, in the order of `SEARCH`
    go: gr.State | None = None  # changes where a link asks for something to be run
    picture: gr.Image | None = None


def copy_button(place: Place, examples: Sequence[Path] = ()) -> None:
    """Lay out "Copy a link to this view" and tie it."""
    button = gr.Button(phrase("link.copy"), size="sm", elem_id=f"{place.task}-copy",
                       elem_classes="vt-copy")
    # Not shown: they carry what only the browser knows into the handler.
    chosen, address = gr.Textbox(visible=False), gr.Textbox(visible=False)
    link = gr.Textbox(label=phrase("link.copied"), visible=False, lines=1,
                      max_lines=3, interactive=False, buttons=["copy"],
                      elem_id=f"{place.task}-link")

    def make(chosen: str, address: str, picture: str | None, text: str, *fields: Any) -> Any:
        fields = fields if place.language is not None else ("", *fields)
        end = len(fields) - len(place.settings)
        url, label = link_to(address, place.task, chosen, text, str(fields[0] or ""),
                             fields[1:end], fields[end:], example_of(picture, examples))
        return gr.update(value=url, visible=True, label=label)

    inputs = [chosen, address, place.picture or chosen, place.text,
              *([place.language] if place.language else []), *place.controls, *place.settings]
    made = button.click(make, inputs, link, js=READ_PAGE % place.view, **QUIET)
    made.then(None, link, None, js=COPY)


def example_of(path: str | None, examples: Sequence[Path]) -> str:
    """The name of the example that a field's picture is a copy of; "" where it is none."""
    file = Path(path or "")
    return next((one.stem for one in examples if one.name == file.name and file.is_file()
                 and filecmp.cmp(one, file, shallow=False)), "")


def link_to(address: str, task: str, chosen: str, text: str, language: str,
            controls: Sequence[Any], settings: Sequence[Any] = (),
            example: str = "") -> tuple[str, str]:
    """The link to what is set, and a sentence on what it carries."""
    long = len(text) > LIMITS.max_text_characters
    decoding = dict(zip(FIELDS, controls, strict=True)) if controls else {}
    view = View(task, "" if long else text.strip(), language, example, decoding,
                chosen_of(chosen), search_of(settings) if settings else {})
    label = "link.copied_short" if long else "link.copied_whole" if example else "link.copied"
    return f"{address}?{query_of(view)}", phrase(label)


def open_links(context: Context, blocks: gr.Blocks, places: Sequence[Place], tabs: gr.Tabs,
               inner: gr.Tabs, notice: gr.HTML) -> None:
    """Set the tab, its fields and the viewer's first choice from the page's address."""
    names = [path.stem for path in context.examples]
    desks = [place.panel.state for place in places]
    acts = PageValue(""), PageValue(-1), PageValue(False)  # for `OPEN`
    fields = [field for place in places for field in _fields(place)]

    def opened(request: gr.Request, *held: Desk) -> list[Any]:
        view, complaints = read_query(dict(request.query_params or {}),
                                      context.engine.info.languages, context.engine.methods,
                                      names)
        chosen, within = TASKS.get(view.task or "describe", ("describe", ""))
        if view.task in PICTURED and not view.example:
            complaints.append(needs_picture(view))
        index = names.index(view.example) if view.example and view.task in PICTURED else -1
        updates: list[Any] = [gr.update(selected=chosen) if view.task else gr.skip(),
                              gr.update(selected=within) if within else gr.skip(),
                              complaint(complaints), view.task, index,
                              view.task == "ask" and bool(view.text)]
        for place, desk in zip(places, held, strict=True):
            mine = place.task == (view.task or "describe")
            if mine:
                desk.wanted = dict(view.choice)
            updates += _updates(place, view) if mine else [gr.skip()] * len(_fields(place))
        return updates

    event = blocks.load(opened, desks, [tabs, inner, notice, *acts, *fields], **QUIET)
    event.then(None, [*acts], None, js=OPEN)


def needs_picture(view: View) -> str:
    """What to do with a link to a photograph that is not in it."""
    if "word" in view.choice:
        return phrase("link.needs_picture_for_word", word=view.choice["word"])
    return phrase(f"link.needs_picture.{view.task}")


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
