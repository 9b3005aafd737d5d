"""The button that copies a link to what is set in a tab, and what happens when one is opened."""

import filecmp
import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.texts import phrase
from vitdemo.ui.components import QUIET, Context, PageValue
from vitdemo.ui.link import TASKS, chosen_of, query_of, read_query
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
CHOICE = ("word", "method", "layer", "head")  # the viewer's


@dataclass(frozen=True)
class Place:
    """What of one tab a link sets: ``fields`` by the names of a link's parts. ``view`` is the
    viewer's element id, ``picture`` the field of the picture that it is about, which only a link to
    an example carries, ``go`` changes where a link asks for something to be run."""

    task: str
    view: str
    panel: Panel
    fields: Mapping[str, Any]
    go: gr.State | None = None
    picture: gr.Image | None = None

    @property
    def outputs(self) -> list[Any]:
        """What a link may change."""
        return [*self.fields.values(), *([self.go] if self.go is not None else [])]

    def updates(self, view: Mapping[str, Any] | None) -> list[Any]:
        """New values for them; what is not in the ``view``, or not offered here, stays."""
        view = view or {}
        found = [view[name] if name in view and _offers(field, view[name]) else gr.skip()
                 for name, field in self.fields.items()]
        return found + [time.time() if view.get("text") else gr.skip()] * (self.go is not None)


def _offers(field: Any, value: Any) -> bool:
    choices = getattr(field, "choices", None)
    return choices is None or value in [name for _, name in choices]


def copy_button(place: Place, examples: Sequence[Path] = ()) -> None:
    """Lay out "Copy a link to this view" and tie it."""
    button = gr.Button(phrase("link.copy"), size="sm", elem_id=f"{place.task}-copy",
                       elem_classes="vt-copy")
    # Not shown: they carry what only the browser knows into the handler.
    chosen, address = gr.Textbox(visible=False), gr.Textbox(visible=False)
    link = gr.Textbox(label=phrase("link.copied"), visible=False, lines=1,
                      max_lines=3, interactive=False, buttons=["copy"],
                      elem_id=f"{place.task}-link")

    def make(chosen: str, address: str, picture: str | None, *values: Any) -> Any:
        view = {"task": place.task, "example": example_of(picture, examples),
                **dict(zip(place.fields, values, strict=True)), **chosen_of(chosen)}
        url, label = link_to(address, view)
        return gr.update(value=url, visible=True, label=label)

    inputs = [chosen, address, place.picture or chosen, *place.fields.values()]
    made = button.click(make, inputs, link, js=READ_PAGE % place.view, **QUIET)
    made.then(None, link, None, js=COPY)


def example_of(path: str | None, examples: Sequence[Path]) -> str:
    """The name of the example that a field's picture is a copy of; "" where it is none."""
    file = Path(path or "")
    return next((one.stem for one in examples if one.name == file.name and file.is_file()
                 and filecmp.cmp(one, file, shallow=False)), "")


def link_to(address: str, view: Mapping[str, Any]) -> tuple[str, str]:
    """The link to a view, and a sentence on what it carries."""
    long = len(view.get("text") or "") > LIMITS.max_text_characters
    query = query_of({**view, "text": ""} if long else view)
    label = ("link.copied_short" if long else "link.copied_whole" if view.get("example")
             else "link.copied")
    return f"{address}?{query}", phrase(label)


def open_links(context: Context, blocks: gr.Blocks, places: Sequence[Place], tabs: gr.Tabs,
               inner: gr.Tabs, notice: gr.HTML) -> None:
    """Set the tab, its fields and the viewer's first choice from the page's address."""
    names = [path.stem for path in context.examples]
    desks = [place.panel.state for place in places]
    acts = PageValue(""), PageValue(-1), PageValue(False)  # for `OPEN`

    def opened(request: gr.Request, *held: Desk) -> list[Any]:
        view, complaints = read_query(dict(request.query_params or {}),
                                      context.engine.info.languages, context.engine.methods,
                                      names)
        task = view.get("task", "")
        chosen, within = TASKS[task or "describe"]
        pictured = task in PICTURED
        if pictured and "example" not in view:
            complaints.append(needs_picture(view))
        for place, desk in zip(places, held, strict=True):
            if place.task == (task or "describe"):
                desk.wanted = {name: view[name] for name in CHOICE if name in view}
        return [gr.update(selected=chosen) if task else gr.skip(),
                gr.update(selected=within) if within else gr.skip(), complaint(complaints), task,
                names.index(view["example"]) if pictured and "example" in view else -1,
                task == "ask" and "text" in view,
                *(update for place in places for update in place.updates(
                    view if place.task == (task or "describe") else None))]

    event = blocks.load(opened, desks, [tabs, inner, notice, *acts, *(
        field for place in places for field in place.outputs)], **QUIET)
    event.then(None, [*acts], None, js=OPEN)


def needs_picture(view: Mapping[str, Any]) -> str:
    """What to do with a link to a photograph that is not in it."""
    if "word" in view:
        return phrase("link.needs_picture_for_word", word=view["word"])
    return phrase(f"link.needs_picture.{view['task']}")


def complaint(sentences: Sequence[str]) -> str:
    """What could not be had of a link, as HTML."""
    items = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="vt-linked" role="status">{items}</div>' if items else ""
