"""BLIP: its words and numbers are those of transformers, and its errors say what to do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
)
from PIL import Image
from tiny_blip import CLASSES, SIDE, save_tiny_blip
from transformers import BlipProcessor

from vitdemo.attention.methods import over_words
from vitdemo.backends import hub
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.blip import BlipBackend
from vitdemo.backends.blip_model import WriterState
from vitdemo.backends.hub import Checkpoint, word_places
from vitdemo.backends.registry import load_backend, resolve
from vitdemo.backends.writing import write
from vitdemo.config import Decoding, EngineConfig
from vitdemo.device import pick
from vitdemo.errors import CheckpointError, TaskError, TextError
from vitdemo.instructions import default_instruction
from vitdemo.preprocess import to_square
from vitdemo.records import Request
from vitdemo.words import normalise_answer

CPU = pick("cpu")


def load_checkpoint(source: str) -> Checkpoint:
    return hub.load_checkpoint(source, CPU, BlipBackend.family)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("blip")
    return {kind: save_tiny_blip(root / kind, kind, seed)
            for seed, kind in enumerate(CLASSES, start=1)}


@pytest.fixture(scope="module")
def backends(folders: dict[str, Path]) -> dict[str, BlipBackend]:
    return {kind: BlipBackend.load(str(folder), CPU) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(values)


def theirs(folder: Path, kind: str, picture: Image.Image):
    """The same checkpoint in plain transformers, its tokenizer and this picture's pixels."""
    model = CLASSES[kind].from_pretrained(folder).eval()
    backend = BlipBackend(load_checkpoint(str(folder)))
    return model, backend.tokenizer, pixels_of(backend, picture)


def pixels_of(backend: BlipBackend, picture: Image.Image) -> torch.Tensor:
    return backend.pixels([to_square(picture, backend.picture_side)])


def features_of(backend: BlipBackend, picture: Image.Image) -> PictureFeatures:
    return backend.encode_pictures([picture])[0]


def test_pixels_are_those_of_the_processor(folders, picture):
    backend = BlipBackend(load_checkpoint(str(folders["captioning"])))
    assert backend.picture_side == SIDE
    ours = pixels_of(backend, picture)
    processor = BlipProcessor.from_pretrained(folders["captioning"])
    want = processor(images=picture, return_tensors="pt")["pixel_values"]
    smallest = min(processor.image_processor.image_std)
    assert (ours - want).abs().max() < 2 / 255 / smallest  # rounding of 8-bit resizing


@pytest.mark.parametrize("prefix", ["", "a photo of"])
@pytest.mark.parametrize("settings", [
    {"strategy": "greedy"}, {"strategy": "greedy", "min_tokens": 9, "max_tokens": 9},
    {"strategy": "greedy", "repetition_penalty": 1.6},
    {"strategy": "beam", "beams": 3}, {"strategy": "beam", "beams": 4, "length_penalty": -1.0},
    {"strategy": "beam", "beams": 5, "length_penalty": 1.5, "min_tokens": 5, "max_tokens": 12},
    {"strategy": "beam", "beams": 3, "repetition_penalty": 1.6, "max_tokens": 20}])
def test_words_equal_those_of_transformers(folders, backends, picture, prefix, settings):
    backend = backends["captioning"]
    model, tokenizer, pixels = theirs(folders["captioning"], "captioning", picture)
    decoding = Decoding(**{"max_tokens": 15, **settings})
    prompt = {"input_ids": tokenizer(prefix, return_tensors="pt")["input_ids"]} if prefix else {}
    sure = {"do_sample": False, "max_new_tokens": decoding.max_tokens,
            "min_new_tokens": decoding.min_tokens,
            "repetition_penalty": float(decoding.repetition_penalty)}
    if decoding.strategy == "beam":
        sure |= {"num_beams": decoding.beams, "length_penalty": decoding.length_penalty}
    want = model.generate(pixel_values=pixels, **prompt, **sure)[0].tolist()
    want = [number for number in want[1:] if number not in (0, 3)]  # padding and the end
    writer, features = backend.writer, features_of(backend, picture)
    prompt_ids = backend.encode(prefix)[0]
    state = WriterState(writer, writer.memory(features.data.states))
    *_, drafts = write(state, backend.tensor([writer.start, *prompt_ids]), writer.end, decoding)
    assert [*prompt_ids, *drafts[0].ids] == want
    *_, last = backend.generate(features_of(backend, picture), prefix, "en", decoding)
    assert last.final
    assert last.text == backend.checkpoint.text(want)


