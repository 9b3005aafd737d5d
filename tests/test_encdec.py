"""Encoders and decoders: their numbers are those of transformers with its own processor, their
regions lie where it put them, and each offers what it can really do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import load, noise
from tiny_encdec import MODELS, save_tiny_encdec
from transformers import AutoModelForImageTextToText

from vitdemo.attention.trace import Rows
from vitdemo.backends.encoder_decoder import EncoderDecoderBackend
from vitdemo.config import Decoding
from vitdemo.errors import CheckpointError, TaskError, TextError
from vitdemo.records import Request

TEXT = "a dog runs on the beach"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encdec")
    return {kind: save_tiny_encdec(root / kind, kind, 5) for kind in MODELS}


@pytest.fixture(scope="module")
def backends(folders: dict[str, Path]) -> dict[str, EncoderDecoderBackend]:
    return {kind: load(folder) for kind, folder in folders.items()}


def theirs(backend: EncoderDecoderBackend, folder: Path, picture: Image.Image) -> Any:
    """The same checkpoint in plain transformers with the slow attention that it records, and what
    its own processor makes of a picture."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    for part in (model, getattr(model, "decoder", None)):  # older versions leave the parts alone
        if part is not None:
            part.set_attn_implementation("eager")
    if backend.info.family == "florence2":
        given = backend.processor(text="<DETAILED_CAPTION>", images=picture, return_tensors="pt")
    else:
        given = backend.processor.image_processor(picture, return_tensors="pt")
    return model, dict(given)


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "donut_asked"])
def test_probabilities_maps_and_words_are_those_of_plain_transformers(backends, folders, kind):
    backend, picture = backends[kind], noise(61, 40)
    (one,) = backend.encode_pictures([picture])
    (trace,) = backend.traces(one, Request("", TEXT, "en", "caption"))
    model, given = theirs(backend, folders[kind], picture)
    written = [*trace.prompt.given, *trace.written_ids[:-1]]
    output = model(**given, decoder_input_ids=torch.tensor([written]), output_attentions=True)
    first = len(trace.prompt.given) - 1
    logits = output.logits[0, first:-1].log_softmax(-1)
    want = logits.gather(1, torch.tensor(trace.written_ids[:-1])[:, None])[:, 0]
    torch.testing.assert_close(trace.run(Rows(), trace.everything), want, atol=1e-4, rtol=1e-4)
    (found,) = backend.explain(one, Request("", TEXT, "en", "caption"), method="cross-attention")
    assert len(found.weights) == len(output.cross_attentions) == 2
    for maps, weights in zip(found.weights, output.cross_attentions, strict=True):
        for q, tokens in enumerate(trace.tokens):
            rows = weights[0, :, [token + first for token in tokens]].mean(1)
            np.testing.assert_allclose(maps[:, q], rows[:, list(trace.regions.places)], atol=1e-5)
    for beams in (1, 3):
        start = {} if kind != "donut" else {"decoder_input_ids": torch.tensor([written[:1]])}
        ids = model.generate(**given, **start, max_new_tokens=7 + first, do_sample=False,
                             num_beams=beams)  # a mark that is forced is counted
        *_, last = backend.generate(one, "", "en", Decoding(
            "beam", beams=beams, length_penalty=1.0, max_tokens=7))
        assert last.text == backend.text(ids[0].tolist())


def test_a_beginning_of_ones_own_is_gone_on_from(backends):
    backend = backends["vit_gpt2"]
    (one,) = backend.encode_pictures([noise(40, 40)])
    *_, last = backend.generate(one, "two red", "en", Decoding(max_tokens=5))
    assert last.text.startswith("two red") and len(last.text) > len("two red")


def test_the_mark_that_a_model_writes_first_is_no_word_and_costs_none(folders):
    backend = load(folders["trocr"])
    (one,) = backend.encode_pictures([noise(40, 40)])
    (plain,) = backend.traces(one, Request("", TEXT, "en", "caption"))
    assert len(plain.prompt.given) == 1
    backend = load(folders["trocr"])
    head = backend.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(len(head.weight)), requires_grad=False)
    head.bias[backend.tokenizer.bos_token_id] = 50
    (trace,) = backend.traces(one, Request("", TEXT, "en", "caption"))
    assert trace.prompt.given == [backend.tokenizer.eos_token_id, backend.tokenizer.bos_token_id]
    assert trace.shift == 1


