"""The controls of how words are chosen, and the settings that their values make."""

from typing import Any

import gradio as gr

from vitdemo.config import Decoding
from vitdemo.records import ModelInfo
from vitdemo.texts import phrase
from vitdemo.ui.components import QUIET

STRATEGIES = ("beam", "greedy", "sample")
# The fields of `Decoding`, in their order: least, most and step of each number's slider. A seed has
# a field to type it.
NUMBERS = {"beams": (1, 10, 1), "length_penalty": (-2, 2, 0.1), "temperature": (0.05, 5, 0.05),
           "top_p": (0.01, 1, 0.01), "seed": (0, None, 1), "max_tokens": (1, 100, 1),
           "min_tokens": (0, 100, 1), "repetition_penalty": (1, 3, 0.1), "fit": (0, 20, 0.5)}
FIELDS = ("strategy", *NUMBERS)
# Those that one way of writing alone heeds.
OWN = {"beam": ("beams", "length_penalty", "fit"), "sample": ("temperature", "top_p", "seed")}


def heeded(strategy: str, info: ModelInfo) -> list[str]:
    """The fields that have an effect, in their order."""
    others = {name for key, names in OWN.items() if key != strategy for name in names}
    return [name for name in FIELDS
            if name not in others and (name != "fit" or info.weighs_captions)]


def decoding_controls(info: ModelInfo) -> list[Any]:
    """Lay them out in the order of `FIELDS`; only those that are heeded are seen."""
    start = Decoding()
    seen = heeded(start.strategy, info)
    strategy = gr.Radio([(phrase(f"decoding.{one}"), one) for one in STRATEGIES],
                        value=start.strategy, label=phrase("decoding.strategy"))
    numbers: list[Any] = []
    for name, (least, most, step) in NUMBERS.items():
        settings: dict[str, Any] = {"value": getattr(start, name), "visible": name in seen,
                                    "label": phrase(f"decoding.{name}")}
        numbers.append(gr.Number(minimum=least, precision=0, **settings) if most is None
                       else gr.Slider(least, most, step=step, **settings))
    strategy.change(lambda chosen: [gr.update(visible=name in heeded(chosen, info))
                                    for name in NUMBERS], strategy, numbers, **QUIET)
    return [strategy, *numbers]


def decoding_of(strategy: str, *numbers: float | None) -> Decoding:
    """The controls' values, in their order, as a `Decoding`.

    Raises:
        ConfigError: one of them is out of its range.
    """
    kinds = [type(getattr(Decoding(), name)) for name in NUMBERS]
    return Decoding(strategy, *(kind(number or 0) for kind, number in zip(kinds, numbers,
                                                                         strict=False)))


def decoding_settings(decoding: Decoding, info: ModelInfo) -> dict[str, str]:
    """The settings that had an effect, as a report names them."""
    return {phrase(f"setting.{name}"): str(getattr(decoding, name))
            for name in heeded(decoding.strategy, info)}
