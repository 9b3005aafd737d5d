"""What every backend keeps to, by what it can do: the engine relies on nothing else. Each is made
with random weights, saved as a user gets it, and loaded through the real path."""

import contextlib
import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import load, noise
from tiny_blip import CLASSES, save_tiny_blip
from tiny_chat import save_tiny_chat
from tiny_clip import KINDS, save_tiny_clip, save_tiny_vilt
from tiny_encdec import save_tiny_encdec
from tiny_gated import save_tiny_idefics, save_tiny_mllama
from tiny_prefix import MODELS as PREFIX
from tiny_prefix import save_tiny_prefix

from vitdemo.attention.capture import record
from vitdemo.attention.methods import METHODS
from vitdemo.attention.trace import Regions, Rows
from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.backends.offers import forecast
from vitdemo.config import Decoding, EngineConfig
from vitdemo.errors import ConfigError, TaskError, TextError
from vitdemo.instructions import presets
from vitdemo.records import ALL_TASKS, LANGUAGES, Explanation, Request, Unread
from vitdemo.viewer.build import PARTS
from vitdemo.words import split_words

GREEDY = Decoding(strategy="greedy", max_tokens=8)
TEXTS = ("a dog runs on the beach", "two red cats", "a man with a hat sits in the street")
QUESTION, ANSWER = "what colour is the dog?", "red"


def save_tiny_blips(folder: Path, seed: int) -> str:
    """One of each kind, and how the three are named."""
    return "blip:" + "+".join(str(save_tiny_blip(folder / kind, kind, number))
                              for number, kind in enumerate(CLASSES, start=seed))


# How each is saved: a name by which it is loaded, from a folder and a seed.
FAMILIES: dict[str, tuple[Callable[..., Path | str], int]] = {
    "blip": (save_tiny_blips, 1),
    "idefics": (save_tiny_idefics, 3),
    "idefics_latents": (partial(save_tiny_idefics, latents=5), 3),
    "mllama": (save_tiny_mllama, 3),
    "vilt": (save_tiny_vilt, 3),
    **{kind: (partial(save_tiny_chat, kind=kind), 1) for kind in (
        "smolvlm", "llava", "llava_onevision", "qwen2_5_vl", "paligemma", "gemma3",
        "internvl")},
    **{kind: (partial(save_tiny_prefix, kind=kind), 1) for kind in PREFIX},
    **{kind: (partial(save_tiny_clip, kind=kind), 3) for kind in KINDS},
    **{kind: (partial(save_tiny_encdec, kind=kind), 3) for kind in (
        "florence2", "vit_gpt2", "trocr", "donut", "pix2struct")},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path | str]:
    """By which name each of `FAMILIES` is loaded, saved once."""
    @functools.cache
    def made(name: str) -> Path | str:
        save, seed = FAMILIES[name]
        return save(tmp_path_factory.mktemp(name) / "tiny", seed=seed)

    return made


@pytest.fixture(scope="module")
def family(saved: Callable[[str], Path | str]) -> Callable[[str], Backend]:
    """Each of `FAMILIES`, loaded once."""
    return functools.cache(lambda name: load(saved(name)))


@pytest.fixture(params=["native", *FAMILIES])
def backend(request: pytest.FixtureRequest, family: Callable[[str], Backend],
            native_backend: Backend) -> Backend:
    return native_backend if request.param == "native" else family(request.param)


def need(backend: Backend, *tasks: str) -> None:
    """Skip what a model was not made for."""
    if not backend.info.tasks.issuperset(tasks):
        pytest.skip(f"{backend.info.family} does not do {' and '.join(tasks)}")


def main_task(backend: Backend) -> str:
    """A task whose words are explained: that of a model that describes, or compares."""
    return "caption" if "caption" in backend.info.tasks else "match"


@pytest.fixture
def features(backend: Backend) -> list[PictureFeatures]:
    return backend.encode_pictures([noise(90, 60), noise(40, 64, 1), noise(8, 8, 2)])


def last(steps: Iterator[Step]) -> Step:
    *_, step = steps
    return step


def explain(backend: Backend, features: PictureFeatures, task: str, text: str,
            instruction: str = "", method: str = "") -> tuple[Explanation, ...]:
    return backend.explain(features, Request(instruction, text, "en", task), method)


