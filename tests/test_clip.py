"""CLIP and its kin against plain transformers, and where their patches lie in the picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import KINDS, LENGTH, PATCH, SIDE, save_tiny_clip
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    CLIPImageProcessor,
    PreTrainedTokenizerFast,
)

from vitdemo.attention.capture import record
from vitdemo.attention.methods import normalised
from vitdemo.attention.trace import Rows
from vitdemo.backends import clip
from vitdemo.backends.clip import ClipBackend, Probe
from vitdemo.backends.picture_tokens import patch_boxes
from vitdemo.backends.registry import load_backend
from vitdemo.config import EngineConfig
from vitdemo.records import Request

TEXTS = {"chinese_clip": ["一只狗", "红色的球在草地上跑"]}
SIZES = [(90, 60), (40, 64), (33, 150), (8, 8)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("clip")
    return {kind: save_tiny_clip(root / kind, kind, 5) for kind in KINDS}


@pytest.fixture(scope="module")
def backends(folders: dict[str, Path]) -> dict[str, ClipBackend]:
    return {kind: load_backend(EngineConfig(model=str(folder), device="cpu"))
            for kind, folder in folders.items()}


def pictures() -> list[Image.Image]:
    return [Image.fromarray(np.random.default_rng(seed).integers(
        0, 256, (height, width, 3), np.uint8))
            for seed, (width, height) in enumerate(SIZES)]


def plain(folder: Path, kind: str, texts: list[str]) -> Any:
    """What transformers makes of the pictures and texts, eager, with all attentions."""
    # SigLIP's own needs sentencepiece.
    tokenizer = (PreTrainedTokenizerFast if kind == "siglip" else AutoTokenizer).from_pretrained(
        folder)
    given = dict(tokenizer(texts, return_tensors="pt", **(
        {"padding": "max_length", "max_length": LENGTH} if kind.startswith("siglip")
        else {"padding": True})))
    if kind.startswith("siglip"):  # trained without
        given.pop("attention_mask", None)
    images = AutoImageProcessor.from_pretrained(folder)(images=pictures(), return_tensors="pt")
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return model(**given, **images, output_attentions=True)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_scores_are_those_of_transformers(backends, folders, kind):
    backend, texts = backends[kind], TEXTS.get(kind, ["a dog", "The red dog runs on the beach!"])
    with torch.no_grad():
        output = plain(folders[kind], kind, [*texts, backend.neutral])
    features = backend.encode_pictures(pictures())
    unit = {"atol": 1e-5, "rtol": 1e-4}
    np.testing.assert_allclose(backend.embed_texts(texts), output.text_embeds[:2], **unit)
    np.testing.assert_allclose(backend.embed_pictures(features), output.image_embeds, **unit)
    logits = output.logits_per_image
    want = logits[:, :2].sigmoid() if kind.startswith("siglip") else torch.stack(
        [logits[:, [column, 2]].softmax(-1)[:, 0] for column in (0, 1)], 1)
    np.testing.assert_allclose(backend.score_pairs(features, texts), want, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "chinese_clip"])
def test_relevancy_equals_that_of_transformers_one_word_at_a_time(backends, folders, kind):
    backend = backends[kind]
    text, without = {"clip": ("a red dog", ["red dog", "a dog", "a red"]),
                     "chinese_clip": ("红色的球", None)}[kind]
    features = backend.encode_pictures(pictures())[0]
    (found,) = backend.explain(features, Request("", text, "en", "match"), method="relevancy")
    if without is None:
        without = [text[:word.start] + text[word.end:] for word in found.words]
    output = plain(folders[kind], kind, [text, *without])
    for place in range(len(found.words)):
        target = output.logits_per_image[0, 0] - output.logits_per_image[0, place + 1]
        attentions = output.vision_model_output.attentions
        gradients = torch.autograd.grad(target, attentions, retain_graph=True)
        means = [(weights[0] * gradient[0]).detach().numpy().clip(min=0).mean(0)
                 for weights, gradient in zip(attentions, gradients, strict=True)]
        flow = np.eye(len(means[0]))
        for mean in means:
            flow = flow + mean @ flow
        np.testing.assert_allclose(found.weights[0, 0, place], normalised(flow[0, 1:]), atol=1e-4)


def test_a_words_target_is_what_the_score_loses_without_it(backends):
    for kind, text, without in (("clip", "a red dog", "a dog"), ("siglip", "a red dog", "a dog")):
        backend = backends[kind]
        features = backend.encode_pictures(pictures()[:1])
        (trace,) = backend.traces(features[0], Request("", text, "en", "match"))
        scores = backend.score_pairs(features, [text, without])[0].astype(np.float64)
        logits = np.log(scores / (1 - scores))
        with torch.no_grad():
            assert float(trace.word_logs(Rows(), [1])) == pytest.approx(
                logits[0] - logits[1], abs=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_a_probe_is_multi_head_attention_whose_weights_can_be_recorded(masked):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inner = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        query, tokens = torch.randn(3, 1, 16), torch.randn(3, 7, 16)
    mask = None
    if masked:
        mask = torch.zeros(3 * 4, 1, 7)
        mask[4:8, :, 5:] = torch.finfo(torch.float32).min
    probe = Probe(inner)
    with torch.no_grad(), record([probe]) as looks:
        result, _ = probe(query, tokens, tokens, attn_mask=mask)
    want, weights = inner(query, tokens, tokens, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(result, want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(looks[0].weights(), weights, atol=1e-6, rtol=1e-5)


def test_padding_of_a_picture_that_keeps_its_shape_is_not_looked_at(backends):
    backend = backends["siglip2"]
    features = backend.encode_pictures(pictures()[:1])[0]
    (trace,) = backend.traces(features, Request("", "a dog", "en", "match"))
    assert trace.regions.grid == (3, 5) and trace.lengths["picture"] == 16
    with torch.no_grad(), record([layer.module for layer in trace.layers]) as looks:
        trace.run(Rows(recorded=trace.streams), None)
    for look in looks:
        assert look.weights()[..., 15:].max() == 0 < look.weights()[..., :15].min()


def test_siglip_with_a_vocabulary_of_all_languages_reads_chinese(folders, monkeypatch):
    def languages(kind: str) -> tuple[str, ...]:
        return load_backend(EngineConfig(model=str(folders[kind]), device="cpu")).info.languages

    assert [languages(kind) for kind in KINDS] == [("en",), ("zh",), ("en",), ("en", "zh")]
    monkeypatch.setattr(clip, "MANY_LANGUAGES", 30)  # tokens
    assert languages("siglip") == ("en", "zh") and languages("clip") == ("en",)


@pytest.mark.parametrize("size", [*SIZES[:3], (97, 41), (64, 64), (31, 32)])
@pytest.mark.parametrize("given", [
    {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}},
    {"size": {"shortest_edge": 40}, "crop_size": {"height": SIDE, "width": SIDE}},
    {"size": {"shortest_edge": 24}, "crop_size": {"height": SIDE, "width": SIDE}},
    {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}])
def test_a_box_is_where_the_processor_takes_its_patch_from(given, size):
    images = CLIPImageProcessor(**given)
    count = SIDE // PATCH
    boxes, shown = patch_boxes(images, size, (count, count))
    assert len(boxes) == shown.sum()
    for box, patch in zip(boxes, np.flatnonzero(shown), strict=True):
        x0, y0, x1, y1 = box.round().astype(int)
        if (x1 - x0) * (y1 - y0) == 0:  # thinner than a pixel
            continue
        values = np.zeros((*size[::-1], 3), np.uint8)
        values[y0:y1, x0:x1] = 255
        pixels = images(images=[Image.fromarray(values)], return_tensors="pt")["pixel_values"]
        light = (pixels[0, 0] - pixels.min()).unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH)
        light = light.sum((-1, -2)).flatten()
        assert int(light.argmax()) == patch
        assert light[patch] > 0.6 * light.sum()


def test_what_is_cropped_away_is_said(backends):
    for kind, size, said in (("clip", (90, 60), True), ("clip", (50, 50), False),
                             ("siglip", (90, 60), False), ("siglip2", (90, 60), False)):
        features = backends[kind].encode_pictures([Image.new("RGB", size)])[0]
        (found,) = backends[kind].explain(features, Request("", "a dog", "en", "match"))
        assert ("was cut away" in found.note) == said
        assert backends[kind].picture_side == (SIDE if kind == "siglip" else 0)
