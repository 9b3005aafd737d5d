"""BLIP's methods against slow ones: one word at a time, with transformers' own forward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_methods import slow_relevancy
from tiny_blip import CLASSES, save_tiny_blip
from torch import Tensor

from vitdemo.attention import trace
from vitdemo.attention.methods import normalised
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.blip import BlipBackend
from vitdemo.backends.blip_trace import ANSWER_PATH
from vitdemo.backends.hub import word_places
from vitdemo.backends.joined import JoinedBackend
from vitdemo.device import pick
from vitdemo.records import Request
from vitdemo.texts import phrase

QUESTION, ANSWER = "what colour is the skateboard?", "red dogs"
TEXT = "a dog skateboards on a beach"
REGIONS = 16


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> JoinedBackend:
    """One checkpoint of each kind."""
    root = tmp_path_factory.mktemp("blip")
    folders = [save_tiny_blip(root / kind, kind, seed)
               for seed, kind in enumerate(CLASSES, start=1)]
    return JoinedBackend([BlipBackend.load(str(one), pick("cpu")) for one in folders])


@pytest.fixture(scope="module")
def features(backend: JoinedBackend) -> PictureFeatures:
    values = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return backend.encode_pictures([Image.fromarray(values)])[0]


def explain(backend, features, task, text, method, instruction=QUESTION):
    return backend.explain(features, Request(instruction, text, "en", task), method)


class Slow:
    """Plain transformers with the weights unfrozen; every attention matrix is kept, (H, T, N)."""

    def __init__(self, backend: JoinedBackend, features: PictureFeatures, task: str, read: str,
                 written: str, only: list[int] | None = None) -> None:
        self.backend: Any = backend.doing(task)
        self.checkpoint = self.backend.checkpoint
        model, tokenizer = self.checkpoint.model, self.checkpoint.tokenizer
        model.requires_grad_(True)
        (self.features,) = backend._of(task, [features])
        self.states = self.features.data.states.clone().requires_grad_()
        self.own: dict[str, list[Tensor]] = {"read": [], "written": []}
        self.cross: dict[str, list[Tensor]] = {"read": [], "written": []}
        looked_at = self.states
        if task != "caption":
            looked_at = self.run("read", model.text_encoder, only,
                                 **tokenizer(read, return_tensors="pt"),
                                 encoder_hidden_states=self.states).last_hidden_state
        if task == "match":
            fits = model.itm_head(looked_at[:, 0])[0]
            self.outcome = fits[1] - fits[0]
            return
        ids = tokenizer(written, add_special_tokens=False)["input_ids"]
        text = model.config.text_config
        output = self.run("written", model.text_decoder, None,
                          input_ids=torch.tensor([[text.bos_token_id, *ids]]),
                          encoder_hidden_states=looked_at)
        logs = output.logits[0].log_softmax(-1)
        self.logs = logs.gather(1, torch.tensor([*ids, text.sep_token_id])[:, None])[:, 0]
        self.outcome = self.logs.sum()

    def run(self, part: str, model: Any, only: list[int] | None, **given: Tensor) -> Any:
        """Keep what each attention gives back; ``only`` cuts what other positions looked at."""
        layers = getattr(model, "bert", model).encoder.layer
        handles = []
        for layer in layers:
            for module, kept in ((layer.attention.self, self.own[part]),
                                 (layer.crossattention.self, self.cross[part])):
                def hook(module, args, output, kept=kept, cross=module is not layer.attention.self):
                    kept.append(output[1])
                    if only is None or not cross:
                        return None
                    rows = [output[0][:, t] if t in only else output[0][:, t].detach()
                            for t in range(output[0].shape[1])]
                    return torch.stack(rows, 1), output[1]
                handles.append(module.register_forward_hook(hook))
        try:
            return model(**given)
        finally:
            for handle in handles:
                handle.remove()

    def means(self, part: str, target: Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
        found = []
        for record in (self.own[part], self.cross[part]):
            gradients = torch.autograd.grad(target, record, retain_graph=True, allow_unused=True)
            found.append([np.zeros(weights.shape[2:]) if gradient is None else
                          (weights[0] * gradient[0]).detach().numpy().clip(min=0).mean(0)
                          for weights, gradient in zip(record, gradients, strict=True)])
        return found[0], found[1]

    def places(self, text: str) -> list[list[int]]:
        return word_places(text, self.checkpoint.ids(text)[1])[1]


PATCHES = np.eye(REGIONS + 1)[:, 1:]


@pytest.fixture(autouse=True)
def frozen_again(backend):
    yield
    for one in backend.backends:
        one.model.requires_grad_(False)


@pytest.mark.parametrize("task", ["caption", "ask"])
def test_relevancy_of_written_words_equals_one_word_at_a_time(backend, features, task):
    text = TEXT if task == "caption" else ANSWER
    *_, found = explain(backend, features, task, text, "relevancy")
    slow = Slow(backend, features, task, QUESTION, text)
    for q, tokens in enumerate(slow.places(text)):
        target = slow.logs[tokens].sum()
        context = PATCHES
        if task == "ask":
            context = slow_relevancy(*slow.means("read", target), PATCHES)
        want = slow_relevancy(*slow.means("written", target), context)[tokens].mean(0)
        np.testing.assert_allclose(found.weights[0, 0, q], normalised(want), atol=1e-5, rtol=1e-3)
        assert found.word_probabilities[q] == pytest.approx(float(target.detach().exp()), rel=1e-3)


@pytest.mark.parametrize("task", ["ask", "match"])
def test_relevancy_of_read_words_is_that_of_the_outcome(backend, features, task):
    read, written = (QUESTION, ANSWER) if task == "ask" else (TEXT, "")
    found = explain(backend, features, task, written or read, "relevancy")[0]
    slow = Slow(backend, features, task, read, written)
    maps = slow_relevancy(*slow.means("read", slow.outcome), PATCHES)
    want = [maps[[token + 1 for token in tokens]].mean(0) for tokens in slow.places(read)]
    np.testing.assert_allclose(found.weights[0, 0], normalised(np.stack(want)), atol=1e-5,
                               rtol=1e-3)


@pytest.mark.parametrize("task", ["caption", "ask"])
def test_grad_cam_of_written_words_equals_one_word_at_a_time(backend, features, task):
    text = TEXT if task == "caption" else ANSWER
    *_, found = explain(backend, features, task, text, "grad-cam")
    slow = Slow(backend, features, task, QUESTION, text)
    for q, tokens in enumerate(slow.places(text)):
        (gradient,) = torch.autograd.grad(slow.logs[tokens].sum(), slow.states, retain_graph=True)
        want = (slow.states[0, 1:] @ gradient[0, 1:].mean(0)).detach().numpy()
        np.testing.assert_allclose(found.weights[0, 0, q], normalised(want), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("task", ["ask", "match"])
def test_grad_cam_of_a_read_word_counts_what_that_word_brought_in(backend, features, task):
    read, written = (QUESTION, ANSWER) if task == "ask" else (TEXT, "")
    found = explain(backend, features, task, written or read, "grad-cam")[0]
    for q, tokens in enumerate(Slow(backend, features, task, read, written).places(read)):
        slow = Slow(backend, features, task, read, written, [token + 1 for token in tokens])
        (gradient,) = torch.autograd.grad(slow.outcome, slow.states)
        want = (slow.states[0, 1:] @ gradient[0, 1:].mean(0)).detach().numpy()
        np.testing.assert_allclose(found.weights[0, 0, q], normalised(want), atol=1e-5, rtol=1e-3)


@torch.no_grad()
def test_rollout_goes_through_the_vision_encoder(backend, features):
    """The product of whole matrices over patches, question and answer."""
    slow = Slow(backend, features, "ask", QUESTION, ANSWER)
    vision = slow.checkpoint.model.vision_model
    pixels = slow.backend.pixels([slow.features.data.square])
    output = vision(pixel_values=pixels, output_attentions=True)
    torch.testing.assert_close(output.last_hidden_state, slow.states, atol=1e-4, rtol=1e-4)
    read, written = (one[0].shape[2] for one in (slow.own["read"], slow.own["written"]))
    starts = {"read": REGIONS + 1, "written": REGIONS + 1 + read}
    whole = np.eye(REGIONS + 1 + read + written)

    def step(first: int, start: int, weights: Tensor) -> None:
        nonlocal whole
        one = np.eye(len(whole))
        rows, columns = weights.shape[2:]
        one[first:first + rows, start:start + columns] += weights[0].detach().numpy().mean(0)
        one[first:first + rows] /= 2
        whole = one @ whole

    for weights in output.attentions:
        step(0, 0, weights)
    for part, context in (("read", 0), ("written", starts["read"])):
        for own, cross in zip(slow.own[part], slow.cross[part], strict=True):
            step(starts[part], starts[part], own)
            step(starts[part], context, cross)
    question, answer = explain(backend, features, "ask", ANSWER, "rollout")
    for found, first, text in ((question, starts["read"] + 1, QUESTION),
                               (answer, starts["written"], ANSWER)):
        want = [whole[[first + token for token in tokens], 1:REGIONS + 1].mean(0)
                for tokens in slow.places(text)]
        np.testing.assert_allclose(found.weights[0, 0], np.stack(want), atol=1e-5)


def test_several_passes_give_what_one_gives(backend, features, monkeypatch):
    for method in ("relevancy", "grad-cam"):
        for task, text in (("caption", TEXT), ("ask", ANSWER)):
            whole = explain(backend, features, task, text, method)
            with monkeypatch.context() as patch:
                patch.setattr(trace, "rows_at_once", lambda _: 2)
                parts = explain(backend, features, task, text, method)
            for one, other in zip(whole, parts, strict=True):
                # A product of other rows rounds otherwise; shares of a small sum show that.
                np.testing.assert_allclose(one.weights, other.weights, atol=1e-4)


def hooks(backend) -> int:
    return sum(len(module._forward_hooks) for one in backend.backends
               for module in one.model.modules())


def test_nothing_is_left_behind(backend, features):
    before = explain(backend, features, "ask", ANSWER, "cross-attention")
    found_there = hooks(backend)  # transformers keeps some of its own
    for method in backend.info.methods:
        for task, text in (("caption", TEXT), ("ask", ANSWER), ("match", TEXT)):
            with torch.inference_mode():  # as a caller may have it
                fresh = backend.encode_pictures([features.data.picture.copy()])[0]
                found = explain(backend, fresh, task, text, method)
            assert all(np.isfinite(one.weights).all() for one in found)
    for part in backend.backends:
        assert not any(one.requires_grad for one in part.model.parameters())
    assert hooks(backend) == found_there
    after = explain(backend, features, "ask", ANSWER, "cross-attention")
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.weights, other.weights)


def test_an_answers_note_says_that_it_looks_through_the_question(backend, features):
    for method in backend.info.methods[1:]:
        question, answer = explain(backend, features, "ask", ANSWER, method)
        path = phrase(ANSWER_PATH)
        assert answer.note.endswith(path) and path not in question.note


def test_states_of_zeros(backend, features):
    """Nothing to see, and nothing that divides by zero."""
    (blank,) = backend.encode_pictures([features.data.picture.copy()])
    for place, one in enumerate(backend.backends):
        (blank.data.features[place],) = found = one.encode_pictures([features.data.picture])
        found[0].data.states.zero_()
    for method in backend.info.methods:
        for task, text in (("caption", TEXT), ("ask", ANSWER), ("match", TEXT)):
            assert all(np.isfinite(one.weights).all()
                       for one in explain(backend, blank, task, text, method))


def test_a_checkpoint_by_itself_lists_its_methods(tmp_path: Path) -> None:

    alone = BlipBackend.load(str(save_tiny_blip(tmp_path / "x", "retrieval", 4)), pick("cpu"))
    assert alone.info.methods == ("cross-attention", "rollout", "relevancy", "grad-cam")