@torch.no_grad()
def test_log_probability_is_that_of_one_teacher_forced_pass(backends, picture):
    backend = backends["captioning"]
    writer, begin = backend.writer, backend.tensor([backend.writer.start])
    memory = writer.memory(features_of(backend, picture).data.states)
    for strategy in ("greedy", "sample", "beam"):
        decoding = Decoding(strategy=strategy, max_tokens=10, temperature=2.0)
        *_, (draft, *_) = write(WriterState(writer, memory), begin, writer.end, decoding)
        ids = torch.tensor([*draft.ids, writer.end] if draft.ended else draft.ids)
        logits = writer.decoder.cls(writer.read(torch.cat([begin[0], ids[:-1]])[None], memory))
        logs = logits[0].log_softmax(-1).gather(1, ids[:, None])
        assert draft.log_probability == pytest.approx(float(logs.sum()), abs=1e-3)


def test_presets_of_our_own_model_are_no_prefix(backends, picture):
    backend = backends["captioning"]
    features = features_of(backend, picture)
    decoding = Decoding(strategy="greedy", max_tokens=5)
    *_, plain = backend.generate(features, "", "en", decoding)
    *_, preset = backend.generate(features, default_instruction("en"), "en", decoding)
    *_, begun = backend.generate(features, "two birds", "en", decoding)
    assert preset == plain
    assert begun.text.startswith("two birds")
    assert len(begun.text) > len("two birds")


def test_best_answer_is_at_least_as_probable_as_the_greedy_one(folders, backends, picture):
    backend, question = backends["VQA"], "what colour is the dog?"
    model, tokenizer, pixels = theirs(folders["VQA"], "VQA", picture)
    ids = tokenizer(question, return_tensors="pt")["input_ids"]
    result = model.generate(input_ids=ids, pixel_values=pixels, num_beams=5, max_new_tokens=12,
                            num_return_sequences=5, length_penalty=0.0, do_sample=False,
                            output_scores=True, return_dict_in_generate=True)
    want: dict[str, float] = {}
    for row, score in zip(result.sequences.tolist(), result.sequences_scores.exp().tolist(),
                          strict=True):
        text = normalise_answer(backend.checkpoint.text(row))
        want[text] = want.get(text, 0) + score
    want.pop("", None)
    got = backend.answer(features_of(backend, picture), question, "en", 5)
    assert {one.text: pytest.approx(one.probability, rel=1e-3) for one in got} == want
    assert len(got) >= 2


def test_scores_and_vectors_equal_those_of_transformers(folders, backends, picture):
    backend = backends["retrieval"]
    model, tokenizer, pixels = theirs(folders["retrieval"], "retrieval", picture)
    texts = ["a dog", "two cats play with a ball on the beach", "red car"]
    features = features_of(backend, picture)
    rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    with torch.no_grad():
        scores = [float(model(input_ids=row, pixel_values=pixels).itm_score.softmax(-1)[0, 1])
                  for row in rows]
        cosines = [float(model(input_ids=row, pixel_values=pixels, use_itm_head=False).itm_score)
                   for row in rows]
    np.testing.assert_allclose(backend.score_pairs([features], texts)[0], scores, atol=1e-5)
    ours = backend.embed_pictures([features]) @ backend.embed_texts(texts).T
    np.testing.assert_allclose(ours[0], cosines, atol=1e-5)