def test_info_is_consistent(backend):
    info = backend.info
    assert info.name
    assert info.family
    assert info.revision
    assert info.tasks <= set(ALL_TASKS)
    assert set(info.missing) == set(ALL_TASKS) - info.tasks
    assert info.languages
    assert set(info.languages) <= set(LANGUAGES)
    assert (info.dimension > 0) == ("embed" in info.tasks)
    assert info.methods[0] in METHODS
    looks = {"cross-attention", "rollout"} if "caption" in info.tasks else set()  # of a text
    assert looks | {"relevancy", "grad-cam"} <= set(info.methods)
    assert set(info.methods) <= set(METHODS) - {"occlusion"}, "the engine's own"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_said_before_it_is_loaded_is_true(name, saved, family):
    info = family(name).info
    names = str(saved(name)).removeprefix("blip:").split("+")
    found = [one for folder in names for one in forecast(EngineConfig(model=folder))]
    assert {task for one in found for task in one.tasks} == info.tasks
    assert {one.languages for one in found} == {info.languages}


def test_each_instruction_that_is_offered_has_an_effect(backend, features):
    need(backend, "caption")
    sure, offered = Decoding("greedy", max_tokens=6, min_tokens=6), presets(
        backend.info.languages[0], backend.info.instructions)
    assert next(iter(offered)) == "describe"
    totals = {last(backend.generate(features[0], text, backend.info.languages[0],
                                    sure)).log_probability for text in offered.values()}
    assert len(totals) == len(offered) == len(backend.info.instructions)


def test_a_mark_of_the_models_own_is_refused_or_read(backend, features):
    tokenizer = getattr(backend, "tokenizer", None)
    if not hasattr(tokenizer, "get_added_vocab"):
        pytest.skip("it has no such marks")
    marks = {*tokenizer.all_special_tokens, *map(str, tokenizer.get_added_vocab())}
    for mark, task in itertools.product([*sorted(marks)[:8], "<image>"], ("caption", "ask")):
        if task in backend.info.tasks:
            call = backend.captions if task == "caption" else backend.answers
            with contextlib.suppress(TextError):
                call(features[:1], f"the {mark} dog", "en", *[GREEDY] * (task == "caption"))


def test_features_know_the_size_of_their_picture(backend, features):
    assert [one.size for one in features] == [(90, 60), (40, 64), (8, 8)]
    assert backend.encode_pictures([]) == []


def test_a_caption_grows_and_ends_with_the_final_step(backend, features):
    need(backend, "caption")
    for strategy in ("greedy", "sample"):
        steps = list(backend.generate(features[0], "", "en",
                                      dataclasses.replace(GREEDY, strategy=strategy)))
        assert [step.final for step in steps] == [False] * (len(steps) - 1) + [True]
        for before, after in itertools.pairwise(steps):
            assert after.text.startswith(before.text) or before.text in after.text
            assert after.log_probability <= before.log_probability <= 0
        assert steps[-1].text == steps[-1].text.strip()
    steps = list(backend.generate(features[0], "", "en", Decoding(beams=3, max_tokens=8)))
    assert [step.final for step in steps] == [False] * (len(steps) - 1) + [True]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(backend, features):
    need(backend, "caption")
    def drawn(seed: int) -> Step:
        return last(backend.generate(features[0], "", "en", Decoding(
            strategy="sample", temperature=3.0, top_p=1.0, max_tokens=12, min_tokens=6,
            seed=seed)))

    assert drawn(7) == drawn(7)
    assert len({drawn(seed).text for seed in range(4)}) > 1


def test_greedy_is_beam_search_with_one_beam(backend, features):
    need(backend, "caption")
    beam = dataclasses.replace(GREEDY, strategy="beam", beams=1)
    assert last(backend.generate(features[0], "", "en", GREEDY)) == \
        last(backend.generate(features[0], "", "en", beam))


def test_beam_search_finds_nothing_less_probable_than_greedy(backend, features):
    need(backend, "caption")
    settings = {"max_tokens": 5, "min_tokens": 5}
    greedy = last(backend.generate(features[0], "", "en", Decoding("greedy", **settings)))
    beam = last(backend.generate(features[0], "", "en", Decoding("beam", beams=8, fit=0,
                                                                 **settings)))
    assert beam.log_probability >= greedy.log_probability - 1e-4


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_the_number_of_tokens_is_kept_to(backend, features, strategy):
    need(backend, "caption")
    texts = []
    for count in (1, 6):
        decoding = Decoding(strategy, max_tokens=count, min_tokens=count, temperature=3.0)
        steps = list(backend.generate(features[0], "", "en", decoding))
        assert len(steps) <= count + 1, "one step a token, and the final one"
        texts.append(steps[-1].text)
    assert len(texts[0].split()) <= 1
    assert len(texts[1].split()) <= 6
    assert len(texts[1]) > len(texts[0])


