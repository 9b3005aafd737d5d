"""The tab Ask: a question about a picture, the answer, and how sure the model is."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.attention.dependence import SENTENCE
from vitdemo.engine import Engine
from vitdemo.preprocess import Picture
from vitdemo.records import LANGUAGES, Answer
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import Context, clickable_html, html_output, place_of, read_picture
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.tabs.describe import first_language
from vitdemo.ui.tabs.picture_tab import PictureTab, refused_path
from vitdemo.ui.turns import Turn
from vitdemo.words import split_words

ANSWERS = 5  # the best one and the next four
LEAST = 0.01  # of a rival that is worth a line
QUESTIONS = {
    "en": ["What is in the picture?", "What colour is it?", "How many are there?"],
    "zh": ["图片里有什么？", "它是什么颜色？", "有几个？"],
}


def build_ask(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    with gr.Column(elem_classes="vt-tab"):
        with gr.Column(elem_classes="vt-lead", min_width=0):
            with gr.Row():
                question = gr.Textbox(label=phrase("ask.question"), lines=1, max_lines=4, scale=4,
                                      placeholder=phrase("ask.example"), elem_id="ask-question")
                run = gr.Button(phrase("tab.ask"), variant="primary", elem_id="ask-run", scale=1,
                                min_width=80)
            answers = html_output(elem_id="ask-answers")
            sampled = clickable_html(markup.chips(_samples(context), phrase("ask.samples")),
                                     elem_id="ask-samples")
        tab = PictureTab.lay_out("ask", phrase("ask.hint"))
        with gr.Column(elem_classes="vt-under", min_width=0):
            tab.lay_out_examples(context)
            tab.lay_out_saving(context, text=question)
    _tie(context, tab, (question, run, sampled, answers))
    return tab


def _tie(context: Context, tab: PictureTab, parts: tuple[Any, ...]) -> None:
    """Tie what sets the picture and what uses the model."""
    question, run, sampled, answers = parts

    def ask(desk: Desk, turn: Turn, path: str | None, question: str
            ) -> Iterator[tuple[dict[str, Any], str, str]]:
        for shown, rows in reply(context.engine, read_picture(path), question, desk,
                                 context.settings.check_at_once):
            yield shown, rows, ""

    def take(desk: Desk, turn: Turn, path: str | None) -> Iterator[tuple[Any, ...]]:
        yield {"hint": phrase("ask.ready" if path else "ask.hint")}, "", ""
        if path:
            picture = viewer.display(read_picture(path))
            yield {"picture": picture, "hint": phrase("ask.ready")}, "", ""

    def sample(desk: Desk, turn: Turn, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        samples = _samples(context)  # in the language of who asks
        yield turn.number, gr.skip(), "", "", samples[place_of(event, len(samples))]

    def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
        desk: Desk = given[0]
        shown = desk.put_back(error)
        said = desk.result.said if desk.result else None
        rows = answer_bars(said) if isinstance(said, Answer) else ""
        return shown, rows, refused_path(error, given)

    inputs, outputs = [tab.picture, question], [tab.view, answers, tab.refused]
    asked = tab.act([run.click, question.submit], ask, inputs, outputs, failed, api_name="answer")
    began = tab.panel.open(sampled.click, sample, [], [*outputs, question], lambda *_: gr.skip())
    given, _ = tab.tie_pictures(context, take, outputs, failed)
    tab.refusing.append(given)
    tab.tie_checks(context, asked, tab.go_on(began, ask, inputs, outputs, failed))
    tab.result = (tab.view, answers)
    tab.given, tab.emptied = "ask.ready", "ask.hint"


def _samples(context: Context) -> list[str]:
    """Questions to start with, in the page's language, where the model knows it."""
    return QUESTIONS[first_language(context.engine)]


def reply(engine: Engine, photo: Picture, question: str, desk: Desk | None = None,
          checking: bool = False) -> Iterator[tuple[dict[str, Any], str]]:
    """Pairs of a payload for the viewer and the answers' bars as HTML.

    The answer is put on ``desk``; ``checking`` says that evidence for it follows.
    """
    shown = {"picture": viewer.display(photo)}
    yield {**shown, "writing": ""}, ""
    answer = engine.ask(photo, question, count=ANSWERS)
    settings = {phrase("source.question"): answer.question,
                phrase("setting.language"): LANGUAGES[answer.language]}
    if engine.info.weighs_answers:
        settings[phrase("ask.choosing")] = phrase("ask.weighed")
    yield (desk or Desk()).finish(engine, photo, shown, answer, answer.text, settings=settings,
                                  checking=checking), answer_bars(answer)


def answer_bars(answer: Answer) -> str:
    """The answer and its rivals from `LEAST` on, with their probabilities, as HTML; a whole
    sentence stands by itself."""
    if len(split_words(answer.text)) >= SENTENCE:
        return f'<p class="vt-best">{html.escape(answer.text)}</p>'
    rows = [(answer.text, answer.probability),
            *((rival.text, rival.probability) for rival in answer.runners_up
              if rival.probability >= LEAST)]
    return markup.heading(phrase("ask.sure")) + markup.bars(rows, phrase("ask.answers"))
