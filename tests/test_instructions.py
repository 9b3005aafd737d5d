"""Which instructions a checkpoint knows, and that the app offers these and no others."""

from pathlib import Path

import gradio as gr
import pytest
from conftest import make_model

from vitdemo.backends.native import NativeBackend
from vitdemo.device import pick
from vitdemo.engine import Engine
from vitdemo.instructions import default_instruction, in_language, is_preset, presets, taught
from vitdemo.models.checkpoint import save_checkpoint
from vitdemo.texts import phrase
from vitdemo.tokens import TextTokenizer
from vitdemo.ui import Settings
from vitdemo.ui.components import Context
from vitdemo.ui.session import Sessions
from vitdemo.ui.tabs.describe import build_describe

KEYS = ("describe", "short", "things", "people", "place", "colours")


def test_every_instruction_is_there_in_both_languages_and_means_one_thing() -> None:
    assert {language: tuple(keys) for language, keys in taught().items()} == {
        "en": KEYS, "zh": KEYS}
    texts = [text for keys in taught().values() for own in keys.values() for text in own]
    assert len(texts) == len(set(texts)) and all(text == text.strip() != "" for text in texts)
    assert is_preset(f" {default_instruction('zh')}") and not is_preset("a photo of")


@pytest.mark.parametrize(("figures", "told"), [
    ({"yes_no": {"right": 0.6, "blank": 0.5}}, (0.6, 0.5)), ({}, ()), (None, ()),
    ({"yes_no": {"right": 0.6}}, ()), ({"yes_no": {"right": 60.0, "blank": 0.5}}, ())])
def test_how_well_a_checkpoint_says_yes_and_no_is_only_told_where_it_was_measured(
        figures: object, told: tuple[float, ...], tmp_path: Path, tokenizer: TextTokenizer
        ) -> None:
    save_checkpoint(tmp_path / "model", make_model(tokenizer), tokenizer, {"figures": figures})
    assert NativeBackend.load(tmp_path / "model", pick("cpu")).info.yes_no == told


@pytest.mark.parametrize(("listed", "known"), [
    (None, ("describe", "short")), (["short", "people"], ("describe", "short", "people")),
    (list(KEYS), KEYS), (["sing"], ("describe",)), ("short", ("describe", "short"))])
def test_the_app_offers_what_the_checkpoint_knows(
        listed: object, known: tuple[str, ...], tmp_path: Path, tokenizer: TextTokenizer) -> None:
    meta = {} if listed is None else {"instructions": listed}
    save_checkpoint(tmp_path / "model", make_model(tokenizer), tokenizer, meta)
    backend = NativeBackend.load(tmp_path / "model", pick("cpu"))
    assert backend.info.instructions == known
    assert tuple(presets("en", known)) == known
    engine = Engine(backend)
    assert engine.understood("Describe this photo.", "en") == "describe"
    assert engine.understood("has a dog", "en") in ("", *known)
    with gr.Blocks() as page:
        build_describe(Context(engine, Settings(), Sessions(), ()))
    [chips] = [block.value for block in page.blocks.values()
               if getattr(block, "elem_id", "") == "describe-presets"]
    for key in KEYS:
        assert (f">{phrase(f'instruction.{key}')}</button>" in chips) == (key in known)


def test_an_offered_instruction_is_known_in_every_language() -> None:
    assert in_language("Describe the picture. ", "zh") == default_instruction("zh")
    assert in_language(default_instruction("zh"), "zh") == default_instruction("zh")
    assert in_language("What is odd here?", "zh") == "What is odd here?"
