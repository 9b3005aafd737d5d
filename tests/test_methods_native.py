"""Our own model's methods against slow ones: one word at a time, a network written out by hand."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_model
from test_methods import slow_relevancy
from torch import Tensor

from vitdemo.attention import trace
from vitdemo.attention.methods import normalised
from vitdemo.backends.base import PictureFeatures
from vitdemo.backends.native import NativeBackend
from vitdemo.device import Placement, pick
from vitdemo.errors import ConfigError
from vitdemo.models.fusion import Memory
from vitdemo.models.layers import sinusoid
from vitdemo.models.regions import blend
from vitdemo.models.vlm import VLM
from vitdemo.records import Request

INSTRUCTION, TEXT, ANSWER = "what is in the picture?", "a red dog runs and a dog sits", "red dogs"
GRADIENTS = ("relevancy", "grad-cam")


@pytest.fixture(scope="module")
def backend(tokenizer) -> NativeBackend:
    """A grid of 5 x 5, and text that counts for something."""
    model = make_model(tokenizer, picture_size=160)
    return NativeBackend(model, tokenizer, name="tiny", revision="1", placement=pick("cpu"))


@pytest.fixture(scope="module")
def features(backend) -> PictureFeatures:
    generator = torch.Generator().manual_seed(5)
    count, channels = 25, backend.model.vision.channels
    return PictureFeatures(torch.randn(1, count, channels, generator=generator), (90, 60))


def explain(backend, features, task, text, method, instruction=INSTRUCTION):
    return backend.explain(features, Request(instruction, text, "en", task), method)


class Slow:
    """The network written out for one row; every attention matrix is kept, (H, T, N)."""

    def __init__(self, backend: NativeBackend, features: Tensor, read: str, written: str) -> None:
        self.model, tokenizer = backend.model, backend.tokenizer
        self.text_own: list[Tensor] = []
        self.fusion: list[Tensor] = []
        self.own: list[Tensor] = []
        self.cross: list[Tensor] = []
        ids, mask = tokenizer.encode([read])
        text = self.model.text
        x = text.norm(text.token_embedding(ids)
                      + text.position_embedding(torch.arange(ids.shape[1])))[0]
        for block in text.blocks:
            x = block.attention_norm(x + self.attend(block.attention, x, x, self.text_own))
            x = block.feed_forward_norm(x + block.feed_forward(x))
        z = torch.nn.functional.normalize(self.model.instruction_head(x[None], mask), dim=-1)
        tokens = self.model.modulation(self.model.vision.tokens(features), z)[0]
        for block in self.model.fusion.blocks:
            seen = self.attend(block.cross, block.cross_norm(x), tokens, self.fusion)
            x = x + block.cross_gate.tanh() * seen
            x = x + block.feed_forward_gate.tanh() * block.feed_forward(block.feed_forward_norm(x))
        self.words, self.mask, self.z = x, mask, z
        self.memory = self.model.fusion.norm(torch.cat((tokens, x)))
        self.ids = ids
        self.match = self.matched(Memory(self.memory[None], mask, len(tokens), x[None]), features)
        self.logs = self.write(backend, written) if written else torch.zeros(0)

    def matched(self, memory: Memory, features: Tensor) -> Tensor:
        """The match logit of the row with another memory."""
        return self.model.match(memory, self.ids, self.mask, self.z,
                                self.model.picture_head(features), self.model.regions(features))[0]

    def write(self, backend: NativeBackend, written: str) -> Tensor:
        """Log-probabilities (T + 1,) of the tokens and the end."""
        ids, _ = backend.tokenizer.pieces(written)
        decoder = self.model.decoder
        inputs = torch.tensor([backend.tokenizer.language_start["en"], *ids])
        width = decoder.embedding.embedding_dim
        x = decoder.embedding(inputs) * width ** 0.5 + sinusoid(len(inputs), width)
        causal = torch.ones(len(inputs), len(inputs)).tril().bool()
        for block in decoder.blocks:
            normed = block.self_norm(x)
            x = x + self.attend(block.self_attention, normed, normed, self.own, causal)
            x = x + self.attend(block.cross, block.cross_norm(x), self.memory, self.cross)
            x = x + block.feed_forward(block.feed_forward_norm(x))
        logs = decoder.logits(decoder.norm(x)).log_softmax(-1)
        return logs.gather(1, torch.tensor([*ids, backend.tokenizer.end])[:, None])[:, 0]

    @staticmethod
    def attend(module, x: Tensor, context: Tensor, kept: list[Tensor],
               mask: Tensor | None = None) -> Tensor:
        size = x.shape[-1] // module.heads
        query, key, value = module.query(x), module.key(context), module.value(context)
        found, weights = [], []
        for h in range(module.heads):
            part = slice(h * size, (h + 1) * size)
            scores = query[:, part] @ key[:, part].T / size ** 0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            weights.append(scores.softmax(-1))
        joined = torch.stack(weights)
        kept.append(joined)
        for h in range(module.heads):
            found.append(joined[h] @ value[:, h * size:(h + 1) * size])
        return module.out(torch.cat(found, -1))


def mean(weights: Tensor, target: Tensor) -> np.ndarray:
    """Eq. 5 for one attention of one pass."""
    (gradient,) = torch.autograd.grad(target, weights, retain_graph=True, allow_unused=True)
    if gradient is None:
        return np.zeros(weights.shape[1:])
    total = np.zeros(weights.shape[1:])
    for head in range(len(weights)):
        total += (weights[head] * gradient[head]).detach().numpy().clip(min=0)
    return total / len(weights)


def written_maps(backend, slow: Slow, text: str) -> np.ndarray:
    """Relevancy of every word, each with a target of its own."""
    count, maps = 25, []
    for _, tokens in backend.tokenizer.word_tokens(text):
        target = slow.logs[tokens].sum()
        length = slow.words.shape[0]
        read = np.zeros((length, count))
        for weights in slow.fusion:
            read = read + mean(weights, target) @ np.eye(count)
        context = np.concatenate([np.eye(count), read])
        found = slow_relevancy([mean(one, target) for one in slow.own],
                               [mean(one, target) for one in slow.cross], context)
        maps.append(found[tokens].mean(0))
    return np.stack(maps)


def test_relevancy_of_written_words_equals_one_word_at_a_time(backend, features):
    slow = Slow(backend, features.data, INSTRUCTION, TEXT)
    (found,) = explain(backend, features, "caption", TEXT, "relevancy")
    np.testing.assert_allclose(found.weights[0, 0], normalised(written_maps(backend, slow, TEXT)),
                               atol=1e-5, rtol=1e-3)
    for word, (_, tokens) in zip(found.word_probabilities, backend.tokenizer.word_tokens(TEXT),
                                 strict=True):
        assert word == pytest.approx(float(slow.logs[tokens].detach().sum().exp()), rel=1e-3)


@pytest.mark.parametrize("task", ["ask", "match"])
def test_relevancy_of_read_words_is_that_of_the_outcome(backend, features, task):
    read, written = (INSTRUCTION, ANSWER) if task == "ask" else (TEXT, "")
    slow = Slow(backend, features.data, read, written)
    target = slow.logs.sum() if task == "ask" else slow.match
    own = [mean(one, target) for one in slow.text_own]
    length = len(own[0])
    nothing = [np.zeros((length, 25))] * len(own)
    alone = [np.zeros((length, length))] * len(slow.fusion)
    # All of the text encoder's layers come before all of the fusion's.
    want = slow_relevancy(own + alone, nothing + [mean(one, target) for one in slow.fusion],
                          np.eye(25))
    maps = [want[[token + 1 for token in tokens]].mean(0)
            for _, tokens in backend.tokenizer.word_tokens(read)]
    text = written or read
    found = explain(backend, features, task, text, "relevancy")
    np.testing.assert_allclose(found[0].weights[0, 0], normalised(np.stack(maps)), atol=1e-5,
                               rtol=1e-3)
    if task == "ask":
        np.testing.assert_allclose(found[1].weights[0, 0],
                                   normalised(written_maps(backend, slow, ANSWER)), atol=1e-5,
                                   rtol=1e-3)


def test_grad_cam_of_written_words_equals_one_word_at_a_time(backend, features):
    (found,) = explain(backend, features, "caption", TEXT, "grad-cam")
    for q, (_, tokens) in enumerate(backend.tokenizer.word_tokens(TEXT)):
        leaf = features.data.clone().requires_grad_()
        slow = Slow(backend, leaf, INSTRUCTION, TEXT)
        (gradient,) = torch.autograd.grad(slow.logs[tokens].sum(), leaf)
        want = np.zeros(25)
        for channel in range(leaf.shape[2]):
            alpha = sum(float(gradient[0, n, channel]) for n in range(25)) / 25
            want += alpha * leaf[0, :, channel].detach().numpy()
        np.testing.assert_allclose(found.weights[0, 0, q], normalised(want), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("task", ["ask", "match"])
def test_grad_cam_of_a_read_word_counts_what_that_word_brought_in(backend, features, task):
    """The fusion's words are not mixed with each other, so cutting all words but one afterwards
    is the same as letting the gradient in at that word only."""
    read, written = (INSTRUCTION, ANSWER) if task == "ask" else (TEXT, "")
    found = explain(backend, features, task, written or read, "grad-cam")[0]
    for q, (_, tokens) in enumerate(backend.tokenizer.word_tokens(read)):
        leaf = features.data.clone().requires_grad_()
        slow, still = (Slow(backend, one, read, "") for one in (leaf, features.data))
        kept = torch.zeros(len(slow.words), 1, dtype=torch.bool)
        kept[[token + 1 for token in tokens]] = True
        words = torch.where(kept, slow.words, slow.words.detach())
        memory = torch.cat((still.memory[:25], slow.model.fusion.norm(words)))
        if task == "ask":
            slow.memory = memory
            target = slow.write(backend, written).sum()
        else:
            target = slow.matched(Memory(memory[None], slow.mask, 25, words[None]), features.data)
        (gradient,) = torch.autograd.grad(target, leaf)
        want = (leaf[0] @ gradient[0].mean(0)).detach().numpy()
        np.testing.assert_allclose(found.weights[0, 0, q], normalised(want), atol=1e-5, rtol=1e-3)
    assert not np.allclose(found.weights[0, 0, 0], found.weights[0, 0, 1], atol=1e-3)


def test_rollout_equals_the_product_of_whole_matrices(backend, features):
    slow = Slow(backend, features.data, INSTRUCTION, ANSWER)
    count, read, length = 25, len(slow.words), len(slow.own[0][0])
    whole = np.eye(count + read + length)

    def step(first: int, start: int, weights: Tensor, size: float) -> None:
        nonlocal whole
        one = np.eye(len(whole))
        rows, columns = weights.shape[1:]
        one[first:first + rows, start:start + columns] += size * weights.detach().numpy().mean(0)
        one[first:first + rows] /= 1 + size
        whole = one @ whole

    for weights, gate in zip(slow.fusion, backend.model.gates().tolist(), strict=True):
        step(count, 0, weights, abs(gate))
    for own, cross in zip(slow.own, slow.cross, strict=True):
        step(count + read, count + read, own, 1)
        step(count + read, 0, cross, 1)
    question, answer = explain(backend, features, "ask", ANSWER, "rollout")
    for found, first, text in ((question, count + 1, INSTRUCTION), (answer, count + read, ANSWER)):
        want = [whole[[first + token for token in tokens], :count].mean(0)
                for _, tokens in backend.tokenizer.word_tokens(text)]
        np.testing.assert_allclose(found.weights[0, 0], np.stack(want), atol=1e-5)
    share = answer.weights.sum(-1)
    assert (share > 0.05).all() and (share < 1).all()


def test_word_region_is_the_heads_own_map(backend, features):
    (found,) = explain(backend, features, "caption", TEXT, "word-region")
    head, tokenizer = backend.model.region_head, backend.tokenizer
    for q, (_, tokens) in enumerate(tokenizer.word_tokens(TEXT)):
        ids = [tokenizer.pieces(TEXT)[0][token] for token in tokens]
        maps = []
        for number in ids:
            cosine = head.regions(features.data)[0] @ head.words(torch.tensor(number))
            blended = blend(cosine[None, :, None], head.grid)[0, :, 0]
            maps.append((blended / 0.04).softmax(0).detach().numpy())
        np.testing.assert_allclose(found.weights[0, 0, q], np.mean(maps, 0), atol=1e-5)
    assert len(explain(backend, features, "ask", ANSWER, "word-region")) == 2


def test_methods_follow_what_the_model_has(tokenizer):
    def methods(**changes: object) -> tuple[str, ...]:
        model: VLM = make_model(tokenizer, **changes)
        return NativeBackend(model, tokenizer, name="x", revision="1",
                             placement=pick("cpu")).info.methods

    assert methods() == ("matched-attention", "cross-attention", "rollout", "relevancy",
                         "grad-cam", "word-region")
    assert methods(regions=False) == ("cross-attention", "rollout", "relevancy", "grad-cam")
    assert methods(fusion="linear") == ()


def test_an_unknown_method_is_refused(backend, features):
    with pytest.raises(ConfigError, match="method is 'magic'; this model can explain by matched-"):
        explain(backend, features, "caption", TEXT, "magic")


@pytest.mark.parametrize("fusion", ["cross_attention", "concat"])
def test_other_fusions_are_explained_as_far_as_they_go(tokenizer, features, fusion):
    model = make_model(tokenizer, picture_size=160, fusion=fusion)
    backend = NativeBackend(model, tokenizer, name="x", revision="1", placement=pick("cpu"))
    for method in backend.info.methods:
        asked = explain(backend, features, "ask", ANSWER, method)
        assert [one.source for one in asked] == \
            (["answer"] if fusion == "concat" else ["question", "answer"])
        assert all(np.isfinite(one.weights).all() for one in asked)
        assert len(explain(backend, features, "match", TEXT, method)) == \
            (0 if fusion == "concat" else 1)


def test_several_passes_give_what_one_gives(backend, features, monkeypatch):
    for method in GRADIENTS:
        whole = explain(backend, features, "caption", TEXT, method)
        asked = explain(backend, features, "ask", ANSWER, method)
        with monkeypatch.context() as patch:
            patch.setattr(trace, "rows_at_once", lambda _: 3)
            parts = explain(backend, features, "caption", TEXT, method)
            again = explain(backend, features, "ask", ANSWER, method)
        for one, other in zip((*whole, *asked), (*parts, *again), strict=True):
            np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
            np.testing.assert_allclose(one.word_probabilities, other.word_probabilities, rtol=1e-4)


def test_nothing_is_left_behind(backend, features):
    """No gradients on the weights, no hooks, the same bits, and the caller keeps its modes."""
    before = explain(backend, features, "caption", TEXT, "cross-attention")[0]
    for method in backend.info.methods:
        with torch.inference_mode():  # as a caller may have it
            kept = PictureFeatures(features.data.clone(), features.size)
            found = explain(backend, kept, "ask", ANSWER, method)
            assert torch.is_inference_mode_enabled()
        plain = explain(backend, features, "ask", ANSWER, method)
        for one, other in zip(found, plain, strict=True):
            np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
    assert all(one.grad is None for one in backend.model.parameters())
    assert not any(module._forward_hooks for module in backend.model.modules())
    after = explain(backend, features, "caption", TEXT, "cross-attention")[0]
    assert np.array_equal(before.weights, after.weights)
    assert before.word_probabilities == after.word_probabilities


def test_recording_with_gradients_gives_the_same_probabilities(backend, features):
    plain = explain(backend, features, "caption", TEXT, "cross-attention")[0]
    for method in backend.info.methods[1:]:
        found = explain(backend, features, "caption", TEXT, method)[0]
        np.testing.assert_allclose(found.word_probabilities, plain.word_probabilities, rtol=1e-4)


def test_a_frozen_model_can_be_explained(backend, features):
    frozen = NativeBackend(copy.deepcopy(backend.model).requires_grad_(False), backend.tokenizer,
                           name="x", revision="1", placement=pick("cpu"))
    for task, text in (("caption", TEXT), ("match", TEXT)):
        for method in GRADIENTS:
            found, want = (explain(one, features, task, text, method)[0]
                           for one in (frozen, backend))
            np.testing.assert_allclose(found.weights, want.weights, atol=1e-5)


def test_half_precision(backend, features):
    half = NativeBackend(copy.deepcopy(backend.model), backend.tokenizer, name="x", revision="1",
                         placement=Placement(torch.device("cpu"), torch.bfloat16, "a test"))
    kept = PictureFeatures(features.data.bfloat16(), features.size)
    for method in half.info.methods:
        found = explain(half, kept, "caption", TEXT, method)[0].mean_map()
        want = explain(backend, features, "caption", TEXT, method)[0].mean_map()
        assert np.isfinite(found).all()
        assert np.abs(found - want).sum(-1).max() < 0.35, method


def test_words_of_no_token_and_texts_that_were_cut(backend, features):
    long = " ".join(["dog"] * 300)  # the text encoder reads 254 of them
    for method in backend.info.methods:
        (found,) = explain(backend, features, "match", long, method)
        sums = found.weights.sum(-1)[0, 0]
        assert len(found.words) == 300
        assert (sums[:254] > 0).any()
        if method != "word-region":
            assert not sums[254:].any(), "what was not read did not look"
        for text in ("", "?", "..."):
            (nothing,) = explain(backend, features, "caption", text, method)
            assert nothing.weights.shape[2] == len(nothing.words)
            assert np.isfinite(nothing.weights).all()


def test_zero_features_give_no_map_and_no_fault(backend):
    blank = PictureFeatures(torch.zeros(1, 25, backend.model.vision.channels), (90, 60))
    for method in backend.info.methods:
        for one in explain(backend, blank, "ask", ANSWER, method):
            assert np.isfinite(one.weights).all()
    (found,) = explain(backend, blank, "caption", TEXT, "grad-cam")
    assert not found.weights.any()