def test_maps_equal_output_attentions_of_transformers(folders, backends, picture):
    backend = backends["captioning"]
    model, tokenizer, pixels = theirs(folders["captioning"], "captioning", picture)
    text = "two skateboards on the beach"
    (got,) = backend.explain(features_of(backend, picture), Request("", text, "en", "caption"))
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    ids[:, 0] = model.config.text_config.bos_token_id
    with torch.no_grad():
        states = model.vision_model(pixel_values=pixels).last_hidden_state
        output = model.text_decoder(input_ids=ids, encoder_hidden_states=states,
                                    output_attentions=True)
    want = torch.stack(output.cross_attentions)[:, 0, :, :, 1:]  # (L, H, T, K)
    pieces = tokenizer.tokenize(text)
    assert pieces == ["two", "skate", "##board", "##s", "on", "the", "beach"]
    rows = [want[:, :, 0], want[:, :, 1:4].mean(2), *want[:, :, 4:7].unbind(2)]
    np.testing.assert_allclose(got.weights, torch.stack(rows, 2).numpy(), atol=1e-5)
    chosen = output.logits[0, :-1].softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    skateboards = float(chosen[1] * chosen[2] * chosen[3])
    assert got.word_probabilities[1] == pytest.approx(skateboards, rel=1e-3)


def test_answer_maps_go_through_the_question(folders, backends, picture):
    backend = backends["VQA"]
    question, answer = "where is the cat?", "red ball"
    asked, told = backend.explain(features_of(backend, picture),
                                  Request(question, answer, "en", "ask"))
    model, tokenizer, pixels = theirs(folders["VQA"], "VQA", picture)
    ids = tokenizer(question, return_tensors="pt")["input_ids"]
    reply = torch.tensor([[model.decoder_start_token_id, *tokenizer(answer)["input_ids"][1:-1]]])
    with torch.no_grad():
        states = model.vision_model(pixel_values=pixels).last_hidden_state
        read = model.text_encoder(input_ids=ids, encoder_hidden_states=states,
                                  output_attentions=True)
        written = model.text_decoder(input_ids=reply, encoder_hidden_states=read.last_hidden_state,
                                     output_attentions=True)
    first = torch.stack(read.cross_attentions)[:, 0, :, :, 1:]
    np.testing.assert_allclose(asked.weights, first[:, :, 1:5].numpy(), atol=1e-5)
    share = torch.stack(written.cross_attentions)[:, 0].mean((0, 1))[:2]
    second = torch.einsum("at,lhtk->lhak", share, first)
    np.testing.assert_allclose(told.weights, second.numpy(), atol=1e-5)
    assert "question" in told.note
    assert asked.note == ""


def test_words_take_the_mean_of_their_tokens():
    words, places = word_places("a dog's skateboard.",
                                [(0, 1), (2, 5), (5, 6), (6, 7), (8, 13), (13, 18), (18, 19)])
    assert [word.text for word in words] == ["a", "dog's", "skateboard"]
    assert places == [[0], [1, 2, 3], [4, 5]]
    np.testing.assert_allclose(over_words(np.arange(7.0)[:, None] / 10, places)[:, 0],
                               [0, 0.2, 0.45], atol=1e-6)


def test_one_checkpoint_of_each_kind_do_all_of_it_together(folders, backends, picture):
    names = "+".join(str(folder) for folder in folders.values())
    both = load_backend(EngineConfig(model=f"blip:{names}", device="cpu"))
    assert both.info.tasks == {"caption", "ask", "match", "embed", "explain"}
    assert not both.info.missing
    assert both.info.dimension == 24
    features = both.encode_pictures([picture])[0]
    single = backends["retrieval"]
    alone = single.score_pairs(single.encode_pictures([picture]), ["a dog"])
    np.testing.assert_allclose(both.score_pairs([features], ["a dog"]), alone, atol=1e-6)
    assert set(features.data.features) == {2}, "only what was needed was encoded"
    *_, step = both.generate(features, "", "en", Decoding(strategy="greedy", max_tokens=4))
    both.answer(features, "who?", "en")
    assert step.final


def test_each_kind_says_what_is_missing(backends):
    with pytest.raises(TaskError, match=r"captioning only; to answer questions, join it by \+ with "
                                        "a BLIP VQA checkpoint, such as Salesforce/blip-vqa-base"):
        backends["captioning"].require("ask")
    for backend in backends.values():
        done, missing = backend.info.tasks, set(backend.info.missing)
        assert done | missing == {"caption", "ask", "match", "embed", "explain"}
        assert not done & missing


