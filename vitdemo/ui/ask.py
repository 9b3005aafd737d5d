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
    Context,
    PageValue,
    bars,
    chips,
    clickable_html,
    picture_input,
    place_of,
    read_picture,
    refusal,
    thumbnails,
    viewer_output,
)
from vitdemo.ui.places import Place, copy_button
from vitdemo.ui.turns import Panel, Turn

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
    panel = Panel.of(Desk())
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
            place = Place("ask", "ask-view", question, panel)
            copy_button(place)
            build_downloads(context, panel.state, picture, "ask")
    return _tie(context, place, (picture, examples, chip_row, run, answers, view), samples)


def _tie(context: Context, place: Place, parts: tuple[Any, ...],
         samples: list[str]) -> PictureTab:
    """Tie what sets the picture and what uses the model."""
    picture, examples, chip_row, run, answers, view = parts
    panel, question = place.panel, place.text
    refused = PageValue("")

    def ask(desk: Desk, turn: Turn, request: gr.Request, path: str | None, question: str
            ) -> Iterator[tuple[dict[str, Any], str, str]]:
        for shown, rows in reply(context.engine, read_picture(path), question, desk,
                                 context.settings.check_at_once):
            yield shown, rows, ""

    def take(desk: Desk, turn: Turn, request: gr.Request, path: str | None
             ) -> Iterator[tuple[Any, ...]]:
        yield turn.number, {"hint": READY if path else HINT}, "", ""
        if path:
            shown = {"picture": viewer.display(read_picture(path)), "hint": READY}
            yield turn.number, shown, "", ""

    def example(desk: Desk, turn: Turn, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        path = str(context.examples[place_of(event, len(context.examples))])
        yield (turn.number, {"picture": viewer.display(read_picture(path)), "hint": READY}, "", "",
               path)

    def sample(desk: Desk, turn: Turn, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        yield turn.number, {"writing": ""}, "", "", samples[place_of(event, len(samples))]

    def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return {"message": str(error)}, "", refusal(error, given[3])

    outputs = [view, answers, refused]
    busy = {"show_progress": "minimal", "show_progress_on": view, **MODEL}
    asked = panel.act([run.click, question.submit], ask, [picture, question], outputs, failed,
                      api_name="answer", api_visibility="private", **busy)
    sampled = panel.go_on(
        panel.open(chip_row.click, sample, [], [*outputs, question], lambda *_: gr.skip()),
        ask, [picture, question], outputs, failed, **busy)
    given = panel.open([picture.input, picture.clear], take, [picture], outputs,
                       lambda error, given: (given[1].number, *failed(error, given)))
    chosen = panel.open(examples.click, example, [], [*outputs, picture], lambda *_: gr.skip())
    for event in (asked, sampled):
        check_after(context, event, view, panel, picture)
    tie_requests(context, view, panel, picture)
    return PictureTab(picture, (given, chosen), (asked, sampled, given), refused, place,
                      (view, answers), ({"hint": READY}, ""), ({"hint": HINT}, ""))


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
