"""Settings: the dial, and every bad value refused by its name."""

import dataclasses

import pytest

from vitdemo.config import SIZES, Decoding, EngineConfig, ModelConfig
from vitdemo.errors import ConfigError


@pytest.mark.parametrize("size", SIZES)
def test_the_dial_gives_a_whole_configuration(size: str) -> None:
    config = ModelConfig.from_size(size)
    assert config.size == size and config.backbone == SIZES[size]["backbone"]
    assert config.width % config.heads == 0 and config.width % config.text_heads == 0


def test_a_field_can_be_changed_on_top_of_the_dial() -> None:
    config = ModelConfig.from_size("tiny", width=32, fusion="concat", modulation=False)
    assert (config.width, config.fusion, config.modulation) == (32, "concat", False)
    assert config.heads == SIZES["tiny"]["heads"]


def test_a_configuration_comes_back_from_its_fields() -> None:
    config = ModelConfig.from_size("small")
    assert ModelConfig(**dataclasses.asdict(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.width = 3  # type: ignore[misc]


@pytest.mark.parametrize("changes, named", [
    ({"width": 0}, "width is 0"), ({"width": -4}, "width is -4"), ({"width": 2.5}, "width is 2.5"),
    ({"width": "64"}, "width is '64'"), ({"heads": 5}, r"heads is 5.*divisor of width"),
    ({"text_heads": 7}, "text_heads is 7"), ({"fusion": "sum"}, "fusion is 'sum'.*concat"),
    ({"vocabulary": 0}, "vocabulary"), ({"max_text_tokens": 0}, "max_text_tokens"),
    ({"wdth": 3}, "wdth is 3.*there is none"),
])
def test_bad_model_settings(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ModelConfig.from_size("tiny", **changes)


def test_an_unknown_size() -> None:
    with pytest.raises(ConfigError, match=r"size is 'huge'.*tiny, small, base"):
        ModelConfig.from_size("huge")


@pytest.mark.parametrize("changes, named", [
    ({"strategy": "magic"}, "strategy is 'magic'"), ({"beams": 0}, "beams is 0.*from 1 to 10"),
    ({"beams": 11}, "beams is 11"), ({"beams": 2.5}, "beams is 2.5.*whole"),
    ({"beams": "3"}, "beams is '3'"), ({"length_penalty": -3}, "length_penalty"),
    ({"temperature": 0}, "temperature is 0"), ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": None}, "temperature is None.*a number"),
    ({"top_p": 0}, "top_p"), ({"top_p": 1.1}, "top_p"), ({"seed": -1}, "seed is -1"),
    ({"seed": 1.5}, "seed is 1.5"), ({"max_tokens": 0}, "max_tokens is 0"),
    ({"max_tokens": 101}, "max_tokens"), ({"max_tokens": 5, "min_tokens": 6}, "min_tokens is 6"),
    ({"repetition_penalty": 0.9}, "repetition_penalty"),
])
def test_bad_decoding_settings(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Decoding(**changes)  # type: ignore[arg-type]


def test_decoding_at_its_bounds() -> None:
    Decoding(beams=1, temperature=0.05, top_p=0.01, max_tokens=1, repetition_penalty=1)
    Decoding(beams=10, temperature=5, top_p=1, max_tokens=100, min_tokens=100,
             repetition_penalty=3, length_penalty=2, seed=2**40)


@pytest.mark.parametrize("value", [0, -1, 1.5, "8"])
def test_bad_engine_settings(value: object) -> None:
    with pytest.raises(ConfigError, match="cached_pictures"):
        EngineConfig(cached_pictures=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cached_megabytes"):
        EngineConfig(cached_megabytes=value)  # type: ignore[arg-type]
