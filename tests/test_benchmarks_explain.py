"""The benchmark of explanations on the tiny model: what it counts, and that it runs."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import make_picture
from PIL import Image

from benchmarks import explain
from benchmarks.caption import example_picture
from benchmarks.timing import Timing, interleaved
from vitdemo.backends.native import NativeBackend
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.engine import Engine
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import open_picture
from vitdemo.records import Caption, Request
from vitdemo.tokens import TextTokenizer

SAID = Caption("A dog.", "a dog", "en", "Describe the picture.", 0.0, 0.0)


def test_the_masked_pictures_are_those_of_the_evidence(native_backend: NativeBackend) -> None:
    picture = open_picture(example_picture())
    counts: list[tuple[int, int]] = []
    Engine(native_backend).evidence(picture, SAID, words=[1],
                                    progress=lambda done, of: counts.append((done, of)))
    masked = explain.masked_pictures(native_backend, picture, SAID, 1)
    assert len(masked) == counts[-1][1] >= 10
    assert all(isinstance(one, Image.Image) for one in masked)
    assert "encode_pictures" not in vars(native_backend)  # nothing is left behind


def test_the_plain_pass_gives_the_same_probabilities(native_backend: NativeBackend) -> None:
    picture = example_picture()
    logs = explain.plain_pass(native_backend, [picture, picture], SAID)()
    ids = native_backend.tokenizer.pieces("a dog")[0]
    request = Request(SAID.instruction, "a dog", "en", "caption")
    want = native_backend.word_probabilities(native_backend.encode_pictures([picture]),
                                             request)[0][0]
    places = native_backend.tokenizer.word_tokens("a dog")
    found = [float(np.exp(sum(logs[1, token, ids[token]] for token in tokens)))
             for _, tokens in places]
    assert found == pytest.approx(want.tolist(), rel=1e-3)


def test_maps_of_a_caption_use_the_memory_it_was_written_from(
        tiny_model: VLM, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend() -> NativeBackend:
        return NativeBackend(tiny_model, tokenizer, name="tiny", revision="1",
                             placement=pick("cpu"))

    request = Request("describe", "a dog runs", "en", "caption")
    one, other = (open_picture(make_picture(seed)).image for seed in (1, 2))
    want = [found.explain(found.encode_pictures([image])[0], request)[0]
            for image in (one, other) for found in [backend()]]
    read: list[int] = []
    encode = tiny_model.encode_text
    monkeypatch.setattr(tiny_model, "encode_text",
                        lambda *given: read.append(1) or encode(*given))
    same = backend()
    for image, maps in zip((one, other), want, strict=True):
        features = same.encode_pictures([image])[0]
        list(same.generate(features, "describe", "en", Decoding(max_tokens=4, fit=0)))
        (found,) = same.explain(features, request)
        assert (found.weights == maps.weights).all()
        assert found.word_probabilities == maps.word_probabilities
    assert len(read) == 2  # the instruction once for each picture
    same.explain(features, replace(request, instruction="what is this?"))
    assert len(read) == 3


def test_it_runs(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way once, on a text of a few words; the tiny model's own runs on to the limit."""
    said_of = explain.said_of
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(explain, "GREEDY", replace(explain.GREEDY, max_tokens=4))
    monkeypatch.setattr(explain, "Decoding", lambda: Decoding(max_tokens=4))
    monkeypatch.setattr(explain, "said_of", lambda backend, picture: replace(
        said_of(backend, picture), text=SAID.text, raw_text=SAID.raw_text))

    def once(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
        for name, way in ways.items():
            way()
            ran.append((name, repeats))
        return {name: Timing((1.0 + place,)) for place, name in enumerate(ways)}

    monkeypatch.setattr(explain, "interleaved", once)
    result = explain.measure(str(tiny_checkpoint), 2, browser=False)
    ratios = result["ratios"]
    assert set(ratios) >= {"evidence for one word / plain pass",
                           "evidence for one word / same pass, in batches",
                           "caption with cross-attention / caption"}
    assert all(value > 0 for value in ratios.values())
    assert result["masked_pictures"] >= 10 and "milliseconds" not in result
    assert dict(ran).keys() == result["seconds"].keys() and len(ran) == len(dict(ran))
    assert dict(ran)["plain pass"] == 2 and dict(ran)["caption"] == 2 * explain.QUICK


def test_every_way_is_timed_as_often_as_was_asked() -> None:
    calls: list[str] = []
    found = interleaved({name: partial(calls.append, name) for name in "ab"}, 2, progress=False)
    assert calls == ["b", "a", "a", "b", "b", "a"]  # the first turn warms up
    assert all(len(time.seconds) == 2 and min(time.seconds) > 0 for time in found.values())


@pytest.mark.browser
@pytest.mark.skipif(not importlib.util.find_spec("playwright"), reason="needs playwright")
def test_the_change_of_word_is_seen_in_the_page() -> None:
    if not explain.chromium():
        pytest.fail("no Chromium was found; name one in the variable CHROMIUM")
    picture = open_picture(example_picture())
    maps = explain.made_up_maps(picture)
    assert maps.weights.shape == explain.SHAPE
    found = explain.change_of_word({"made up": maps}, picture, rounds=1)["made up"]
    assert found["clicks"] == len(maps.words) == 15
    assert 0 < found["drawn"] <= found["drawn_max"] < 2000
    assert 0 < found["work"] < 2000
    assert found["drawn"] <= found["shown"] <= found["shown_max"] < 4000
