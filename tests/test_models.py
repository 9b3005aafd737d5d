"""The model: shapes, the cache, the gates, every kind of fusion and of backbone."""

import itertools

import pytest
import torch
from conftest import make_model

from vitdemo.attention.capture import record
from vitdemo.config import FUSIONS, ModelConfig
from vitdemo.errors import ConfigError
from vitdemo.models.fusion import FusionBlock, Modulation
from vitdemo.models.layers import CrossAttention, attend, sinusoid
from vitdemo.models.vision import Stride, VisionEncoder, region_edges
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer


def inputs(model: VLM, tokenizer: TextTokenizer, count: int = 2) -> tuple[torch.Tensor, ...]:
    side = model.config.picture_size
    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        features = model.vision.features(pixels)
    ids, mask = tokenizer.encode(["what color is the dog ?", "一只狗"][:count])
    targets, _ = tokenizer.encode_targets(["red", "狗在跑"][:count], ["en", "zh"][:count])
    return features, ids, mask, targets


@pytest.mark.parametrize("fusion", FUSIONS)
def test_forward_gives_every_output(fusion: str, tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer, fusion=fusion)
    features, ids, mask, targets = inputs(model, tokenizer)
    with torch.no_grad():
        out = model(features, ids, mask, targets)
    assert out.logits.shape == (2, targets.shape[1], tokenizer.size)
    assert out.match_logits.shape == (2,)
    assert torch.allclose(out.picture_embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(out.text_embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert len(out.gates) == (2 if fusion.endswith("cross_attention") else 0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_picture_counts_in_every_fusion(fusion: str, tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer, fusion=fusion)
    features, ids, mask, targets = inputs(model, tokenizer)
    with torch.no_grad():
        one = model(features, ids, mask, targets).logits
        other = model(features.flip(0), ids, mask, targets).logits
    assert not torch.allclose(one, other, atol=1e-4)


def test_a_closed_gate_lets_nothing_through() -> None:
    block = FusionBlock(16, 4, gated=True)
    x, picture = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    assert torch.equal(block(x, picture), x)  # the gates start at 0
    with torch.no_grad():
        block.cross_gate.fill_(1.0)
    assert not torch.allclose(block(x, picture), x)
    assert float(block.gate().detach()) == pytest.approx(0.76159, abs=1e-4)  # tanh(1)


def test_modulation_starts_as_nothing_and_then_depends_on_the_instruction() -> None:
    film = Modulation(8, 16)
    picture, z = torch.randn(2, 5, 16), torch.randn(2, 8)
    assert torch.equal(film(picture, z), picture)
    torch.nn.init.normal_(film.scale_shift.weight)
    assert not torch.allclose(film(picture, z), film(picture, z.flip(0)))


def test_padding_of_the_instruction_changes_nothing(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    features, ids, mask, targets = inputs(model, tokenizer)
    short = int(mask[1].sum())
    with torch.no_grad():
        padded = model(features[1:], ids[1:], mask[1:], targets[1:])
        bare = model(features[1:], ids[1:, :short], mask[1:, :short], targets[1:])
    assert torch.allclose(padded.logits, bare.logits, atol=1e-5)
    assert torch.allclose(padded.match_logits, bare.match_logits, atol=1e-5)
    assert torch.allclose(padded.text_embeddings, bare.text_embeddings, atol=1e-5)


def test_the_decoder_sees_only_what_came_before(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    features, ids, mask, targets = inputs(model, tokenizer)
    changed = targets.clone()
    changed[:, -1] = 7
    with torch.no_grad():
        one = model(features, ids, mask, targets).logits[:, :-1]
        other = model(features, ids, mask, changed).logits[:, :-1]
    assert torch.equal(one, other)


def test_the_cache_gives_what_teacher_forcing_gives(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    features, ids, mask, targets = inputs(model, tokenizer)
    with torch.no_grad():
        words, z = model.encode_text(ids, mask)
        memory = model.fuse(model.vision.tokens(features), words, mask, z)
        whole = model.decoder(targets, memory)
        cache = model.decoder.start(memory)
        steps = [model.decoder.logits(model.decoder.hidden(targets[:, i:i + 1], cache, keep=True))
                 for i in range(targets.shape[1])]
    assert torch.allclose(whole, torch.cat(steps, 1), atol=1e-4)


def test_several_texts_of_one_memory_equal_each_alone(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    features, ids, mask, _ = inputs(model, tokenizer)
    targets, _ = tokenizer.encode_targets(["a dog", "red ball", "the cat", "grass a"], ["en"] * 4)
    with torch.no_grad():
        words, z = model.encode_text(ids, mask)
        tokens = model.vision.tokens(features)
        together = model.decoder(targets, model.fuse(tokens, words, mask, z))  # 2 texts each
        for row in range(4):
            at = slice(row // 2, row // 2 + 1)
            memory = model.fuse(tokens[at], words[at], mask[at], z[at])
            alone = model.decoder(targets[row:row + 1], memory)
            assert torch.allclose(together[row:row + 1], alone, atol=1e-4)


def test_training_and_inference_attention_agree() -> None:
    q, k, v = (torch.randn(2, 4, n, 8) for n in (3, 5, 5))
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    plain = attend(q, k, v, mask)
    with torch.no_grad():
        assert torch.allclose(attend(q, k, v, mask), plain, atol=1e-5)


def test_cross_attention_weights_are_the_ones_it_uses() -> None:
    cross = CrossAttention(16, 4)
    x, memory = torch.randn(6, 3, 16), torch.randn(2, 5, 16)  # 3 texts per memory
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 4] = False
    with torch.no_grad():
        pairs = cross.project(memory)
        with record([cross]) as looks:
            cross(x, [(pairs, mask)])
        weights = looks[0].weights()  # (R, H, T, N)
        assert weights.shape == (6, 4, 3, 5)
        assert torch.allclose(weights.sum(-1), torch.ones(6, 4, 3), atol=1e-5)
        assert float(weights[:3, ..., 4].max()) == 0.0
        values = pairs[1].repeat_interleave(3, 0)  # (R, H, N, d)
        mixed = (weights @ values).transpose(1, 2).reshape(6, 3, 16)
        assert torch.allclose(cross.out(mixed), cross(x, [(pairs, mask)]), atol=1e-5)
    with record([cross], graph=True) as looks:  # the plain products, as in training on a CPU
        cross(x, [(pairs, mask)])
    assert torch.allclose(looks[0].weights(), weights, atol=1e-6) and looks[0].given is not None


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "resnet18"])
def test_any_backbone_gives_tokens_with_a_grid(backbone: str) -> None:
    vision = VisionEncoder(backbone, 64, 32).eval()
    rows, columns = vision.grid
    with torch.no_grad():
        features = vision.features(torch.randn(2, 3, 64, 64))
        assert features.shape == (2, rows * columns, vision.channels)
        assert vision.tokens(features).shape == (2, rows * columns, 32)


def test_tokens_keep_the_place_of_their_region() -> None:
    vision = VisionEncoder("test_vit", 64, 32).eval()
    same = torch.zeros(1, vision.grid[0] * vision.grid[1], vision.channels)
    with torch.no_grad():
        tokens = vision.tokens(same)[0]
    assert len({tuple(row.tolist()) for row in tokens}) == len(tokens)


def test_sinusoids_are_those_of_the_paper() -> None:
    table = sinusoid(3, 4)
    assert torch.allclose(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert float(table[2, 0]) == pytest.approx(0.9092974, abs=1e-6)  # sin(2)
    assert float(table[2, 3]) == pytest.approx(0.9998000, abs=1e-6)  # cos(2 / 100)


def test_the_dial_builds_every_size() -> None:
    for size in ("tiny", "small", "base"):
        config = ModelConfig.from_size(size, vocabulary=100)
        with torch.device("meta"):
            assert config.width % config.heads == 0
    with pytest.raises(ConfigError, match="backbone"):
        VisionEncoder("no_such_model", 64, 32)


def test_regions_lie_where_their_cells_look() -> None:
    for backbone, side in (("tf_efficientnet_lite0", 84), ("resnet18", 96), ("test_vit", 64)):
        vision = VisionEncoder(backbone, side, 32).eval()
        count = vision.grid[0]
        edges = vision.edges[0]
        assert len(edges) == count + 1 and edges == sorted(edges)
        assert edges[0] == 0.0 and edges[-1] == 1.0
    assert VisionEncoder("test_vit", 64, 32).edges[0] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_the_edges_of_the_demo_model_are_those_of_its_strides() -> None:
    vision = VisionEncoder("tf_efficientnet_lite2", 260, 384)
    middles = [32 * i + 3.5 for i in range(9)]  # worked out by hand from the five strides
    want = [0, *((a + b) / 2 / 260 for a, b in itertools.pairwise(middles)), 1]
    assert vision.edges[0] == pytest.approx(want)


def test_a_strided_convolution_sees_where_the_edges_say() -> None:
    """A chain of real layers with weights of one sees, per cell, pixels around the region."""
    chain = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, 2, 1, bias=False),
                                torch.nn.Conv2d(1, 1, 5, 2, 2, bias=False))
    for layer in chain:
        torch.nn.init.ones_(layer.weight)
    strides = [Stride(32, 2, 3, 1), Stride(16, 2, 5, 2)]
    edges = region_edges(8, 32, strides)
    for cell in (2, 3, 4, 5):
        pixels = torch.zeros(1, 1, 32, 32, requires_grad=True)
        chain(pixels)[0, 0, cell, cell].backward()
        seen = pixels.grad[0, 0].sum(1)
        centre = float((seen * (torch.arange(32) + 0.5)).sum() / seen.sum())
        assert edges[cell] * 32 < centre < edges[cell + 1] * 32
        assert centre == pytest.approx((edges[cell] + edges[cell + 1]) * 16, abs=0.51)


def test_the_picture_head_forgets_at_random_only_while_it_learns(tokenizer: TextTokenizer) -> None:
    model = make_model(tokenizer)
    head, features = model.picture_head, inputs(model, tokenizer)[0]
    plain = head.train()(features)
    assert torch.equal(plain, head(features))
    head.dropout = 0.5
    first, second = head(features), head(features)
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, plain, atol=1e-3)
    assert torch.equal(head.eval()(features), plain)
