"""The tab Describe: a picture becomes a sentence, and each word of it a map."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.instructions import default_instruction, presets
from vitdemo.preprocess import Picture
from vitdemo.records import LANGUAGES, Caption
from vitdemo.ui.checks import check_after, tie_requests
from vitdemo.ui.controls import decoding_controls, decoding_of, decoding_settings
from vitdemo.ui.desk import Desk
from vitdemo.ui.keep import build_downloads
from vitdemo.ui.parts import (
    MODEL,
    QUIET,
    Context,
    PageValue,
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
from vitdemo.ui.turns import AT_ONCE, Panel, Turn, Turns, in_turn

HINT = "The description of your picture appears here, word by word."
READY = "Press “Describe”, and the description of this picture appears here."
# In the browser, so that it cannot come too late: a ready-made instruction changes with the
# language; what the person wrote stays.
OTHER_LANGUAGE = """(language, instruction) => {
  const presets = PRESETS;
  for (const known of Object.values(presets)) {
    for (const [name, text] of Object.entries(known)) {
      if (text === instruction.trim()) return presets[language][name];
    }
  }
  return instruction || presets[language].describe;
}"""


@dataclass(frozen=True)
class PictureTab:
    """What is tied to a tab from outside: its picture field, the events that set it, those after
    which ``refused`` may hold the path of a picture that cannot be used, and what a link sets.

    ``result`` are the outputs that a result is in, ``given`` and ``emptied`` what they are when a
    picture was just given or taken away.
    """

    picture: gr.Image
    changes: tuple[Any, ...]
    refusing: tuple[Any, ...]
    refused: PageValue
    place: Place
    result: tuple[Any, ...]
    given: tuple[Any, ...]
    emptied: tuple[Any, ...]


def share_picture(here: PictureTab, there: PictureTab) -> None:
    """What is given or taken away in one tab is so in the other, whose result goes with it."""

    def take_over(desk: Desk, turn: Turn, path: str | None) -> Iterator[tuple[Any, ...]]:
        yield path, *(there.given if path else there.emptied)

    handler = in_turn(Turns.begin, lambda *_: gr.skip())(take_over)
    for event in here.changes:
        event.then(handler, [there.place.panel.state, here.place.panel.number, here.picture],
                   [there.picture, *there.result], trigger_mode="multiple", **AT_ONCE)


def build_describe(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    info = context.engine.info
    languages = info.languages
    offered = {code: presets(code, info.instructions) for code in languages}
    panel = Panel.of(Desk())
    with gr.Row(elem_classes="vt-columns"):
        with gr.Column(scale=5, min_width=300):
            picture = picture_input(elem_id="describe-picture")
            examples = clickable_html(
                thumbnails(context.examples, "Or try one of these photographs"),
                visible=bool(context.examples), elem_id="describe-examples")
            language = gr.Radio(
                [(LANGUAGES.get(code, code), code) for code in languages], value=languages[0],
                label="Language", visible=len(languages) > 1, elem_id="describe-language")
            instruction = gr.Textbox(
                default_instruction(languages[0]), lines=1, max_lines=4,
                label="Instruction: what should it tell you?", elem_id="describe-instruction")
            chosen = clickable_html(_preset_chips(offered[languages[0]]),
                                    elem_id="describe-presets")
            run = gr.Button("Describe", variant="primary", elem_id="describe-run")
            controls = decoding_controls()
        with gr.Column(scale=7, min_width=300):
            view = viewer_output(HINT, "describe-view")
            place = Place("describe", "describe-view", instruction, panel, language,
                          tuple(controls))
            copy_button(place)
            build_downloads(context, panel.state, picture, "describe")

    def choose(event: gr.EventData, language: str) -> Any:
        texts = list(offered[language].values())
        try:
            return texts[place_of(event, len(texts))]
        except TextError:  # the page is out of date
            return gr.skip()

    chosen.click(choose, language, instruction, **QUIET)
    # A link sets language and instruction together; then the instruction stays as it is.
    language.change(lambda code: _preset_chips(offered[code]), language, chosen, **QUIET)
    language.input(None, [language, instruction], instruction,
                   js=OTHER_LANGUAGE.replace("PRESETS", json.dumps(offered)))
    return _tie(context, place, (picture, run, examples, view))


def _tie(context: Context, place: Place, parts: tuple[Any, ...]) -> PictureTab:
    """Tie what sets the picture and what uses the model."""
    picture, run, examples, view = parts
    panel, instruction = place.panel, place.text
    refused = PageValue("")

    def take(desk: Desk, turn: Turn, request: gr.Request, path: str | None
             ) -> Iterator[tuple[Any, ...]]:
        yield turn.number, {"writing": ""} if path else {"hint": HINT}

    def example(desk: Desk, turn: Turn, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        path = str(context.examples[place_of(event, len(context.examples))])
        yield turn.number, {"writing": ""}, path

    def describe(desk: Desk, turn: Turn, request: gr.Request, path: str | None,
                 instruction: str | None, language: str, *controls: Any
                 ) -> Iterator[tuple[dict[str, Any], str]]:
        photo = read_picture(path)
        for shown in narrate(context.engine, photo, instruction, language, decoding_of(*controls),
                             desk, context.settings.check_at_once):
            yield shown, ""

    def describe_given(desk: Desk, turn: Turn, request: gr.Request, path: str | None, *rest: Any
                       ) -> Iterator[tuple[dict[str, Any], str]]:
        if path:  # else it was taken away
            yield from describe(desk, turn, request, path, *rest)

    def failed(error: Exception, given: tuple[Any, ...]) -> tuple[dict[str, Any], str]:
        return {"message": str(error)}, refusal(error, given[3])

    inputs = [picture, instruction, place.language, *place.controls]
    outputs = [view, refused]
    busy = {"show_progress": "minimal", "show_progress_on": view, **MODEL}
    clicked = panel.act(run.click, describe, inputs, outputs, failed, api_name="describe",
                        api_visibility="private", **busy)
    submitted = panel.act(instruction.submit, describe, inputs, outputs, failed,
                          api_visibility="private", **busy)
    changes = [
        panel.open([picture.input, picture.clear], take, [picture], [view], lambda *_: gr.skip()),
        panel.open(examples.click, example, [], [view, picture], lambda *_: gr.skip())]
    given = [panel.go_on(event, describe_given, inputs, outputs, failed, **busy)
             for event in changes]
    for event in (clicked, submitted, *given):
        check_after(context, event, view, panel, picture)
    tie_requests(context, view, panel, picture)
    return PictureTab(picture, tuple(changes), (clicked, submitted, *given), refused, place,
                      (view,), ({"hint": READY},), ({"hint": HINT},))


def narrate(engine: Engine, photo: Picture, instruction: str | None, language: str,
            decoding: Decoding, desk: Desk | None = None,
            checking: bool = False) -> Iterator[dict[str, Any]]:
    """Payloads for the viewer: the picture at once, the caption as it grows, then its maps.

    The finished caption is put on ``desk``; ``checking`` says that evidence for it follows.
    """
    shown = {"picture": viewer.display(photo)}
    yield {**shown, "writing": ""}
    caption: Caption | None = None
    for caption in engine.stream(photo, instruction or "", language, decoding):
        yield {**shown, "writing": caption.text}
    assert caption is not None
    settings = {"Instruction": caption.instruction, "Language": LANGUAGES[caption.language],
                **decoding_settings(decoding)}
    yield (desk or Desk()).finish(engine, photo, shown, caption, caption.text,
                                  settings=settings, decoding=decoding, checking=checking)


def _preset_chips(offered: Mapping[str, str]) -> str:
    return chips(list(offered.values()), "Ready-made instructions")
