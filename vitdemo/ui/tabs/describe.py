"""The tab Describe: a picture becomes a sentence, and each word of it a map."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.instructions import default_instruction, in_language, is_preset, presets
from vitdemo.preprocess import Picture
from vitdemo.records import LANGUAGES, Caption
from vitdemo.texts import language, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    QUIET,
    Context,
    clickable_html,
    expert_panel,
    place_of,
    read_picture,
)
from vitdemo.ui.controls import FIELDS, decoding_controls, decoding_of, decoding_settings
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.tabs.picture_tab import PictureTab, refused_path
from vitdemo.ui.turns import Turn

# Presses the chip whose instruction, in any of the languages, stands in the field.
PRESS = """(text) => {
  const known = KNOWN;
  document.querySelectorAll("#describe-presets [aria-pressed]").forEach((chip, place) => {
    chip.setAttribute("aria-pressed", String(known[place].includes(text?.trim())));
  });
}"""


def build_describe(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    info = context.engine.info
    languages, first = info.languages, first_language(context.engine)
    keys = list(presets(first, info.instructions))
    with gr.Column(elem_classes="vt-tab"):
        with gr.Column(elem_classes="vt-lead", min_width=0):  # reached by keys before the result
            chosen = clickable_html(_chips(keys, "describe"), elem_id="describe-presets")
            with gr.Row(elem_id="describe-own") as own:  # app.css hides it until it is opened
                instruction = gr.Textbox(
                    default_instruction(first), lines=1, max_lines=4, scale=3,
                    label=phrase("describe.own"), elem_id="describe-instruction")
                run = gr.Button(phrase("tab.describe"), variant="primary",
                                elem_id="describe-run", scale=1, min_width=120)
        tab = PictureTab.lay_out("describe", phrase("describe.hint"))
        with gr.Column(elem_classes="vt-under", min_width=0):
            tab.lay_out_examples(context)
            with expert_panel("describe", phrase("describe.writing")):
                written_in = gr.Radio(
                    [(LANGUAGES.get(code, code), code) for code in languages], value=first,
                    label=phrase("describe.language"), visible=len(languages) > 1,
                    elem_id="describe-language")
                controls = decoding_controls(info)
            tab.lay_out_saving(context, text=instruction, language=written_in,
                               **dict(zip(FIELDS, controls, strict=True)))
    offered = [presets(code, keys) for code in languages]
    known = [[texts[key] for texts in offered] for key in keys]
    instruction.change(None, instruction, None, js=PRESS.replace("KNOWN", json.dumps(known)))
    chosen.other(lambda: gr.update(elem_classes="vt-open"), None, own, **QUIET)
    _tie(context, tab, keys, (chosen, run, instruction, written_in, controls))
    return tab


def _tie(context: Context, tab: PictureTab, keys: list[str], parts: tuple[Any, ...]) -> None:
    """Tie what sets the picture and what uses the model."""
    chosen, run, instruction, written_in, controls = parts

    def take(desk: Desk, turn: Turn, path: str | None) -> Iterator[tuple[Any, ...]]:
        yield ({"writing": ""} if path else {"hint": phrase("describe.hint")},)

    def choose(desk: Desk, turn: Turn, event: gr.EventData, path: str | None, language: str
               ) -> Iterator[tuple[Any, ...]]:
        key = keys[place_of(event, len(keys))]
        shown = gr.skip() if path else {"hint": phrase("describe.hint")}
        yield turn.number, shown, _chips(keys, key), presets(language, keys)[key]

    def describe(desk: Desk, turn: Turn, path: str | None, instruction: str | None,
                 language: str, *controls: Any) -> Iterator[tuple[dict[str, Any], str]]:
        photo = read_picture(path)
        for shown in narrate(context.engine, photo, in_language(instruction or "", language),
                             language, decoding_of(*controls), desk,
                             context.settings.check_at_once):
            yield shown, ""

    def describe_given(desk: Desk, turn: Turn, path: str | None, *rest: Any
                       ) -> Iterator[tuple[dict[str, Any], str]]:
        if path:  # else it was taken away, or there is none yet
            yield from describe(desk, turn, path, *rest)

    def failed(error: Exception, given: tuple[Any, ...]) -> tuple[dict[str, Any], str]:
        return given[0].put_back(error), refused_path(error, given)

    inputs = [tab.picture, instruction, written_in, *controls]
    outputs = [tab.view, tab.refused]
    asked = [tab.act(run.click, describe, inputs, outputs, failed, api_name="describe"),
             tab.act(instruction.submit, describe, inputs, outputs, failed),
             tab.act(written_in.input, describe_given, inputs, outputs, failed)]
    begun = tab.tie_pictures(context, take, [tab.view], lambda *_: (gr.skip(),))
    begun.append(tab.panel.open(chosen.click, choose, [tab.picture, written_in],
                                [tab.view, chosen, instruction], lambda *_: gr.skip()))
    asked += [tab.go_on(event, describe_given, inputs, outputs, failed) for event in begun]
    tab.tie_checks(context, *asked)
    tab.result, tab.given, tab.emptied = (tab.view,), "describe.ready", "describe.hint"


def narrate(engine: Engine, photo: Picture, instruction: str | None, language: str,
            decoding: Decoding, desk: Desk | None = None,
            checking: bool = False) -> Iterator[dict[str, Any]]:
    """Payloads for the viewer: the picture at once, the caption as it grows, then its maps.

    The finished caption is put on ``desk``; ``checking`` says that evidence for it follows.
    """
    shown: dict[str, Any] = {"picture": viewer.display(photo)}
    yield {**shown, "writing": ""}
    caption: Caption | None = None
    for caption in engine.stream(photo, instruction or "", language, decoding):
        yield {**shown, "writing": caption.text}
    assert caption is not None
    shown["understood"] = _understood(engine, caption)
    settings = {phrase("setting.instruction"): caption.instruction,
                phrase("setting.language"): LANGUAGES[caption.language],
                **decoding_settings(decoding, engine.info)}
    yield (desk or Desk()).finish(engine, photo, shown, caption, caption.text,
                                  settings=settings, decoding=decoding, checking=checking)


def _understood(engine: Engine, caption: Caption) -> str:
    """Which instruction that the model was taught a person's own was taken for; "" where it is
    one of those, or the model goes on from it."""
    info = engine.info
    if info.family != "native" or is_preset(caption.instruction):
        return ""
    key = engine.understood(caption.instruction, caption.language)
    if key:
        return phrase("instruction.understood", known=phrase(f"instruction.{key}"))
    known = [phrase(f"instruction.{key}") for key in presets(caption.language, info.instructions)]
    return phrase("instruction.unknown", known=", ".join(known))


def _chips(keys: list[str], chosen: str) -> str:
    return markup.chips([phrase(f"instruction.{key}") for key in keys], phrase("describe.choose"),
                 keys.index(chosen), phrase("describe.other"))


def first_language(engine: Engine) -> str:
    """The language to describe in at first: the page's, where the model knows it."""
    known = engine.info.languages
    return language() if language() in known else known[0]
