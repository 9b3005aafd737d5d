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
from vitdemo.records import LANGUAGES, Explanation
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

HINT = "The description of your picture appears here, word by word."
STRATEGIES = [("Best of several sentences (beam search)", "beam"),
              ("Most likely word each time (greedy)", "greedy"),
              ("Drawn by chance (sampling)", "sample")]


@dataclass(frozen=True)
class PictureTab:
    """What the other tabs tie to: the picture field, and the events that set it."""

    picture: gr.Image
    changes: tuple[Any, ...]


def build_describe(context: Context) -> PictureTab:
    """Lay out the tab and tie its handlers."""
    languages = context.engine.info.languages
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
            controls = _decoding_controls()
        with gr.Column(scale=7, min_width=300):
            view = viewer_output(HINT, "describe-view")

    refused = gr.State("")  # the path of a picture that cannot be used

    @guarded(lambda error, inputs: ({"message": str(error)}, refusal(error, inputs)))
    def describe(request: gr.Request, path: str | None, instruction: str | None, language: str,
                 *controls: Any) -> Iterator[tuple[dict[str, Any], str]]:
        context.sessions.keep(request, [path])
        photo = read_picture(path)
        for shown in narrate(context.engine, photo, instruction, language, decoding_of(*controls)):
            yield shown, ""

    @functools.wraps(describe)
    def describe_given(*inputs: Any) -> Iterator[tuple[dict[str, Any], str]]:
        if inputs[1]:  # emptying the field is an input, too
            yield from describe(*inputs)

    def example(event: gr.EventData) -> str:
        return str(context.examples[event.index])

    inputs, outputs = [picture, instruction, language, *controls], [view, refused]
    busy = {"show_progress": "minimal", "show_progress_on": view, **MODEL}
    clicked = run.click(describe, inputs, outputs, api_name="describe", **busy)
    given = picture.input(describe_given, inputs, outputs, api_visibility="private",
                          trigger_mode="always_last", **busy)
    chosen = examples.click(example, None, picture, **QUIET).then(
        describe, inputs, outputs, api_visibility="private", **busy)
    emptied = picture.clear(lambda: {"hint": HINT}, None, view, **QUIET)
    drop_refused(clicked, refused, picture)
    instruction.submit(describe, inputs, outputs, api_visibility="private", **busy)
    presets.click(_preset, language, instruction, **QUIET)
    language.change(_other_language, [language, instruction], [instruction, presets], **QUIET)
    return PictureTab(picture, (drop_refused(given, refused, picture), chosen, emptied))


def narrate(engine: Engine, photo: Picture, instruction: str | None, language: str,
            decoding: Decoding) -> Iterator[dict[str, Any]]:
    """Payloads for the viewer: the picture at once, the caption as it grows, then its maps."""
    shown = {"picture": viewer.display(photo)}
    yield {**shown, "writing": ""}
    caption = None
    for caption in engine.stream(photo, instruction or "", language, decoding):
        yield {**shown, "writing": caption.text}
    text = caption.text if caption is not None else ""
    if caption is None or "explain" not in engine.info.tasks:
        yield {**shown, "written": text, "reason": engine.info.missing.get("explain", "")}
        return
    maps = [viewer.dress(explanation, text) for explanation in engine.explain(photo, caption)]
    yield finished(engine, shown, maps, text)


def finished(engine: Engine, shown: dict[str, Any], maps: list[Explanation],
             text: str) -> dict[str, Any]:
    """The last payload: the maps, or the bare text where it has no word to explain."""
    if not maps:
        return {**shown, "written": text or "The model had nothing to say."}
    return {**shown, "model": engine.info.name, "texts": viewer.texts(maps)}


def decoding_of(strategy: str, beams: float, length_penalty: float, temperature: float,
                top_p: float, seed: float | None, max_tokens: float, min_tokens: float,
                repetition_penalty: float) -> Decoding:
    """The controls' values as a `Decoding`.

    Raises:
        ConfigError: one of them is out of its range.
    """
    return Decoding(strategy, int(beams), float(length_penalty), float(temperature), float(top_p),
                    int(seed or 0), int(max_tokens), int(min_tokens), float(repetition_penalty))


def _preset_chips(language: str) -> str:
    return chips(list(PRESETS[language].values()), "Ready-made instructions")


def _preset(event: gr.EventData, language: str) -> str:
    return list(PRESETS[language].values())[event.index]


def _other_language(language: str, instruction: str) -> tuple[str, str]:
    """A ready-made instruction changes with the language; what the person wrote stays."""
    for known in PRESETS.values():
        for name, text in known.items():
            if text == instruction.strip():
                return PRESETS[language][name], _preset_chips(language)
    return instruction or default_instruction(language), _preset_chips(language)


def _decoding_controls() -> list[Any]:
    """The accordion "More"; in the order that `decoding_of` takes them."""
    start = Decoding()
    with gr.Accordion("More: how the words are chosen", open=False, elem_id="describe-more"):
        strategy = gr.Radio(STRATEGIES, value=start.strategy, label="Way of writing")
        beams = gr.Slider(1, 10, start.beams, step=1, label="Sentences kept side by side")
        length = gr.Slider(-2, 2, start.length_penalty, step=0.1,
                           label="Length: left for shorter, right for longer")
        temperature = gr.Slider(0.05, 5, start.temperature, step=0.05, visible=False,
                                label="Temperature: left for safe, right for surprising")
        top_p = gr.Slider(0.01, 1, start.top_p, step=0.01, visible=False,
                          label="Top-p: draw from the likeliest words up to this probability")
        seed = gr.Number(start.seed, precision=0, minimum=0, visible=False,
                         label="Seed: the same number gives the same words")
        longest = gr.Slider(1, 100, start.max_tokens, step=1,
                            label="Longest text, in tokens (about a word each)")
        shortest = gr.Slider(0, 100, start.min_tokens, step=1, label="Shortest text, in tokens")
        repetition = gr.Slider(1, 3, start.repetition_penalty, step=0.1,
                               label="Against repetition: 1 is off")
    beam_only: list[Any] = [beams, length]
    sample_only: list[Any] = [temperature, top_p, seed]
    strategy.change(
        lambda chosen: [gr.update(visible=chosen == "beam") for _ in beam_only]
        + [gr.update(visible=chosen == "sample") for _ in sample_only],
        strategy, beam_only + sample_only, **QUIET)
    return [strategy, beams, length, temperature, top_p, seed, longest, shortest, repetition]
