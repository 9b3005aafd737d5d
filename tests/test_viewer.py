"""What the viewer is fed: exact weights, boxes in the original's pixels, colour maps, texts."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from fake_engine import GRID, planted_engine, planted_map
from PIL import Image

from vitdemo import viewer
from vitdemo.preprocess import open_picture
from vitdemo.records import Explanation, Word
from vitdemo.viewer import build


def explanation(weights: np.ndarray, text: str = "a b", source: str = "caption") -> Explanation:
    words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", text))
    boxes = np.array([[0, 0, 5, 10], [5, 0, 10, 10]], dtype=np.float32)
    names = tuple(f"layer {i}" for i in range(weights.shape[0]))
    return Explanation(text, source, words, weights.astype(np.float32), boxes, (1, 2), (10, 10),
                       "cross-attention", names)


def decode(text: dict) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(text["weights"]), "<u2" if text["bits"] == 16 else "u1")
    return text["scale"] * (raw / (2 ** text["bits"] - 1)) ** 2


@pytest.mark.parametrize("fine_values", [build.FINE_VALUES, 0])
def test_weights_survive_the_journey(monkeypatch: pytest.MonkeyPatch, fine_values: int) -> None:
    monkeypatch.setattr(build, "FINE_VALUES", fine_values)
    weights = np.random.default_rng(0).dirichlet([0.1, 0.1], size=(2, 3, 2)) * 0.7
    text = viewer.texts([explanation(weights)])[0]
    assert text["bits"] == (16 if fine_values else 8)
    assert text["shape"] == [2, 3, 2, 2]
    error = np.abs(decode(text) - weights.ravel()).max()
    assert error <= text["scale"] / (2 ** text["bits"] - 1)


def test_all_zero_weights_stay_zero() -> None:
    text = viewer.texts([explanation(np.zeros((1, 1, 2, 2)))])[0]
    assert text["scale"] == 0 and not decode(text).any()


def test_payload_names_the_originals_pixels_though_the_copy_is_smaller() -> None:
    picture = open_picture(Image.new("RGB", (4000, 1000), "red"))
    engine = planted_engine()
    caption = engine.caption(picture)
    payload = viewer.payload(engine.explain(picture, caption), picture, "planted")
    assert (payload["picture"]["width"], payload["picture"]["height"]) == (4000, 1000)
    kind, data = payload["picture"]["url"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1600, 400)
    text = payload["texts"][0]
    boxes = np.array(text["boxes"]).reshape(-1, 4)
    assert boxes[-1].tolist() == [3500, pytest.approx(833.33, abs=0.01), 4000, 1000]
    assert text["grid"] == list(GRID) and text["layers"] == ["Step 1", "Step 2"]
    weights = decode(text).reshape(text["shape"])
    left = [caption.raw_text[a:b] for a, b in text["words"]].index("left")
    assert np.allclose(weights[0, 0, left], planted_map("left"), atol=1e-5)


def test_a_small_picture_is_not_enlarged() -> None:
    shown = viewer.display(open_picture(Image.new("RGB", (50, 40))))
    data = base64.b64decode(shown["url"].split(",", 1)[1])
    assert Image.open(io.BytesIO(data)).size == (50, 40)


def test_dress_keeps_the_words_and_takes_the_written_form() -> None:
    bare = explanation(np.ones((1, 1, 2, 2)) / 2, "a dog")
    dressed = viewer.dress(bare, "A dog.")
    assert dressed.text == "A dog." and [w.text for w in dressed.words] == ["A", "dog"]
    assert viewer.dress(bare, "Something else entirely.") is bare
    owl = viewer.dress(explanation(np.ones((1, 1, 2, 2)) / 2, "a owl"), "An owl.")
    assert [word.text for word in owl.words] == ["An", "owl"]


def test_a_text_names_the_word_to_show_first_and_those_that_are_unsure() -> None:
    one = replace(explanation(np.ones((1, 1, 4, 2)) / 2, "a dog on grass"),
                  word_probabilities=(0.9, 0.1, 0.9, 0.6),
                  blank_probabilities=(0.9, 0.09, 0.9, 0.02))
    text = viewer.texts([one])[0]
    assert (text["first"], text["unsure"]) == (3, [1])


def test_colour_maps_are_matplotlibs() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    source = viewer.script()
    for name in ("cividis", "viridis", "magma"):
        block = re.search(rf'^  {name}:\n((?:    ".*\n)+)', source, re.M)
        assert block, name
        table = base64.b64decode("".join(re.findall(r'"([^"]+)"', block.group(1))))
        wanted = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
        assert np.array_equal(np.frombuffer(table, np.uint8).reshape(256, 3), wanted), name


def test_script_and_styles_need_nothing_from_outside() -> None:
    for text in (viewer.script(), viewer.gradio_script(), viewer.styles()):
        assert not re.search(r"https?://|@import|url\(|\bfetch\(|XMLHttpRequest", text)
    assert "function mountViewer(" in viewer.script()
    # Gradio reads the CSS as a template: these would be replaced.
    assert "`" not in viewer.styles() and "${" not in viewer.styles()
    assert "{{" not in viewer.styles() and "\\" not in viewer.styles()