def test_repetition_can_be_made_dear(backend, features):
    need(backend, "caption")
    for strategy in ("greedy", "beam"):
        decoding = Decoding(strategy, max_tokens=14, min_tokens=14, repetition_penalty=3.0)
        free = dataclasses.replace(decoding, repetition_penalty=1.0)
        dear, plain = (last(backend.generate(features[0], "", "en", one)).text.split()
                       for one in (decoding, free))
        assert len(set(dear)) > len(set(plain)) or len(set(plain)) == len(plain)


def test_texts_depend_on_the_picture(backend, features):
    need(backend, "caption")
    sure = Decoding("greedy", max_tokens=6, min_tokens=6)
    totals = [last(backend.generate(one, "", "en", sure)).log_probability for one in features]
    assert len(set(totals)) == len(totals)


def test_answers_are_sorted_and_are_probabilities(backend, features):
    need(backend, "ask")
    answers = backend.answer(features[0], QUESTION, "en", 5)
    values = [answer.probability for answer in answers]
    assert 1 <= len(answers) <= 5
    assert len({answer.text for answer in answers}) == len(answers)
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    assert sum(values) <= 1 + 1e-5
    assert backend.answer(features[0], QUESTION, "en", 5) == answers
    assert backend.answer(features[0], QUESTION, "en", 1)[0].text == answers[0].text
    assert len(backend.answer(features[0], QUESTION, "en", 2)) <= 2


