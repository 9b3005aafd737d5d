"""The tab Compare without a browser: what stands on its two sides, and its second model."""

from typing import Any

import gradio as gr
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError, ConfigError, TaskError, TextError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.ui import Settings, build_ui
from vitdemo.ui.tabs.compare import KEPT, Choice, Models, compared


@pytest.fixture(scope="module")
def engine() -> Engine:
    return planted_engine()


def photo(colour: str = "red") -> Picture:
    return open_picture(Image.new("RGB", (64, 48), colour))


def said(payload: dict[str, Any]) -> list[str]:
    return [payload[side]["texts"][-1]["text"] for side in ("left", "right")]


def test_two_pictures_stand_side_by_side(engine: Engine) -> None:
    payload = compared([engine, engine], [photo("red"), photo("blue")], Choice("pictures", "each"))
    assert [payload[side]["name"] for side in ("left", "right")] == ["First picture",
                                                                     "Second picture"]
    assert payload["left"]["picture"]["url"] != payload["right"]["picture"]["url"]
    assert said(payload) == ["A cat on the left and a dog on the right."] * 2


def test_two_instructions_are_followed_side_by_side(engine: Engine) -> None:
    one = photo()
    payload = compared([engine, engine], [one, one], Choice(
        "instructions", first_instruction="Say: a cat", second_instruction="Say: a dog"))
    assert said(payload) == ["A cat.", "A dog."]
    assert [payload[side]["name"] for side in ("left", "right")] == ["Say: a cat", "Say: a dog"]


def test_two_methods_explain_the_same_words(engine: Engine) -> None:
    one = photo()
    payload = compared([engine, engine], [one, one],
                       Choice("methods", "first", first_method="relevancy",
                              second_method="grad-cam"))
    assert [payload[side]["texts"][0]["method"] for side in ("left", "right")] == [
        "relevancy", "grad-cam"]
    assert payload["left"]["name"] != payload["right"]["name"]
    assert payload["left"]["texts"][0]["weights"] != payload["right"]["texts"][0]["weights"]


def test_a_sentence_of_ones_own_is_explained_as_it_is(engine: Engine) -> None:
    payload = compared([engine, engine], [photo(), photo("blue")],
                       Choice("pictures", "own", "top and bottom"))
    assert said(payload) == ["top and bottom"] * 2
    with pytest.raises(TextError, match="empty"):
        compared([engine, engine], [photo(), photo()], Choice("pictures", "own", " "))


def test_two_models_explain_the_first_ones_words_or_each_its_own(engine: Engine) -> None:
    other = planted_engine()
    other._backend.info = type(other.info)(**{**vars(other.info), "revision": "2"})
    one = photo()
    payload = compared([engine, other], [one, one], Choice("models", "first", language="zh"))
    assert said(payload)[0] == said(payload)[1] and "左边" in said(payload)[0]
    assert [payload[side]["name"] for side in ("left", "right")] == ["planted (1)", "planted (2)"]
    payload = compared([engine, other], [one, one], Choice("models", "each"))
    assert payload["right"]["texts"][0]["source"] == "caption"


def test_what_the_second_model_cannot_do_is_one_sentence(engine: Engine) -> None:
    one = photo()
    blind = planted_engine(tasks=("caption",), missing={"explain": "no attention to show"})
    with pytest.raises(TaskError, match="no attention to show"):
        compared([engine, blind], [one, one], Choice("models", "first"))
    english = planted_engine()
    english._backend.info = type(english.info)(**{**vars(english.info), "languages": ("en",)})
    with pytest.raises(TaskError, match="does not know the language"):
        compared([engine, english], [one, one], Choice("models", "first", language="zh"))
    with pytest.raises(ConfigError, match="magic"):
        compared([engine, engine], [one, one],
                 Choice("methods", "first", first_method="magic", second_method="relevancy"))


def test_second_models_are_loaded_once_and_few_are_kept() -> None:
    loaded: list[str] = []

    def load(name: str) -> Engine:
        if name == "nothing":
            raise CheckpointError("There is no checkpoint folder 'nothing'.")
        loaded.append(name)
        return planted_engine()

    models = Models(load)
    first = models.get(' "one" ')
    assert models.get("one") is first and loaded == ["one"] and models.holds("one ")
    for name in ("two", "three")[:KEPT]:
        models.get(name)
    assert not models.holds("one")
    with pytest.raises(CheckpointError, match="Name the second model"):
        models.get("  ")
    with pytest.raises(CheckpointError, match="nothing"):
        models.get("nothing")
    assert not models.holds("nothing")


def choices(blocks: gr.Blocks, elem_id: str) -> list[str]:
    found = [block for block in blocks.blocks.values() if getattr(block, "elem_id", "") == elem_id]
    return [value for _, value in found[0].choices]


def test_other_models_are_offered_to_the_owner_alone(engine: Engine) -> None:
    assert choices(build_ui(engine), "compare-what") == ["instructions", "pictures", "methods"]
    alone = build_ui(engine, Settings(load_model=lambda name: planted_engine()))
    assert choices(alone, "compare-what") == ["instructions", "pictures", "methods", "models"]


def test_only_words_that_the_model_can_give_are_offered() -> None:
    blocks = build_ui(planted_engine(tasks=("match", "explain"), missing={"caption": "x"}))
    assert choices(blocks, "compare-words") == ["own"]
    blocks = build_ui(planted_engine(tasks=("caption", "explain"), missing={"match": "x"}))
    assert choices(blocks, "compare-words") == ["each"]  # of two instructions
