"""Recording attention changes nothing, leaves nothing behind, and tells the truth."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_blip import save_tiny_blip
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from vitdemo.attention import capture
from vitdemo.attention.capture import Look, Record, record
from vitdemo.backends.blip import BlipBackend
from vitdemo.backends.blip_model import Memory, Writer, WriterState
from vitdemo.device import pick
from vitdemo.errors import TaskError

IDS = (17, 8, 30, 8, 22, 41)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Writer, Memory]:
    """A captioning decoder and a picture that it looks at."""
    folder = save_tiny_blip(tmp_path_factory.mktemp("blip") / "c", "captioning", seed=1)
    backend = BlipBackend.load(str(folder), pick("cpu"))
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    features = backend.encode_pictures([Image.fromarray(values)])[0]
    writer = backend.writer
    assert writer is not None
    return writer, writer.memory(features.data.states)


def crossings(writer: Writer) -> list[nn.Module]:
    return [cross for _, cross in writer.layers]


class Fused(nn.Module):
    """Two heads over a memory with the fused kernel, which keeps its weights for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    @staticmethod
    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], 2, 4).transpose(1, 2)  # (R, H, T, d)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            self.split(self.query(x)), self.split(self.key(memory)),
            self.split(self.value(memory)), attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)  # (R, T, D)


@pytest.fixture
def fused() -> tuple[Fused, Tensor, Tensor]:
    torch.manual_seed(0)
    return Fused(), torch.randn(2, 3, 8), torch.randn(2, 5, 8)


def stacked(looks: Record) -> Tensor:
    """All layers in one tensor: (L, R, H, T, N)."""
    return torch.stack(looks.weights)


def hooks_of(modules: list[nn.Module]) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


@torch.no_grad()
def test_logits_are_the_same_bits_with_recording_on_and_off(blip):
    writer, memory = blip
    fed = torch.tensor([[writer.start, *IDS]])

    def logits() -> Tensor:
        return writer.decoder(input_ids=fed, encoder_hidden_states=memory.states).logits

    plain = logits()
    with record(crossings(writer)) as looks:
        recorded = logits()
    assert torch.equal(plain, recorded) and torch.equal(plain, logits())
    assert stacked(looks).shape == (3, 1, 4, len(IDS) + 1, memory.states.shape[1])


@torch.no_grad()
def test_one_teacher_forced_pass_equals_recording_step_by_step(blip):
    writer, memory = blip
    with record(crossings(writer)) as once:
        writer.read(torch.tensor([[writer.start, *IDS]]), memory)
    state = WriterState(writer, memory)
    with record(crossings(writer)) as stepwise:
        for token in (writer.start, *IDS):
            state.next(torch.tensor([[token]]))
    assert [len(calls) for calls in stepwise.calls] == [len(IDS) + 1] * 3
    torch.testing.assert_close(stacked(once), stacked(stepwise), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_our_own_model_is_recorded_as_truly(native_backend, picture):
    """Same bits with recording on and off, and one pass equal to step by step."""
    decoder = native_backend.model.decoder
    modules = [block.cross for block in decoder.blocks]
    features = native_backend.encode_pictures([picture])[0]
    memory = native_backend.memory(features.data, "what is there?")
    ids = torch.tensor([[native_backend.tokenizer.language_start["en"], *IDS]])
    plain = decoder(ids, memory)
    with record(modules) as once:
        assert torch.equal(decoder(ids, memory), plain)
    cache = decoder.start(memory)
    with record(modules) as stepwise:
        logits = [decoder.logits(decoder.hidden(ids[:, i:i + 1], cache, keep=True))
                  for i in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(logits, dim=1), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stacked(once), stacked(stepwise), atol=1e-5, rtol=1e-4)
    sums = stacked(once).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert hooks_of(modules) == 0


@torch.no_grad()
def test_a_decoder_of_transformers_gives_what_its_eager_way_gives():
    """Rotary positions, keys shared by groups of heads, a causal mask, a padded batch, one token:
    all as the kernel was given them."""
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attn_implementation="sdpa")).eval()
    modules = [layer.self_attn for layer in model.layers]
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[0, :3] = 0
    for ids, given in ((torch.randint(0, 60, (2, 7)), mask), (torch.randint(0, 60, (1, 7)), None),
                       (torch.tensor([[5]]), None)):
        with record(modules) as looks:
            plain = model(input_ids=ids, attention_mask=given).last_hidden_state
        for look in looks:
            look.check(range(3 if given is not None else 0, ids.shape[1]))
        found = looks.weights
        model.set_attn_implementation("eager")
        output = model(input_ids=ids, attention_mask=given, output_attentions=True)
        model.set_attn_implementation("sdpa")
        real = slice(3, None) if given is not None else slice(None)
        torch.testing.assert_close(output.last_hidden_state[:, real], plain[:, real], atol=1e-4,
                                   rtol=1e-4)
        for one, other in zip(found, output.attentions, strict=True):
            torch.testing.assert_close(one[:, :, real], other[:, :, real], atol=1e-5, rtol=1e-4)


