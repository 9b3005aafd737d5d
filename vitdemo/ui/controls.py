"""The controls of how words are chosen, and the settings that their values make."""

from typing import Any

import gradio as gr

from vitdemo.config import Decoding
from vitdemo.records import ModelInfo
from vitdemo.texts import phrase
from vitdemo.ui.components import QUIET

STRATEGIES = ("beam", "greedy", "sample")

# The fields of `Decoding` in the order of the controls.
FIELDS = ("strategy", "beams", "length_penalty", "temperature", "top_p", "seed", "max_tokens",
          "min_tokens", "repetition_penalty", "fit")


def decoding_controls(info: ModelInfo) -> list[Any]:
    """Lay out those that the model heeds; in the order that `decoding_of` takes them."""
    start = Decoding()
    strategy = gr.Radio([(phrase(f"decoding.{one}"), one) for one in STRATEGIES],
                        value=start.strategy, label=phrase("decoding.strategy"))
    beams = gr.Slider(1, 10, start.beams, step=1, label=phrase("decoding.beams"))
    length = gr.Slider(-2, 2, start.length_penalty, step=0.1, label=phrase("decoding.length"))
    temperature = gr.Slider(0.05, 5, start.temperature, step=0.05, visible=False,
                            label=phrase("decoding.temperature"))
    top_p = gr.Slider(0.01, 1, start.top_p, step=0.01, visible=False,
                      label=phrase("decoding.top_p"))
    seed = gr.Number(start.seed, precision=0, minimum=0, visible=False,
                     label=phrase("decoding.seed"))
    longest = gr.Slider(1, 100, start.max_tokens, step=1, label=phrase("decoding.longest"))
    shortest = gr.Slider(0, 100, start.min_tokens, step=1, label=phrase("decoding.shortest"))
    repetition = gr.Slider(1, 3, start.repetition_penalty, step=0.1,
                           label=phrase("decoding.repetition"))
    fit = gr.Slider(0, 20, start.fit, step=0.5, label=phrase("decoding.fit"),
                    visible=info.weighs_captions)
    beam_only: list[Any] = [beams, length, *[fit] * info.weighs_captions]
    sample_only: list[Any] = [temperature, top_p, seed]
    strategy.change(
        lambda chosen: [gr.update(visible=chosen == "beam") for _ in beam_only]
        + [gr.update(visible=chosen == "sample") for _ in sample_only],
        strategy, beam_only + sample_only, **QUIET)
    return [strategy, beams, length, temperature, top_p, seed, longest, shortest, repetition,
            fit]


def decoding_of(strategy: str, beams: float, length_penalty: float, temperature: float,
                top_p: float, seed: float | None, max_tokens: float, min_tokens: float,
                repetition_penalty: float, fit: float = Decoding.fit) -> Decoding:
    """The controls' values as a `Decoding`.

    Raises:
        ConfigError: one of them is out of its range.
    """
    return Decoding(strategy, int(beams), float(length_penalty), float(temperature), float(top_p),
                    int(seed or 0), int(max_tokens), int(min_tokens), float(repetition_penalty),
                    float(fit))


def decoding_settings(decoding: Decoding, info: ModelInfo) -> dict[str, str]:
    """The settings that had an effect, as a report names them."""
    names = {"beam": ("beams", "length_penalty", *["fit"] * info.weighs_captions),
             "sample": ("temperature", "top_p", "seed")}
    used = ("strategy", *names.get(decoding.strategy, ()), "max_tokens", "min_tokens",
            "repetition_penalty")
    return {phrase(f"setting.{name}"): str(getattr(decoding, name)) for name in used}