def test_vectors_are_unit_and_float32(backend, features):
    need(backend, "embed")
    pictures, texts = backend.embed_pictures(features), backend.embed_texts(TEXTS)
    for vectors in (pictures, texts):
        assert vectors.dtype == np.float32
        assert vectors.shape == (3, backend.info.dimension)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    assert backend.embed_pictures([]).shape == backend.embed_texts([]).shape == \
        (0, backend.info.dimension)
    alone = np.concatenate([backend.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, texts, atol=1e-5)
    apart = [backend.embed_pictures(backend.encode_pictures([picture]))
             for picture in (noise(90, 60), noise(40, 64, 1), noise(8, 8, 2))]
    np.testing.assert_allclose(np.concatenate(apart), pictures, atol=1e-5)


def test_scores_are_in_range_and_independent_of_order(backend, features):
    need(backend, "match")
    scores = backend.score_pairs(features, TEXTS)
    assert scores.dtype == np.float32
    assert scores.shape == (3, len(TEXTS))
    assert (scores >= 0).all()
    assert (scores <= 1).all()
    turned = backend.score_pairs(features[::-1], TEXTS[::-1])
    np.testing.assert_allclose(turned[::-1, ::-1], scores, atol=1e-5)
    one = backend.score_pairs(features[1:2], TEXTS[2:])
    np.testing.assert_allclose(one[0, 0], scores[1, 2], atol=1e-5)
    many = backend.score_pairs(features[:1], [TEXTS[i % 3] for i in range(11)])
    np.testing.assert_allclose(many[0], [scores[0, i % 3] for i in range(11)], atol=1e-5)
    assert backend.score_pairs(features, []).shape == (3, 0)
    assert backend.score_pairs([], TEXTS).shape == (0, len(TEXTS))


def check_explanation(found: Explanation, text: str, source: str, size: tuple[int, int]) -> None:
    assert (found.text, found.source, found.picture_size) == (text, source, size)
    assert found.words == split_words(text)
    assert all(text[word.start:word.end] == word.text for word in found.words)
    assert (found.weights >= 0).all()
    assert (found.weights <= 1).all()
    sums = found.weights.sum(axis=-1)
    assert (sums <= 1 + 1e-4).all()
    if (found.method, source) in (("grad-cam", source), ("relevancy", "question")):
        # A word may have used nothing.
        assert ((abs(sums - 1) < 1e-4) | (sums == 0)).all()
    else:
        assert (sums > 0).all()
    check_cover(found, size)
    assert found.method in METHODS
    if found.method != "cross-attention":
        assert found.weights.shape[:2] == (1, 1)
        assert found.note.startswith("Made ")
        assert found.gates == ()
    elif len(found.layer_names) > 1:  # all of them have a word in each language
        assert {name.rpartition(" ")[0] for name in found.layer_names} <= set(PARTS)
    assert len(found.gates) in (0, len(found.layer_names))
    assert len(found.word_probabilities) in (0, len(found.words))
    assert all(0 <= value <= 1 for value in found.word_probabilities)


def check_cover(found: Explanation, size: tuple[int, int]) -> None:
    """The regions lie side by side and leave nothing out of the picture, or of its middle where the
    model crops it."""
    boxes = found.boxes
    left, top, right, bottom = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
    short, middle = min(size) / 2, (size[0] / 2, size[1] / 2)
    crop = (middle[0] - short, middle[1] - short, middle[0] + short, middle[1] + short)
    if "was cut away" in found.note:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    else:
        assert (left, top, right, bottom) in ((0, 0, *size), pytest.approx(crop))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (areas > 0).all()
    assert areas.sum() == pytest.approx((right - left) * (bottom - top), rel=1e-4)
    if found.grid != (0, 0):
        assert found.grid[0] * found.grid[1] == len(boxes)
        assert (boxes[1:, 0] > boxes[:-1, 0])[:found.grid[1] - 1].all(), "row by row"


def test_each_task_is_explained_word_by_word_by_every_method(backend, features):
    texts = {"caption": ("caption",), "ask": ("question", "answer"), "match": ("text",)}
    said = {"caption": TEXTS[0], "question": QUESTION, "answer": ANSWER, "text": TEXTS[1]}
    for picture, method in itertools.product(features, ("", *backend.info.methods)):
        for task in backend.info.tasks & texts.keys():
            found = explain(backend, picture, task, said[texts[task][-1]], QUESTION, method)
            for one, source in zip(found, texts[task], strict=True):
                check_explanation(one, said[source], source, picture.size)
                assert one.method == (method or backend.info.methods[0])
                if source == "caption":
                    assert len(one.word_probabilities) == len(one.words)


def test_a_word_is_as_probable_whatever_the_method(backend, features):
    need(backend, "caption")
    for task, text in (("caption", TEXTS[0]), ("ask", ANSWER)):
        if task not in backend.info.tasks:
            continue
        found = [explain(backend, features[0], task, text, QUESTION, method)[-1].word_probabilities
                 for method in backend.info.methods]
        for one in found[1:]:
            np.testing.assert_allclose(one, found[0], rtol=1e-3)


def test_a_word_has_rivals_and_the_one_that_was_written_is_the_first(backend, features):
    need(backend, "caption")
    sure = Decoding("greedy", max_tokens=6, min_tokens=0, repetition_penalty=1.0)
    first, *_, whole = backend.generate(features[0], "", "en", sure)
    piece = first.text.removeprefix("##")
    for method, text in itertools.product(backend.info.methods, (TEXTS[0], whole.text)):
        (found,) = explain(backend, features[0], "caption", text, method=method)
        assert len(found.rivals) == len(found.words)
        assert text == whole.text or found.words
        for rivals in found.rivals:
            values = [one.probability for one in rivals]
            assert 1 <= len(values) <= 5 and values == sorted(values, reverse=True)
            assert values[-1] >= 0 and sum(values) <= 1 + 1e-5
            assert len({one.text for one in rivals}) == len(rivals)
        trace = backend.traces(features[0], Request("", text, "en", "caption"))[-1]
        if found.words and list(trace.tokens[0])[:1] == [0]:  # it hangs on no other word
            best, written = found.rivals[0][0], np.exp(first.log_probability)
            assert best.text in (piece, found.words[0].text)
            assert best.probability == pytest.approx(written, rel=1e-3) or (
                backend.info.family == "native" and best.probability < written), "it bans marks"
    need(backend, "ask")
    question, answer = explain(backend, features[0], "ask", ANSWER, QUESTION)
    assert question.rivals == () and len(answer.rivals) == len(answer.words)


def test_an_unknown_method_is_refused(backend, features):
    with pytest.raises(ConfigError, match="'magic'; this model can explain by .*relevancy, "):
        explain(backend, features[0], main_task(backend), TEXTS[0], method="magic")


def test_explaining_twice_gives_the_same_numbers(backend, features):
    for method in backend.info.methods:
        (first,), (second,) = (explain(backend, features[0], main_task(backend), TEXTS[0],
                                       method=method) for _ in range(2))
        assert np.array_equal(first.weights, second.weights)
        assert first.word_probabilities == second.word_probabilities


def test_explaining_changes_nothing_that_is_written(backend, features):
    need(backend, "caption")
    before = last(backend.generate(features[0], "", "en", GREEDY))
    for method in backend.info.methods:
        explain(backend, features[1], "caption", TEXTS[0], method=method)
    assert last(backend.generate(features[0], "", "en", GREEDY)) == before


def test_a_word_that_comes_twice_has_two_maps(backend, features):
    for method in backend.info.methods:
        (found,) = explain(backend, features[0], main_task(backend), "a dog and a dog",
                           method=method)
        assert [word.text for word in found.words] == ["a", "dog", "and", "a", "dog"]
        if method == "grad-cam" and not found.weights[:, :, [1, 4]].any():
            continue  # of random weights its ReLU may leave nothing
        if method != "word-region":  # it knows the word and not the sentence
            assert not np.allclose(found.weights[:, :, 1], found.weights[:, :, 4], atol=1e-6), (
                method, found.weights.max())


def test_a_word_is_not_changed_by_what_follows_it(backend, features):
    """A caption is written left to right."""
    need(backend, "caption")
    for method in backend.info.methods:
        (short,) = explain(backend, features[0], "caption", "a dog runs", method=method)
        (long,) = explain(backend, features[0], "caption", "a dog runs on the beach",
                          method=method)
        np.testing.assert_allclose(long.weights[:, :, :3], short.weights, atol=1e-4)
        np.testing.assert_allclose(long.word_probabilities[:3], short.word_probabilities,
                                   rtol=1e-3)


def test_a_very_long_sentence(backend, features):
    count = 200 if "match" in backend.info.tasks else 30  # of words that are letters there
    text = " ".join(TEXTS[i % 3].split()[i % 4] if i % 4 < 3 else "dog" for i in range(count))
    if backend.info.family in KINDS:  # 46 tokens at most, or 62
        with pytest.raises(TextError, match="reads at most"):
            backend.unread(text)
        return
    for task, method in itertools.product(("caption", "match"), backend.info.methods):
        if task in backend.info.tasks:
            (found,) = explain(backend, features[0], task, text, method=method)
            assert len(found.words) == count
            assert np.isfinite(found.weights).all()
    if {"match", "embed"} <= backend.info.tasks:
        assert np.isfinite(backend.embed_texts([text])).all()
        assert np.isfinite(backend.score_pairs(features[:1], [text])).all()


def test_an_empty_caption(backend, features):
    for method in set(backend.info.methods) - {"cross-attention"}:
        (found,) = explain(backend, features[0], main_task(backend), "", method=method)
        assert found.words == () and found.weights.shape[:3] == (1, 1, 0)
    (found,) = explain(backend, features[0], main_task(backend), "")
    assert found.words == ()
    assert found.weights.shape[2] == 0
    layers, heads, _, regions = found.weights.shape
    (full,) = explain(backend, features[0], main_task(backend), TEXTS[0])
    assert (layers, heads, regions) == (*full.weights.shape[:2], full.weights.shape[3])


def calls(features: list[PictureFeatures]) -> dict[str, Callable[[Backend], Any]]:
    return {
        "caption": lambda b: list(b.generate(features[0], "", "en", GREEDY)),
        "ask": lambda b: b.answer(features[0], QUESTION, "en"),
        "match": lambda b: b.score_pairs(features, TEXTS),
        "embed": lambda b: (b.embed_pictures(features), b.embed_texts(TEXTS)),
        "explain": lambda b: explain(b, features[0], main_task(b), TEXTS[0]),
    }


@pytest.mark.parametrize("size", [(90, 60), (64, 64), (40, 97), (31, 150)])
def test_a_bright_square_is_found_in_the_box_where_it_was_planted(backend, size):
    """Through the model's own way to fit, squeeze, tile and pad: what changes most is the region
    whose box the square fills."""
    def features_of(picture: Image.Image) -> tuple[torch.Tensor, Regions]:
        one = backend.encode_pictures([picture])[0]
        *_, trace = backend.traces(one, Request("what is there", "a dog", "en", main_task(backend)))
        return trace.features().float(), trace.regions

    grey = np.full((size[1], size[0], 3), 100, np.uint8)
    before, regions = features_of(Image.fromarray(grey))
    boxes = regions.boxes
    hits = 0
    chosen = range(0, len(boxes), max(1, len(boxes) // 7))
    for region in chosen:
        x0, y0, x1, y1 = boxes[region].round().astype(int)
        lit = grey.copy()
        lit[y0:y1, x0:x1] = 255
        after, _ = features_of(Image.fromarray(lit))
        changed = boxes[regions.spread((after - before).norm(dim=1)).argmax()]
        hits += x0 < changed[[0, 2]].mean() < x1 and y0 < changed[[1, 3]].mean() < y1
    assert hits >= 0.6 * len(chosen), (hits, len(chosen))  # random weights mix, too


def test_what_was_run_to_write_is_not_run_again_and_gives_the_same(backend, features):
    need(backend, "caption", "explain")
    written = last(backend.generate(features[0], "", "en", GREEDY)).text
    (again,) = backend.encode_pictures([noise(90, 60)])
    (kept,), (whole,) = (backend.traces(one, Request("", written, "en", "caption"))
                         for one in (features[0], again))
    assert whole.kept() == 0
    runs = []
    handles = [layer.module.register_forward_pre_hook(
        lambda _, args, given: runs.append((args[0] if args else given["hidden_states"]).shape[1]),
        with_kwargs=True) for layer in kept.layers]
    try:
        (found,) = explain(backend, features[0], "caption", written)
    finally:
        for handle in handles:
            handle.remove()
    if kept.kept() and kept.looking:
        assert max(runs) <= kept.targets + 1 < kept.lengths["text"]
    if hasattr(kept.backend, "memory"):
        assert len(runs) == sum(layer.stream == "written" for layer in kept.layers)
    (want,) = explain(backend, again, "caption", written)
    np.testing.assert_allclose(found.weights, want.weights, atol=1e-5)
    np.testing.assert_allclose(found.word_probabilities, want.word_probabilities, rtol=1e-3)


def test_recording_changes_no_bit_and_leaves_nothing_behind(backend, features):
    def hooks() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks)
                   for module in modules)

    task = "ask" if "ask" in backend.info.tasks else main_task(backend)
    for trace in backend.traces(features[0], Request(QUESTION, ANSWER, "en", task)):
        modules = [layer.module for layer in trace.layers]
        rows = Rows(recorded=trace.streams)
        with torch.no_grad():
            before, plain = hooks(), trace.run(rows, None)
            with record(modules) as looks:
                recorded = trace.run(rows, None)
        assert torch.equal(plain, recorded) and hooks() == before
        for layer, look in zip(trace.layers, looks, strict=True):
            weights = look.weights()
            assert weights.shape[1] == layer.heads
            assert (weights.sum(-1) <= 1 + 1e-4).all()
            look.check(range(trace.shift + 1, look.length))


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_task_that_was_not_trained_is_refused_with_the_reason(backend, features, task):
    need(backend, task)
    limited = copy.copy(backend)
    limited.info = dataclasses.replace(backend.info, tasks=backend.info.tasks - {task},
                                       missing={task: "it was never trained for that"})
    with pytest.raises(TaskError, match="never trained for that"):
        calls(features)[task](limited)
    if task in ("caption", "ask", "match"):
        with pytest.raises(TaskError, match="never trained for that"):
            explain(limited, features[0], task, ANSWER, QUESTION)
    for other, call in calls(features).items():
        if other != task and other in limited.info.tasks \
                and not (other == "explain" and task == main_task(backend)):
            call(limited)


def test_a_copy_with_random_weights_is_another_and_leaves_the_model_alone(backend, features):
    task = main_task(backend)
    before = explain(backend, features[0], task, TEXTS[0])[-1].weights
    copied = backend.randomised(2, contextlib.nullcontext())
    assert copied.info.tasks == backend.info.tasks
    assert copied.info.revision != backend.info.revision
    (fresh,) = copied.encode_pictures([noise(90, 60)])
    other = explain(copied, fresh, task, TEXTS[0])[-1].weights
    assert other.shape == before.shape and np.isfinite(other).all()
    assert not np.allclose(other, before, atol=1e-3)
    assert np.array_equal(explain(backend, features[0], task, TEXTS[0])[-1].weights, before)


def test_an_unknown_task_is_refused(backend, features):
    with pytest.raises(TaskError):
        explain(backend, features[0], "translate", TEXTS[0])


def probabilities(backend: Backend, features: list[PictureFeatures], task: str, text: str,
                  instruction: str = "") -> tuple[np.ndarray, ...]:
    return backend.word_probabilities(features, Request(instruction, text, "en", task))


def test_word_probabilities_are_those_of_explain_on_each_picture(backend, features):
    need(backend, "caption")
    (found,) = probabilities(backend, features, "caption", TEXTS[0])
    assert found.dtype == np.float32 and found.shape == (3, 6)
    assert (found >= 0).all() and (found <= 1).all()
    alone = [explain(backend, one, "caption", TEXTS[0])[0].word_probabilities for one in features]
    np.testing.assert_allclose(found, alone, rtol=2e-3, atol=1e-7)
    assert len(np.unique(found[:, 1])) == 3, "it depends on the picture"
    need(backend, "ask")
    question, answer = probabilities(backend, features, "ask", ANSWER, QUESTION)
    alone = [explain(backend, one, "ask", ANSWER, QUESTION)[1].word_probabilities
             for one in features]
    np.testing.assert_allclose(answer, alone, rtol=2e-3, atol=1e-7)
    assert question.shape == (3, 5), "one for each word of the question"
    assert (question == question[:, :1]).all(), "each has the whole answer's"
    assert (question[:, 0] <= answer.prod(1) + 1e-7).all(), "with its end"


def test_a_compared_sentence_has_the_match_score_for_every_word(backend, features):
    need(backend, "match")
    (found,) = probabilities(backend, features, "match", TEXTS[1])
    scores = backend.score_pairs(features, TEXTS[1:2])
    np.testing.assert_allclose(found, np.repeat(scores, 3, axis=1), rtol=1e-3, atol=1e-6)


def test_many_pictures_score_as_each_does_alone(backend, features):
    many = [features[n % 3] for n in range(11)]
    for task, text in (("caption", TEXTS[2]), ("match", TEXTS[2]), ("ask", ANSWER)):
        if task not in backend.info.tasks:
            continue
        together = probabilities(backend, many, task, text, QUESTION)
        for number in (0, 4, 10):
            alone = probabilities(backend, [many[number]], task, text, QUESTION)
            for one, row in zip(alone, together, strict=True):
                np.testing.assert_allclose(row[number], one[0], rtol=2e-3, atol=1e-7)


def test_word_probabilities_of_odd_texts(backend, features):
    long = " ".join(["dog"] * (200 if "caption" in backend.info.tasks else 11))
    for task in {"caption", "match"} & backend.info.tasks:
        (found,) = probabilities(backend, features[:1], task, long)
        assert found.shape == (1, len(long.split())) and np.isfinite(found).all()
    task = main_task(backend)
    (none,) = probabilities(backend, features, task, "")
    assert none.shape == (3, 0)
    (marks,) = probabilities(backend, features, task, ". , .")
    assert marks.shape == (3, 0)
    with pytest.raises(TaskError):
        probabilities(backend, features, "translate", TEXTS[0])
    limited = copy.copy(backend)
    limited.info = dataclasses.replace(backend.info, tasks=backend.info.tasks - {"explain"},
                                       missing={"explain": "it was never trained for that"})
    with pytest.raises(TaskError, match="never trained for that"):
        probabilities(limited, features, task, TEXTS[0])


def test_what_is_not_known_is_told_and_what_can_be_folded_is_read(backend, features):
    assert backend.unread("a dog runs") == Unread()
    found = backend.unread("a dog 🐱 runs")
    tokenizer = getattr(backend, "tokenizer", None)
    if getattr(tokenizer, "unk_token_id", 0) is None:  # its tokens are bytes
        assert found == Unread() and backend.unread("?!").nothing
        return
    bytewise = backend.info.family in ("clip", "siglip2")
    assert [word.text for word in found.unknown] == ["🐱"] * (not bytewise) and not found.nothing
    assert backend.unread("🐱").nothing and backend.unread("?!").nothing
    need(backend, "match")
    plain, typed = "a dog's hat", "ａ ｄｏｇ’ｓ ｈａｔ"
    assert backend.unread(typed) == Unread()
    scores = backend.score_pairs(features[:1], [plain, typed])
    assert scores[0, 0] == pytest.approx(scores[0, 1], abs=1e-6)
    maps = [explain(backend, features[0], "match", text)[0] for text in (plain, typed)]
    assert [word.text for word in maps[1].words] == ["ａ", "ｄｏｇ’ｓ", "ｈａｔ"]
    assert np.allclose(maps[0].weights, maps[1].weights, atol=1e-6)