def test_hooks_go_even_when_the_pass_fails(blip):
    writer, _ = blip
    modules = crossings(writer)
    with pytest.raises(RuntimeError), record(modules) as looks:
        assert hooks_of(modules) == 6
        writer.decoder(input_ids=torch.tensor([[1]]), encoder_hidden_states=torch.zeros(1, 2, 5))
    assert hooks_of(modules) == 0
    F.scaled_dot_product_attention(*torch.randn(3, 1, 2, 3, 4))
    assert looks.calls == [[], [], []]


def test_hooks_go_when_they_cannot_all_be_set(fused):
    module, _, _ = fused
    with pytest.raises(AttributeError), record([module, None]):  # type: ignore[list-item]
        pass
    assert hooks_of([module]) == 0


def test_a_layer_that_was_not_called_is_named(fused):
    module, x, memory = fused
    with record([module]) as looks:
        pass
    with pytest.raises(AssertionError, match="layer 0 was not called"):
        stacked(looks)
    with record([module]) as looks:
        module(x, memory)
        module(x, memory)
    with pytest.raises(AssertionError, match="layer 0 was called 2 times"):
        list(looks)


@pytest.mark.parametrize("mask", [
    None, torch.tensor([True, False, True, True, False]),
    torch.tensor([0.0, float("-inf"), 0.5, 0.0, -2.0])])
def test_weights_of_a_fused_kernel_give_its_result(fused, mask, monkeypatch):
    module, x, memory = fused
    with record([module]) as looks:
        output = module(x, memory, None if mask is None else mask.expand(3, 5))
    look, whole = looks[0], looks[0].weights()
    assert not whole.requires_grad
    mixed = whole @ module.split(module.value(memory))
    torch.testing.assert_close(mixed.transpose(1, 2).flatten(2), output)
    torch.testing.assert_close(look.mean([2, 0]), whole.mean(1)[:, [2, 0]])
    look.check(range(3))
    monkeypatch.setattr(capture, "_NUMBERS_AT_ONCE", 1)  # a head at a time
    assert len(list(look.blocks())) == 2
    torch.testing.assert_close(look.weights([1]), whole[:, :, [1]])


def test_a_row_that_may_look_at_nothing_has_zeros():
    look = Look(query=torch.randn(2, 2, 3, 4), key=torch.randn(2, 2, 5, 4),
                mask=torch.zeros(5, dtype=torch.bool))
    assert torch.equal(look.weights(), torch.zeros(2, 2, 3, 5))


def test_what_was_recorded_wrongly_is_told(fused):
    module, x, memory = fused
    with record([module]) as looks:
        module(x, memory)
    looks[0].scale *= 2  # as of a layer that does more than attend
    with pytest.raises(TaskError, match="not what this model used"):
        looks[0].check([0])
    with pytest.raises(TaskError, match="float32"):
        Look(given=torch.full((1, 1, 2, 2), float("nan"))).check([0])


def test_gradients_reach_the_weights(fused, blip):
    module, x, memory = fused
    module.requires_grad_(False)
    with record([module], graph=True) as looks:
        output = module(x, memory)
    found, = torch.autograd.grad(output[0, 1].sum(), looks[0].handle)
    mean = looks[0].relevant(found)
    assert mean[0, 1].sum() > 0 and mean[1].sum() == 0, "the word's own row"

    writer, looked_at = blip
    with record(crossings(writer), graph=True) as looks:
        hidden = writer.read(torch.tensor([[writer.start, *IDS]]), looked_at)
    handles = [look.handle for look in looks]
    gradients = torch.autograd.grad(hidden[0, -1].max(), handles)
    assert all(one[..., -1, :].abs().sum() > 0 for one in gradients)


def test_blocks_may_be_nested(fused):
    module, x, memory = fused
    with record([module]) as outer:
        module(x, memory)
        with record([module]) as inner:
            module(x, memory)
    assert outer.weights[0].shape[2] == 6
    assert inner.weights[0].shape[2] == 3