def test_another_language_and_too_long_a_text_are_refused(backends, picture):
    backend = backends["captioning"]
    features = features_of(backend, picture)
    with pytest.raises(TaskError, match="only English"):
        backend.generate(features, "", "zh", Decoding())
    with pytest.raises(TextError, match="Shorten it"):
        backend.generate(features, "dog " * 500, "en", Decoding())
    with pytest.raises(TextError, match="reads at most 510"):
        backend.explain(features, Request("", "dog " * 600, "en", "caption"))
    vqa = backends["VQA"]
    with pytest.raises(TextError, match="question is empty"):
        vqa.answer(features_of(vqa, picture), "  ", "en")


def test_revision_follows_the_weights(folders, backends, tmp_path):
    again = load_checkpoint(str(folders["retrieval"])).revision
    assert again == backends["retrieval"].info.revision
    other = load_checkpoint(str(save_tiny_blip(tmp_path / "x", "retrieval", 9))).revision
    assert other != again


def test_unusable_checkpoints_are_refused_clearly(folders, tmp_path):
    def spoilt(name: str) -> Path:
        return Path(shutil.copytree(folders["captioning"], tmp_path / name))

    def change(folder: Path, **values: object) -> Path:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))
        return folder

    cases = {
        str(tmp_path / "nowhere"): "There is no folder",
        str(change(spoilt("bert"), model_type="bert")): "is a bert model, not a BLIP model",
        str(change(spoilt("class"), architectures=["BlipModel"])): "holds BlipModel",
        str(change(spoilt("kind"), architectures=["BlipForQuestionAnswering"])): "lack",
    }
    (spoilt("weights") / "model.safetensors").unlink()
    cases[str(tmp_path / "weights")] = "incomplete or broken"
    cut = spoilt("cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    cases[str(cut.parent)] = "incomplete or broken"
    (spoilt("processor") / "processor_config.json").unlink()
    cases[str(tmp_path / "processor")] = "incomplete or broken"
    (spoilt("config") / "config.json").write_text("{")
    cases[str(tmp_path / "config")] = "cannot be read"
    (tmp_path / "empty").mkdir()
    cases[str(tmp_path / "empty")] = "no config.json"
    for source, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(source)


class Refusal(HfHubHTTPError):
    """What the hub's client raises for a name that it does not know."""

    def __init__(self) -> None:
        Exception.__init__(self, "404: no such repository")


@pytest.mark.parametrize(("fault", "message"), [
    (HTTPError("Name or service not known"), "hf download Some/blip"),
    (OfflineModeIsEnabled("offline mode is enabled"), "hf download Some/blip"),
    (Refusal(), "does not give Some/blip"),
    (HFValidationError("bad name"), "neither a folder nor a name")])
def test_the_hubs_faults_are_told_apart(monkeypatch, fault, message):
    def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("vitdemo.backends.source.HfApi.model_info", refuse)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint("Some/blip")


def test_a_model_that_was_downloaded_before_needs_no_network(folders, monkeypatch):
    module = "vitdemo.backends.source"
    monkeypatch.setattr(f"{module}.try_to_load_from_cache", lambda *_: "/cache/file")
    monkeypatch.setattr(f"{module}.HfApi.model_info", None)  # not to be called
    with pytest.raises(CheckpointError, match="config.json of Some/blip cannot be read"):
        load_checkpoint("Some/blip")  # it looks in the cache alone, where it is not


def test_names_lead_to_families(folders, tmp_path):
    assert resolve("blip:Salesforce/blip-vqa-base") == ("blip", "Salesforce/blip-vqa-base")
    assert resolve(str(folders["VQA"])) == ("blip", str(folders["VQA"]))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "meta.json").write_text("{}")
    assert resolve(str(tmp_path)) == ("native", str(tmp_path))
    for name, message in {"blip:": "names no checkpoint", "clap:x": "no model family",
                          "checkpoints/none": "no checkpoint folder",
                          str(tmp_path / "meta.json"): "is a file", "": "no checkpoint"}.items():
        with pytest.raises(CheckpointError, match=message):
            resolve(name)
