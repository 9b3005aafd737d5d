"""The tab Describe: a picture becomes a sentence, and each word of it a map."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.instructions import PRESETS, default_instruction
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

HINT = "The description of your picture appears here, word by word."


@dataclass(frozen=True)
class PictureTab:
    """What is tied to a tab from outside: the picture field, the events that set it, and what a
    link sets."""

    picture: gr.Image
    changes: tuple[Any, ...]
    place: Place


def build_describe(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    languages = context.engine.info.languages
    desk = gr.State(Desk())
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
            presets = clickable_html(_preset_chips(languages[0]), elem_id="describe-presets")
            run = gr.Button("Describe", variant="primary", elem_id="describe-run")
            controls = decoding_controls()
        with gr.Column(scale=7, min_width=300):
            view = viewer_output(HINT, "describe-view")
            place = Place("describe", "describe-view", instruction, desk, language,
                          tuple(controls))
            copy_button(place)
            build_downloads(context, desk, picture, "describe")

    presets.click(_preset, language, instruction, **QUIET)
    # A link sets language and instruction together; then the instruction stays as it is.
    language.change(_preset_chips, language, presets, **QUIET)
    language.input(_other_language, [language, instruction], instruction, **QUIET)
    changes = _tie(context, place, (picture, run, examples, view))
    return PictureTab(picture, changes, place)


def _tie(context: Context, place: Place, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tie what uses the model; gives the events that set the picture."""
    picture, run, examples, view = parts
    desk, instruction = place.desk, place.text
    refused = gr.State("")  # the path of a picture that cannot be used

    @guarded(lambda error, inputs: ({"message": str(error)}, refusal(error, inputs)))
    def describe(request: gr.Request, path: str | None, instruction: str | None, language: str,
                 desk: Desk, *controls: Any) -> Iterator[tuple[dict[str, Any], str]]:
        desk.clear()
        context.sessions.keep(request, [path])
        photo = read_picture(path)
        for shown in narrate(context.engine, photo, instruction, language, decoding_of(*controls),
                             desk, context.settings.check_at_once):
            yield shown, ""

    @functools.wraps(describe)
    def describe_given(*inputs: Any) -> Iterator[tuple[dict[str, Any], str]]:
        if inputs[1]:  # emptying the field is an input, too
            yield from describe(*inputs)
        else:
            yield gr.skip()

    def example(event: gr.EventData) -> str:
        return str(context.examples[event.index])

    def empty(desk: Desk) -> dict[str, Any]:
        desk.clear()
        return {"hint": HINT}

    inputs = [picture, instruction, place.language, desk, *place.controls]
    outputs = [view, refused]
    busy = {"show_progress": "minimal", "show_progress_on": view, **MODEL}
    clicked = run.click(describe, inputs, outputs, api_name="describe", **busy)
    given = picture.input(describe_given, inputs, outputs, api_visibility="private",
                          trigger_mode="always_last", **busy)
    chosen = examples.click(example, None, picture, **QUIET).then(
        describe, inputs, outputs, api_visibility="private", **busy)
    submitted = instruction.submit(describe, inputs, outputs, api_visibility="private", **busy)
    emptied = picture.clear(empty, desk, view, **QUIET)
    drop_refused(clicked, refused, picture)
    for event in (clicked, given, chosen, submitted):
        check_after(context, event, view, desk, picture)
    tie_requests(context, view, desk, picture)
    return drop_refused(given, refused, picture), chosen, emptied


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


def _preset_chips(language: str) -> str:
    return chips(list(PRESETS[language].values()), "Ready-made instructions")


def _preset(event: gr.EventData, language: str) -> str:
    return list(PRESETS[language].values())[event.index]


def _other_language(language: str, instruction: str) -> str:
    """A ready-made instruction changes with the language; what the person wrote stays."""
    for known in PRESETS.values():
        for name, text in known.items():
            if text == instruction.strip():
                return PRESETS[language][name]
    return instruction or default_instruction(language)