def test_florence_is_told_its_task_or_a_persons_own_words(backends):
    backend = backends["florence2"]
    assert backend.info.instructions == ("describe", "short")

    def read(instruction: str) -> str:
        return backend.text(backend.prompt(instruction, "caption").read)

    detailed = "Describe in detail what is shown in the image."
    assert read("") == read("Describe the picture.") == read("描述这张图片。") == detailed
    assert read("Describe the picture in a few words.") == "What does the image describe?"
    assert read("<OCR>") == "What is the text in the image?"
    assert read("what is the dog?") == "what is the dog?"
    for mark in ("<CAPTION> a dog", "a <image>"):
        with pytest.raises(TextError, match="is a mark"):
            backend.prompt(mark, "caption")
    with pytest.raises(TextError, match="reads at most 1024"):
        backend.prompt("cats " * 3000, "caption")
    with pytest.raises(TaskError, match="they answer no questions"):
        backend.answer(backend.encode_pictures([noise(8, 8)])[0], "what?", "en")


def test_a_florence_of_its_own_code_is_refused(folders, tmp_path):
    config = json.loads((folders["florence2"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {}}))
    with pytest.raises(CheckpointError, match="code of its own.*florence-community"):
        load(tmp_path)


def test_florence_looks_around_points_that_are_not_the_middles_of_parts(backends):
    boxes = backends["florence2"].encode_pictures([noise(48, 48)])[0].data.regions.boxes
    assert boxes[:6, 0].tolist() == [0, 4.5, 12.5, 20.5, 28.5, 36.5]


def test_donut_answers_where_it_was_trained_to_and_says_that_it_reads(backends):
    asked, reads = backends["donut_asked"], backends["donut"]
    (one,) = asked.encode_pictures([noise(40, 60)])
    question = "what colour is the dog?"
    assert 1 <= len(asked.answer(one, question, "en")) <= 5
    trace, written = asked.traces(one, Request(question, "red", "en", "ask"))
    assert [word.text for word in trace.words] == ["what", "colour", "is", "the", "dog"]
    given = asked.tokenizer.convert_ids_to_tokens(trace.prompt.given)
    assert given[:2] == ["<s_docvqa>", "<s_question>"] and given[-1] == "<s_answer>"
    assert written.shift == len(given) - 1
    assert asked.tokenizer.convert_ids_to_tokens(trace.prompt.end) == "</s_answer>"
    with pytest.raises(TextError, match="is a mark"):
        asked.answer(one, "what is </s_question>?", "en")
    for backend, task in ((asked, "caption"), (reads, "ask"), (backends["trocr"], "ask")):
        assert "ask" in backend.info.tasks or "caption" in backend.info.tasks
        with pytest.raises(TaskError, match="read the text that stands in a picture"):
            backend.require(task)


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (64, 64)])
def test_a_page_that_donut_turns_has_its_regions_where_they_are(backends, size):
    backend = backends["donut"]
    images = backend.processor.image_processor
    images.do_align_long_axis = True
    try:
        grey = Image.new("RGB", size, (90, 90, 90))
        before = backend.encode_pictures([grey])[0].data
        boxes = before.regions.boxes
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert areas.sum() == pytest.approx(size[0] * size[1], rel=1e-4)
        for region in (1, len(boxes) // 2):
            lit = grey.copy()
            lit.paste((255, 255, 255), tuple(boxes[region].round().astype(int).tolist()))
            after = backend.encode_pictures([lit])[0].data
            change = (after.states - before.states)[0].norm(dim=1)[list(before.regions.places)]
            x, y = boxes[int(change.argmax())].reshape(2, 2).mean(0)
            x0, y0, x1, y1 = boxes[region]
            assert x0 - 8 < x < x1 + 8 and y0 - 8 < y < y1 + 8, "it or a neighbour"
    finally:
        images.do_align_long_axis = False


def test_pix2struct_keeps_the_shape_of_a_picture_and_no_padding(backends):
    (wide,), (high,) = (backends["pix2struct"].encode_pictures([noise(*size)])
                        for size in ((90, 30), (30, 90)))
    assert wide.data.regions.grid == (2, 8) and high.data.regions.grid == (8, 2)
    assert wide.data.states.shape[1] == 16, "of 24"


def test_a_pix2struct_that_draws_its_question_is_refused(backends):
    backend = backends["pix2struct"]
    images = backend.processor.image_processor
    images.is_vqa = True
    try:
        with pytest.raises(CheckpointError, match="reads its question in the picture"):
            type(backend)(backend.checkpoint)
    finally:
        images.is_vqa = False
