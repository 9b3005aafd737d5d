"""The tab Tour: what a map is, and four ways to doubt it, on an example picture."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.records import LANGUAGES
from vitdemo.ui.line import LONG
from vitdemo.ui.parts import (
    Context,
    chips,
    clickable_html,
    notice,
    place_of,
    thumbnails,
)
from vitdemo.ui.tour_steps import Found, Tour
from vitdemo.ui.tour_texts import LAST, NO_EXAMPLES, RUNNING, STATIONS
from vitdemo.ui.turns import Panel, Turn, Turns

# The viewer alone: nothing in the tour asks the server through it.
MOUNT = """
const vdViewer = mountViewer(element.querySelector(".vd-viewer"), props.value, null);
watch("value", () => vdViewer.update(props.value));
"""
TO_TOP = """() => {
  const top = document.querySelector("#tour-top");
  if (top && top.getBoundingClientRect().top < 0) top.scrollIntoView({ block: "start" });
}"""


class Visit(Turns):
    """Where one visitor is."""

    def __init__(self) -> None:
        super().__init__()
        self.step = self.picture = 0


def build_tour(context: Context) -> None:
    """Lay out the tab and tie its handlers."""
    if not context.examples:
        gr.HTML(f'<p class="vt-empty">{html.escape(NO_EXAMPLES)}</p>', apply_default_css=False)
        return
    languages = context.engine.info.languages
    panel = Panel.of(Visit())
    with gr.Column(elem_classes="vt-tour"):
        words = clickable_html(heading(0), elem_id="tour-top")
        with gr.Column(elem_id="tour-choose") as choose:
            examples = clickable_html(thumbnails(context.examples, "Choose a photograph"),
                                      elem_id="tour-examples")
            language = gr.Radio([(LANGUAGES.get(code, code), code) for code in languages],
                                value=languages[0], label="Language", elem_id="tour-language",
                                visible=len(languages) > 1)
        chosen = clickable_html(elem_id="tour-words", visible=False)
        found = gr.HTML(apply_default_css=False, elem_id="tour-found")
        view = gr.HTML(value={"hint": "Choose a photograph to begin."},
                       html_template='<div class="vd-viewer"></div>',
                       css_template=viewer.styles(), js_on_load=viewer.script() + MOUNT,
                       apply_default_css=False, elem_id="tour-view")
        with gr.Row(elem_id="tour-move"):
            back = gr.Button("Back", elem_id="tour-back", interactive=False)
            forth = gr.Button("Next", variant="primary", elem_id="tour-next", interactive=False)
    parts = [words, choose, view, chosen, found, back, forth]
    _tie(context, panel, language, examples, parts)


def _tie(context: Context, panel: Panel, language: gr.Radio, examples: gr.HTML,
         parts: list[Any]) -> None:
    tour = Tour(context.engine)
    words, _, _, chosen, _, back, forth = parts

    def run(here: Visit, code: str, word: int = -1) -> Iterator[list[Any]]:
        step = here.step
        yield waiting(step)
        yield shown(step, tour.step(step, context.examples[here.picture], code, word))

    def go_back(here: Visit, turn: Turn, code: str) -> Iterator[list[Any]]:
        here.step = max(0, here.step - 1)
        yield from run(here, code)

    def go_on(here: Visit, turn: Turn, code: str) -> Iterator[list[Any]]:
        here.step = 0 if here.step == LAST else here.step + 1
        yield from run(here, code)

    def jump(here: Visit, turn: Turn, event: gr.EventData, code: str) -> Iterator[list[Any]]:
        here.step = place_of(event, LAST + 1)
        yield from run(here, code)

    def choose(here: Visit, turn: Turn, event: gr.EventData, code: str) -> Iterator[list[Any]]:
        here.picture = place_of(event, len(context.examples))
        yield from run(here, code)

    def change(here: Visit, turn: Turn, code: str) -> Iterator[list[Any]]:
        yield from run(here, code)

    def another(here: Visit, turn: Turn, event: gr.EventData, code: str) -> Iterator[list[Any]]:
        yield from run(here, code, place_of(event, LIMITS.max_text_characters))

    for event, handler in ((back.click, go_back), (forth.click, go_on), (words.click, jump),
                           (examples.click, choose), (chosen.click, another),
                           (language.input, change)):
        panel.act(event, handler, [language], parts, failed, api_visibility="private",
                  show_progress="hidden", **LONG).then(None, js=TO_TOP)


def heading(step: int) -> str:
    """The row of steps and the text of this one, as HTML."""
    rows = []
    for number, station in enumerate(STATIONS):
        here = ' aria-current="step"' if number == step else ""
        rows.append(f'<li><button type="button" data-index="{number}"{here}>'
                    f"{html.escape(station.name)}</button></li>")
    station = STATIONS[step]
    text = "".join(f"<p>{html.escape(one)}</p>" for one in station.text)
    return (f'<nav aria-label="Steps of the tour"><ol class="vt-steps">{"".join(rows)}</ol></nav>'
            f'<h2 class="vt-title">{html.escape(station.title)}</h2>{text}')


def waiting(step: int) -> list[Any]:
    """The outputs while the model is at work."""
    end = step == LAST
    return [heading(step), gr.update(visible=step == 0),
            gr.update(value={"hint": RUNNING}, visible=not end),
            gr.update(visible=False), "", *_moves(step)]


def shown(step: int, found: Found) -> list[Any]:
    """The outputs when a step is done."""
    other = chips(found.words, "Try it for another word") if found.words else ""
    other = other.replace(f'data-index="{found.word}"',
                          f'data-index="{found.word}" aria-pressed="true"')
    label = '<p class="vt-hint">Try it for another word:</p>'
    return [gr.skip(), gr.skip(), gr.update(value=found.payload or {}, visible=bool(found.payload)),
            gr.update(value=label + other, visible=bool(other)),
            f'<div class="vt-prose">{found.html}</div>', gr.skip(), gr.skip()]


def failed(error: Exception, _: tuple[Any, ...]) -> list[Any]:
    """The outputs when a step cannot be done: the reason as one sentence; the tour goes on."""
    return [gr.skip(), gr.skip(), gr.update(value={}, visible=False), gr.update(visible=False),
            notice(str(error)), gr.skip(), gr.skip()]


def _moves(step: int) -> list[Any]:
    return [gr.update(interactive=step > 0),
            gr.update(interactive=True, value="Start again" if step == LAST else "Next")]
