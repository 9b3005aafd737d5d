"""GIT, BLIP-2, InstructBLIP and Kosmos-2: their words, probabilities and maps are those of
transformers with its own processor, and what cannot be used is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import check_that_only_what_a_word_looked_at_counts, load, noise
from tiny_prefix import MODELS, save_tiny_prefix
from transformers import AutoModelForImageTextToText, AutoProcessor

from vitdemo.attention.explain import explain
from vitdemo.attention.trace import Rows
from vitdemo.backends.prefix import PrefixBackend
from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.errors import CheckpointError
from vitdemo.records import Request

QUESTION, TEXT = "what is it?", "a red dog"


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_prefix(tmp_path_factory.mktemp("prefix") / request.param, request.param, 5)


@pytest.fixture(scope="module")
def backend(folder: Path) -> PrefixBackend:
    backend = load(folder)
    assert isinstance(backend, PrefixBackend)
    return backend


def theirs(folder: Path, text: str) -> tuple[Any, Any, Any]:
    """The checkpoint in plain transformers, and what its processor makes of a picture and text."""
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(text=[text], images=[noise(90, 60)], return_tensors="pt")
    if model.config.model_type == "git":  # as its page says, a text that goes on has no end
        inputs = {name: value if value.dim() > 2 else value[:, :-1]
                  for name, value in inputs.items() if name != "token_type_ids"}
    return model, processor, dict(inputs)


@torch.no_grad()
def test_words_are_those_of_transformers(backend: PrefixBackend, folder: Path) -> None:
    features = backend.encode_pictures([noise(90, 60)])[0]
    for instruction in ("", "two red dogs"):
        said = instruction or backend.describe
        model, processor, inputs = theirs(folder, said)
        written = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        want = processor.decode(written[0, inputs["input_ids"].shape[1]:],
                                skip_special_tokens=True).strip()
        *_, step = backend.generate(features, instruction, "en", Decoding("greedy", max_tokens=8))
        start = "" if backend.instructed else instruction
        assert step.text == f"{start} {want}".strip() and step.log_probability < 0


@torch.no_grad()
def test_probabilities_and_maps_are_those_of_transformers(backend: PrefixBackend,
                                                          folder: Path) -> None:
    features = backend.encode_pictures([noise(90, 60)])[0]
    question, answer = backend.traces(features, Request(QUESTION, TEXT, "en", "ask"))
    prompt = backend.prompt(backend.question.format(QUESTION))
    model, processor, inputs = theirs(folder, prompt.text)
    assert inputs["input_ids"][0].tolist() == prompt.ids
    whole = [*prompt.ids, *answer.written_ids[:-1]]
    assert "".join(processor.decode(answer.written_ids[:-1]).split()).endswith("areddog")
    for trace, shift in ((question, 0), (answer, 1)):  # each word's tokens are its own
        for word, tokens in zip(trace.words, trace.tokens, strict=True):
            read = processor.decode([whole[token + trace.shift + shift - backend.before]
                                     for token in tokens])
            assert word.text in read.replace(" ##", "")
    inputs |= {"input_ids": torch.tensor([whole]), "attention_mask": torch.ones(1, len(whole))}
    if "image_embeds_position_mask" in inputs:
        inputs["image_embeds_position_mask"] = torch.nn.functional.pad(
            inputs["image_embeds_position_mask"], (0, answer.targets))
    output = model(**inputs, output_attentions=True)
    logs = output.logits[0, backend.before:].log_softmax(-1)
    want = [float(logs[place - 1, whole[place]]) for place in range(len(prompt.ids), len(whole))]
    np.testing.assert_allclose(answer.run(Rows(), answer.everything), want, atol=2e-4)
    attentions = getattr(output, "attentions", None) or output.language_model_outputs.attentions
    looks = None
    if backend.info.family == "kosmos-2":
        looks = [output.image_outputs.projection_attentions[0]]
    elif backend.info.family != "git":
        seen = {name: value for name, value in inputs.items() if name.startswith("qformer")}
        states = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        queries = model.query_tokens
        more = {"input_ids": seen["qformer_input_ids"], "attention_mask": torch.cat([
            torch.ones(1, queries.shape[1]), seen["qformer_attention_mask"]], 1)} if seen else {}
        looks = [one[0] for one in model.qformer(
            query_embeds=queries, encoder_hidden_states=states, output_attentions=True,
            **more).cross_attentions]
    explained = backend.explain(features, Request(QUESTION, TEXT, "en", "ask"),
                                method="cross-attention")
    shown = list(answer.regions.places)
    for trace, found in zip((question, answer), explained, strict=True):
        for q, tokens in enumerate(trace.tokens):
            rows = [token + trace.shift for token in tokens]
            if looks is None:
                maps = [one[0][:, rows].mean(1)[:, shown] for one in attentions]
            else:
                share = torch.stack([one[0].mean(0)[rows].mean(0) for one in attentions]).mean(0)
                maps = [share[list(answer.latents)] @ one[..., shown] for one in looks]
            np.testing.assert_allclose(found.weights[:, :, q], torch.stack(maps), atol=1e-5)


def test_latents_bring_the_picture_into_the_text(backend: PrefixBackend) -> None:
    """In rollout and relevancy a text knows of the picture only what its latents brought in."""
    if backend.stream == "text":
        pytest.skip("no latents")
    (trace,) = backend.traces(backend.encode_pictures([noise(90, 60)])[0],
                              Request("", TEXT, "en", "caption"))
    assert {layer.stream for layer in trace.layers} == {"latents", "text"}
    cut = type(trace)(**{**trace.__dict__, "latents": trace.latents[:1]})
    for method in ("rollout", "relevancy"):
        whole, part = (explain(one, method, (method,)).weights for one in (trace, cut))
        assert not np.allclose(whole, part, atol=1e-4)


def test_only_what_a_word_looked_at_counts_for_it(backend: PrefixBackend) -> None:
    check_that_only_what_a_word_looked_at_counts(backend)


def test_what_cannot_be_used_is_refused_with_what_can(tmp_path: Path) -> None:
    folder = save_tiny_prefix(tmp_path / "old", "blip-2")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"image_token_index": None}))
    with pytest.raises(CheckpointError, match="an old copy that does not say which tokens"):
        load_backend(EngineConfig(model=str(folder)))
    folder = save_tiny_prefix(tmp_path / "video", "git")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_image_with_embedding": 0}))
    assert load_backend(EngineConfig(model=str(folder))).info.family == "git"
