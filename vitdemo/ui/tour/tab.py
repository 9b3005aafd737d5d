"""The tab Tour: what a map is, and four ways to doubt it, on an example picture."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.preprocess import open_picture
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import QUIET, Context, clickable_html, html_output, place_of, text_output
from vitdemo.ui.line import CHECKS, LONG
from vitdemo.ui.tour.parts import Finding, figures
from vitdemo.ui.tour.steps import LAST, STEPS, Guide
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
# The invitation stays away once it was answered, or the tour was opened in another way.
ANSWERED = """() => {
  document.querySelector(".vt-invitation")?.setAttribute("hidden", "");
  try { localStorage.setItem("vitdemo-tour", "answered"); } catch {}
}"""
INVITE = """
let answered = null;
try { answered = localStorage.getItem("vitdemo-tour"); } catch {}
element.querySelector(".vt-invitation").hidden = Boolean(answered);
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger(button.value === "take" ? "take" : "dismiss", {});
});
"""


class Visit(Turns):
    """Where one visitor is."""

    def __init__(self) -> None:
        super().__init__()
        self.step = self.picture = 0
        self.begun = False


def build_invitation(context: Context) -> gr.HTML:
    """Lay out the offer of the tour to who comes for the first time."""
    words, take, dismiss = (markup.said(f"tour.{name}")
                            for name in ("invitation", "take", "dismiss"))
    return html_output(
        f'<p class="vt-invitation" hidden>{words} <button type="button" value="take">{take}'
        f'</button> <button type="button" value="dismiss" aria-label="{dismiss}" '
        f'title="{dismiss}">×</button></p>', js_on_load=INVITE,
        visible=bool(context.examples))


def build_tour(context: Context, guide: Guide, invitation: gr.HTML, tab: gr.Tab,
               tabs: gr.Tabs) -> None:
    """Lay out the tab and tie its handlers, and the invitation to it."""
    if not context.examples:
        text_output(phrase("tour.no_examples"), "vt-empty")
        return
    panel = Panel.of(Visit())
    with gr.Column(elem_classes="vt-tour"):
        top = clickable_html(heading(0), elem_id="tour-top")
        view = html_output({}, "tour-view", html_template='<div class="vd-viewer"></div>',
                           css_template=viewer.styles(), js_on_load=MOUNT)
        chosen = clickable_html(elem_id="tour-words", visible=False)
        finding = html_output(elem_id="tour-found")
        again = clickable_html(markup.thumbnails(context.examples, phrase("tour.other_picture")),
                               elem_id="tour-examples", visible=False)
        with gr.Row(elem_id="tour-move"):
            back = gr.Button(phrase("tour.back"), elem_id="tour-back", interactive=False)
            forth = gr.Button(phrase("tour.next"), variant="primary", elem_id="tour-next")
            own = gr.Button(phrase("tour.own"), variant="primary", elem_id="tour-own",
                            visible=False)
    parts = [top, view, chosen, finding, again, back, forth, own]
    invitation.take(lambda: gr.update(selected="tour"), None, tabs, **QUIET)
    for event in (invitation.take, invitation.dismiss, tab.select):
        event(None, js=ANSWERED)

    def run(here: Visit, word: int = -1) -> Iterator[list[Any]]:
        here.begun = True
        step, path = here.step, context.examples[here.picture]
        if guide.known(step, path, word) is None:
            yield shown(step, waiting(step, path))
        yield shown(step, guide.step(step, path, word))

    def begin(here: Visit, turn: Turn) -> Iterator[list[Any]]:
        if not here.begun:
            yield from run(here)

    def move(by: int) -> Callable[..., Iterator[list[Any]]]:
        def moved(here: Visit, turn: Turn) -> Iterator[list[Any]]:
            here.step = min(LAST, max(0, here.step + by))
            yield from run(here)

        return moved

    def jump(here: Visit, turn: Turn, event: gr.EventData) -> Iterator[list[Any]]:
        here.step = place_of(event, LAST + 1)
        yield from run(here)

    def choose(here: Visit, turn: Turn, event: gr.EventData) -> Iterator[list[Any]]:
        here.step, here.picture = 0, place_of(event, len(context.examples))
        yield from run(here)

    def another(here: Visit, turn: Turn, event: gr.EventData) -> Iterator[list[Any]]:
        yield from run(here, place_of(event, LIMITS.max_text_characters))

    def prepare(here: Visit, turn: Turn) -> Iterator[Any]:
        guide.step(min(LAST, here.step + 1), context.examples[here.picture])
        yield gr.skip()

    for event, handler in ((tab.select, begin), (back.click, move(-1)), (forth.click, move(1)),
                           (top.click, jump), (again.click, choose), (chosen.click, another)):
        step = panel.act(event, handler, [], parts, failed, **LONG)
        step.then(None, js=TO_TOP)
        if context.settings.check_at_once:
            panel.follow(step, prepare, [], [top], lambda *_: gr.skip(), concurrency_id=CHECKS)
    own.click(lambda: gr.update(selected="describe"), None, tabs, **QUIET)


def heading(step: int) -> str:
    """The row of steps and the text of this one, as HTML."""
    rows = []
    for number, name in enumerate(STEPS):
        here = ' aria-current="step"' if number == step else ""
        title = markup.said(f"tour.{name}.title")
        rows.append(f'<li><button type="button" data-index="{number}"{here} aria-label="{title}" '
                    f'title="{title}">{number + 1}</button></li>')
    title, text = (markup.said(f"tour.{STEPS[step]}.{part}") for part in ("title", "text"))
    return (f'<nav aria-label="{markup.said("tour.steps")}"><ol class="vt-steps">'
            f'{"".join(rows)}</ol></nav><h2 class="vt-title">{title}</h2><p>{text}</p>')


def waiting(step: int, path: Any) -> Finding:
    """What stands there while the model is at work: the picture that it looks at."""
    photo = open_picture(path)
    if step == 0:
        return Finding({"picture": viewer.display(photo), "writing": ""}, "")
    return Finding(None, figures((photo.image, phrase("tour.whole"), ""))
                   + markup.status(phrase("tour.working"), "vt-working"))


def shown(step: int, found: Finding) -> list[Any]:
    """The outputs for what a step has found."""
    words = markup.chips(found.words, phrase("tour.other_word"), found.word) if found.words else ""
    return [heading(step), gr.update(value=found.payload or {}, visible=bool(found.payload)),
            gr.update(value=words, visible=bool(words)),
            f'<div class="vt-prose">{found.html}</div>', gr.update(visible=step == LAST),
            gr.update(interactive=step > 0), gr.update(visible=step < LAST),
            gr.update(visible=step == LAST)]


def failed(error: Exception, _: tuple[Any, ...]) -> list[Any]:
    """The outputs when a step cannot be done: the reason as one sentence; the tour goes on."""
    return [gr.skip(), gr.update(value={}, visible=False), gr.update(visible=False),
            markup.notice(error), *[gr.skip()] * 4]
