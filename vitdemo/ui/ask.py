"""The tab Ask: a question about a picture, the answer, and how sure the model is."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.engine import Engine
from vitdemo.preprocess import Picture
from vitdemo.records import LANGUAGES, Answer
from vitdemo.ui.checks import check_after, tie_requests
from vitdemo.ui.describe import PictureTab
from vitdemo.ui.desk import Desk
from vitdemo.ui.keep import build_downloads
from vitdemo.ui.parts import (
    MODEL,
    QUIET,
    Context,
    bars,
    chips,
    clickable_html,
    drop_refused,
    guarded,
    picture_input,
    read_picture,
    refusal,
    thumbnails,
    viewer_output,
)
from vitdemo.ui.places import Place, copy_button

HINT = "The answer to your question appears here."
READY = "Now ask something about this picture."
ANSWERS = 5  # the best one and the next four
WEIGHED = ("The model weighs two things: which answer it would say, and how well what each one "
           "claims fits the picture. The maps, and the numbers with them, are about the first.")
QUESTIONS = {
    "en": ["What is in the picture?", "What colour is it?", "How many are there?"],
    "zh": ["图片里有什么？", "它是什么颜色？"],
}


def build_ask(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    samples = [question for code in context.engine.info.languages
               for question in QUESTIONS.get(code, [])]
    desk = gr.State(Desk())
    with gr.Row(elem_classes="vt-columns"):
        with gr.Column(scale=5, min_width=300):
            picture = picture_input(elem_id="ask-picture")
            examples = clickable_html(
                thumbnails(context.examples, "Or try one of these photographs"),
                visible=bool(context.examples), elem_id="ask-examples")
            question = gr.Textbox(label="Your question", lines=1, max_lines=4,
                                  placeholder="What colour is the car?", elem_id="ask-question")
            chip_row = clickable_html(chips(samples, "Questions to start with"),
                                      elem_id="ask-samples")
            run = gr.Button("Ask", variant="primary", elem_id="ask-run")
        with gr.Column(scale=7, min_width=300):
            answers = gr.HTML(apply_default_css=False, elem_id="ask-answers")
            view = viewer_output(HINT, "ask-view")
            place = Place("ask", "ask-view", question, desk)
            copy_button(place)
            build_downloads(context, desk, picture, "ask")

    def sample(event: gr.EventData) -> str:
        return samples[event.index]

    sampled = chip_row.click(sample, None, question, **QUIET)
    changes = _tie(context, place, (picture, examples, run, answers, view), sampled)
    return PictureTab(picture, changes, place)


def _tie(context: Context, place: Place, parts: tuple[Any, ...], sampled: Any) -> tuple[Any, ...]:
    """Tie what uses the model; gives the events that set the picture."""
    picture, examples, run, answers, view = parts
    desk, question = place.desk, place.text
    refused = gr.State("")  # the path of a picture that cannot be used
    failed = guarded(lambda error, inputs: ({"message": str(error)}, "", refusal(error, inputs)))

    @failed
    def ask(request: gr.Request, path: str | None, question: str, desk: Desk
            ) -> Iterator[tuple[dict[str, Any], str, str]]:
        desk.clear()
        context.sessions.keep(request, [path])
        for shown, rows in reply(context.engine, read_picture(path), question, desk,
                                 context.settings.check_at_once):
            yield shown, rows, ""

    @failed
    def take(request: gr.Request, path: str | None, desk: Desk
             ) -> Iterator[tuple[dict[str, Any], str, str]]:
        if path:  # emptying the field is an input, too
            desk.clear()
            context.sessions.keep(request, [path])
            yield {"picture": viewer.display(read_picture(path)), "hint": READY}, "", ""

    def example(event: gr.EventData) -> str:
        return str(context.examples[event.index])

    def empty(desk: Desk) -> tuple[dict[str, Any], str]:
        desk.clear()
        return {"hint": HINT}, ""

    outputs = [view, answers, refused]
    busy = {"show_progress": "minimal", "show_progress_on": view, **MODEL}
    asked = gr.on([run.click, question.submit], ask, [picture, question, desk], outputs,
                  api_name="ask", **busy)
    sampled = sampled.then(ask, [picture, question, desk], outputs, api_visibility="private",
                           **busy)
    given = picture.input(take, [picture, desk], outputs, api_visibility="private",
                          show_progress="hidden", trigger_mode="always_last")
    chosen = examples.click(example, None, picture, **QUIET).then(
        take, [picture, desk], outputs, api_visibility="private", show_progress="hidden")
    emptied = picture.clear(empty, desk, [view, answers], **QUIET)
    for event in (asked, sampled):
        drop_refused(event, refused, picture)
        check_after(context, event, view, desk, picture)
    tie_requests(context, view, desk, picture)
    return drop_refused(given, refused, picture), chosen, emptied


def reply(engine: Engine, photo: Picture, question: str, desk: Desk | None = None,
          checking: bool = False) -> Iterator[tuple[dict[str, Any], str]]:
    """Pairs of a payload for the viewer and the answers' bars as HTML.

    The answer is put on ``desk``; ``checking`` says that evidence for it follows.
    """
    shown = {"picture": viewer.display(photo)}
    yield {**shown, "writing": ""}, ""
    answer = engine.ask(photo, question, count=ANSWERS)
    settings = {"Question": answer.question, "Language": LANGUAGES[answer.language]}
    hint = WEIGHED if engine.info.weighs_answers else ""
    if hint:
        settings["How it chooses"] = hint
    yield (desk or Desk()).finish(engine, photo, shown, answer, answer.text, settings=settings,
                                  checking=checking), answer_bars(answer, hint)


def answer_bars(answer: Answer, hint: str = "") -> str:
    """The answer and the next best ones with their probabilities, as HTML, the hint below them."""
    rows = [(answer.text, answer.probability),
            *((candidate.text, candidate.probability) for candidate in answer.runners_up)]
    return ('<h2 class="vt-heading">How sure the model is</h2>'
            + bars(rows, "Answers and their probabilities", best_large=True)
            + (f'<p class="vt-hint">{hint}</p>' if hint else ""))
