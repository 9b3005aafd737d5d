"""IDEFICS and Mllama: their numbers are those of transformers with its own processor, their regions
lie where it put them, and their gates are shown."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import load
from tiny_gated import PATCH, SIDE, save_tiny_idefics, save_tiny_mllama
from transformers import AutoProcessor

from vitdemo.attention.capture import record
from vitdemo.attention.trace import Rows
from vitdemo.backends.causal import CausalBackend
from vitdemo.backends.mllama import tile_regions
from vitdemo.config import Decoding
from vitdemo.errors import TaskError, TextError
from vitdemo.records import Request

QUESTION, TEXT = "what is on the dog?", "a red dog on the dog"


@pytest.fixture(scope="module", params=["idefics", "idefics_latents", "mllama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save = {"idefics": save_tiny_idefics, "mllama": save_tiny_mllama,
            "idefics_latents": partial(save_tiny_idefics, latents=5)}[request.param]
    return save(tmp_path_factory.mktemp("gated") / request.param, 5)


@pytest.fixture(scope="module")
def backend(folder: Path) -> CausalBackend:
    loaded = load(folder)
    assert isinstance(loaded, CausalBackend)
    return loaded


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """As large as the model sees it, so that nothing depends on how pixels are resized."""
    values = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(values)


def theirs(backend: CausalBackend, folder: Path, picture: Image.Image, text: str,
           attention: str = "sdpa"):
    """The same checkpoint in plain transformers, and what its processor makes of a text that holds
    the picture."""
    model = backend.family.kinds["captioning"].from_pretrained(
        folder, attn_implementation=attention).eval()
    processor = AutoProcessor.from_pretrained(folder)
    if backend.info.family == "idefics":  # it puts the picture before the text itself
        text = text.removeprefix("<s>" + backend.picture_text)
        return model, processor(text=[text], images=[picture], return_tensors="pt")
    return model, processor(text=[text], images=[picture], add_special_tokens=False,
                            return_tensors="pt")


@torch.no_grad()
def test_probabilities_and_maps_are_those_of_plain_transformers(backend, folder, picture):
    *_, trace = backend.traces(backend.encode_pictures([picture])[0],
                               Request(QUESTION, TEXT, "en", "ask"))
    full = f"{backend.prompt(QUESTION, True).text} {TEXT}"
    model, given = theirs(backend, folder, picture, full, "eager")
    assert given["input_ids"][0].tolist() == list(trace.ids)
    looks = [layer for layer in type(backend)(dataclasses.replace(
        backend.checkpoint, model=model)).layers if not layer.mixes and layer.stream == "text"]
    seen: list[torch.Tensor] = []
    for layer in looks:
        layer.module.register_forward_hook(lambda _module, _args, output: seen.append(output[1]))
    logits = model(**given).logits[0, trace.first - 1:-1]
    want = logits.log_softmax(-1).gather(1, given["input_ids"][0, trace.first:, None])[:, 0]
    torch.testing.assert_close(trace.run(Rows(), trace.everything), want, atol=1e-4, rtol=1e-4)
    (_, found) = backend.explain(backend.encode_pictures([picture])[0],
                                 Request(QUESTION, TEXT, "en", "ask"),
                                 method="cross-attention")
    shown = torch.eye(trace.lengths["picture"])[:, list(trace.regions.places)]  # (N, K)
    if backend.latents:
        with record([layer.module for layer in trace.layers if layer.stream == "latents"]) as inner:
            trace.run(Rows(), ())
        shown = torch.stack([look.mean()[0] for look in inner]).mean(0)[
            :, list(trace.regions.places)]
    for maps, weights in zip(found.weights, seen, strict=True):
        for q, tokens in enumerate(trace.tokens):
            rows = weights[0, :, [token + trace.first - 1 for token in tokens]].mean(1)
            np.testing.assert_allclose(maps[:, q], rows @ shown, atol=1e-5)
    assert found.gates == pytest.approx([np.tanh(0.7)] * len(looks), abs=1e-6)
    assert found.layer_names[0].startswith("cross-attention")


@pytest.mark.parametrize("beams", [1, 3])
def test_words_are_those_of_generate(backend, folder, picture, beams):
    prompt = backend.prompt("a dog", False).text
    model, given = theirs(backend, folder, picture, prompt)
    want = model.generate(**given, max_new_tokens=6, do_sample=False, num_beams=beams,
                          pad_token_id=0)[0, given["input_ids"].shape[1]:]
    *_, last = backend.generate(backend.encode_pictures([picture])[0], "a dog", "en", Decoding(
        "beam", beams=beams, length_penalty=1.0, max_tokens=6))
    text = backend.tokenizer.decode(want, skip_special_tokens=True).strip()
    assert last.text == f"a dog {text}".strip()


def test_an_instruction_in_a_chat_is_in_the_prompt_of_what_is_explained(tmp_path, picture):
    """With a template a caption does not go on from its instruction: both passes have it."""
    folder = save_tiny_mllama(tmp_path / "chat", 5)
    processor = AutoProcessor.from_pretrained(folder)
    processor.chat_template = (
        "<s>{% for line in messages[0]['content'] %}{% if line['type'] == 'image' %}<|image|>"
        "{% else %}{{ line['text'] }}{% endif %}{% endfor %}\nAnswer:\n\n")
    processor.save_pretrained(folder)
    backend = load(folder)
    (features,) = backend.encode_pictures([picture])
    sure = Decoding("greedy", max_tokens=6, min_tokens=6)
    for instruction in ("", "List the things in the picture.", "a red dog"):
        *_, step = backend.generate(features, instruction, "en", sure)
        assert not step.text.startswith("a red dog")
        (trace,) = backend.traces(features, Request(instruction, step.text, "en", "caption"))
        assert trace.state is not None, "it goes on from what wrote it"
        written = trace.written_ids[:-1]
        logs = trace.logits(Rows(), [(0, place) for place in range(len(written))]).log_softmax(-1)
        total = float(logs[range(len(written)), written].sum())
        assert total == pytest.approx(step.log_probability, abs=1e-3)
    *_, step = backend.generate(features, "", "en", sure)
    assert "Describe this picture in one sentence." in backend.prompt("", False).text


def test_what_it_cannot_do_is_refused(backend, picture):
    features = backend.encode_pictures([picture])[0]
    with pytest.raises(TaskError, match="models write; they do not compare"):
        backend.embed_texts(["a dog"])
    with pytest.raises(TaskError, match="knows only English"):
        backend.generate(features, "", "zh", Decoding())
    with pytest.raises(TextError, match="reads at most"):
        backend.answer(features, "cats " * 900, "en")


@pytest.mark.parametrize(("size", "canvas"), [((64, 64), (2, 2)), ((10, 90), (3, 1)),
                                              ((100, 33), (1, 3)), ((5, 5), (1, 1))])
def test_regions_cover_the_picture_and_no_padding(size, canvas):
    regions = tile_regions(size, canvas, SIDE, PATCH)
    areas = (regions.boxes[:, 2:] - regions.boxes[:, :2]).prod(1)
    assert (areas > 0).all() and areas.sum() == pytest.approx(size[0] * size[1], rel=1e-4)
    assert len(set(regions.places)) == len(regions.places) == np.prod(regions.grid)
    assert not any(place % 17 == 0 for place in regions.places), "no class token"
    assert max(regions.places) < 17 * canvas[0] * canvas[1]
