"""Recording cross-attention changes nothing, leaves nothing behind, and tells the truth."""


import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_blip import save_tiny_blip
from torch import Tensor, nn

from vitdemo.attention.capture import attention_weights, capture_cross_attention, own_weights
from vitdemo.backends.blip import BlipBackend
from vitdemo.backends.blip_decoder import Memory, Writer
from vitdemo.backends.blip_explain import returned_weights
from vitdemo.device import pick

IDS = (17, 8, 30, 8, 22, 41)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Writer, Memory]:
    """A captioning decoder and a picture that it looks at."""
    folder = save_tiny_blip(tmp_path_factory.mktemp("blip") / "c", "captioning", seed=1)
    backend = BlipBackend.load(str(folder), pick("cpu"))
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    features = backend.encode_pictures([Image.fromarray(values)])[0]
    writer = backend._writers["captioning"]
    return writer, writer.reader.memory(features.data.states["captioning"])


class Fused(nn.Module):
    """Two heads over a memory with the fused kernel, which keeps its weights for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    @staticmethod
    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], 2, 4).transpose(1, 2)  # (R, H, T, d)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            self.split(self.query(x)), self.split(self.key(memory)), self.split(self.value(memory)))
        return mixed.transpose(1, 2).flatten(2)  # (R, T, D)


def again(module: Fused, args: tuple[Tensor, Tensor], kwargs: dict, output: Tensor) -> Tensor:
    return attention_weights(module.split(module.query(args[0])), module.split(module.key(args[1])))


def through(module: Fused, weights: Tensor, args: tuple[Tensor, Tensor], kwargs: dict) -> Tensor:
    return (weights @ module.split(module.value(args[1]))).transpose(1, 2).flatten(2)


@pytest.fixture
def fused() -> tuple[Fused, Tensor, Tensor]:
    torch.manual_seed(0)
    return Fused(), torch.randn(2, 3, 8), torch.randn(2, 5, 8)


def hooks_of(modules: list[nn.Module]) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def test_logits_are_the_same_bits_with_recording_on_and_off(blip):
    writer, memory = blip
    fed = torch.tensor([[writer.start, *IDS]])
    plain = writer.model(input_ids=fed, encoder_hidden_states=memory.states).logits
    with capture_cross_attention(writer.reader.cross_attentions, returned_weights) as record:
        recorded = writer.model(input_ids=fed, encoder_hidden_states=memory.states).logits
    assert torch.equal(plain, recorded)
    assert record.stacked().shape == (3, 1, 4, len(IDS) + 1, memory.states.shape[1])
    assert torch.equal(plain, writer.model(input_ids=fed,
                                           encoder_hidden_states=memory.states).logits)


def test_one_teacher_forced_pass_equals_recording_step_by_step(blip):
    writer, memory = blip
    modules = writer.reader.cross_attentions
    with capture_cross_attention(modules, returned_weights) as once:
        log_probabilities = writer.teacher_forced(IDS, memory)
    cache, found = memory.cache(), []
    with capture_cross_attention(modules, returned_weights) as stepwise:
        for fed, token in zip((writer.start, *IDS), IDS, strict=False):
            logits = writer.next_logits(torch.tensor([[fed]]), cache, memory)
            found.append(float(logits.log_softmax(-1)[0, token]))
    assert [len(calls) for calls in stepwise.calls] == [len(IDS)] * 3
    torch.testing.assert_close(once.stacked(), stepwise.stacked(), atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(log_probabilities, found, atol=1e-4)


@torch.no_grad()
def test_our_own_model_is_recorded_as_truly(native_backend, picture):
    """Same bits with recording on and off, and one pass equal to step by step."""
    decoder = native_backend.model.decoder
    crossings = [block.cross for block in decoder.blocks]
    features = native_backend.encode_pictures([picture])[0]
    memory = native_backend._read(features.data, "what is there?")
    ids = torch.tensor([[native_backend.tokenizer.language_start["en"], *IDS]])
    plain = decoder(ids, memory)
    with capture_cross_attention(crossings, own_weights) as once:
        assert torch.equal(decoder(ids, memory), plain)
    cache = decoder.start(memory)
    with capture_cross_attention(crossings, own_weights) as stepwise:
        logits = [decoder.logits(decoder.hidden(ids[:, i:i + 1], cache, keep=True))
                  for i in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(logits, dim=1), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(once.stacked(), stepwise.stacked(), atol=1e-5, rtol=1e-4)
    sums = once.stacked().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert hooks_of(crossings) == 0


def test_hooks_go_even_when_the_pass_fails(blip):
    writer, _ = blip
    modules = writer.reader.cross_attentions
    with pytest.raises(RuntimeError), \
            capture_cross_attention(modules, returned_weights):
        assert hooks_of(modules) == 3
        writer.model(input_ids=torch.tensor([[1]]), encoder_hidden_states=torch.zeros(1, 2, 5))
    assert hooks_of(modules) == 0


def test_hooks_go_when_they_cannot_all_be_set(fused):
    module, _, _ = fused
    with pytest.raises(AttributeError), \
            capture_cross_attention([module, None], again):  # type: ignore[list-item]
        pass
    assert hooks_of([module]) == 0


def test_an_adapters_fault_is_not_hidden(fused):
    module, x, memory = fused

    def broken(*_: object) -> Tensor:
        raise KeyError("weights")

    with pytest.raises(KeyError), capture_cross_attention([module], broken):
        module(x, memory)
    assert hooks_of([module]) == 0


def test_a_layer_that_was_not_called_is_named(fused):
    module, _, _ = fused
    with capture_cross_attention([module], again) as record:
        pass
    with pytest.raises(AssertionError, match="layer 0 was not called"):
        record.stacked()


def test_weights_of_a_fused_kernel_give_its_result(fused):
    module, x, memory = fused
    with capture_cross_attention([module], again) as record:
        output = module(x, memory)
    assert not record.weights[0].requires_grad
    torch.testing.assert_close(through(module, record.weights[0], (x, memory), {}), output)


@pytest.mark.parametrize("mask", [
    torch.tensor([True, False, True, True, False]),
    torch.tensor([0.0, float("-inf"), 0.5, 0.0, -2.0])])
def test_masks_count_as_in_the_fused_kernel(mask):
    torch.manual_seed(1)
    query, key = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 5, 4)
    identity = torch.eye(5).expand(2, 2, 5, 5)
    want = F.scaled_dot_product_attention(query, key, identity, attn_mask=mask.expand(3, 5))
    torch.testing.assert_close(attention_weights(query, key, mask), want)
    nothing = attention_weights(query, key, torch.zeros(5, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros(2, 2, 3, 5))


def test_gradients_reach_the_weights_where_they_are_kept(fused, blip):
    module, x, memory = fused
    with capture_cross_attention([module], again, keep_graph=True, output_from=through) as record:
        output = module(x, memory)
    torch.testing.assert_close(output, module(x, memory))
    (gradient,) = torch.autograd.grad(output[0, 1].sum(), record.weights[0])
    assert gradient[0, :, 1].abs().sum() > 0, "the word's own row"
    assert gradient[1].abs().sum() == 0, "another text's rows"

    writer, looked_at = blip
    states = looked_at.states.clone().requires_grad_(True)
    with capture_cross_attention(writer.reader.cross_attentions, returned_weights,
                                 keep_graph=True) as kept:
        logits = writer.model(input_ids=torch.tensor([[writer.start, *IDS]]),
                              encoder_hidden_states=states).logits
    gradients = torch.autograd.grad(logits[0, -1].max(), kept.weights)
    assert all(one[..., -1, :].abs().sum() > 0 for one in gradients)


def test_blocks_may_be_nested(fused):
    module, x, memory = fused
    with capture_cross_attention([module], again) as outer:
        module(x, memory)
        with capture_cross_attention([module], again) as inner:
            module(x, memory)
    assert outer.weights[0].shape[2] == 6
    assert inner.weights[0].shape[2] == 3
