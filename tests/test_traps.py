"""What transformers does in silence, and that none of it reaches a map: each trap is shown to be
one, so that a test tells when it is gone."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import load, noise
from tiny_chat import save_tiny_chat
from tiny_gated import save_tiny_mllama
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vitdemo.attention.capture import record
from vitdemo.attention.trace import Rows
from vitdemo.backends.hub import cache_argument
from vitdemo.config import Decoding
from vitdemo.records import Request

TEXT = "a red dog"


@pytest.fixture(scope="module")
def mllama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(save_tiny_mllama(tmp_path_factory.mktemp("traps") / "mllama"))


def recorded(backend: Any) -> tuple[Any, list[torch.Tensor]]:
    """A trace, and each layer's weights in a pass over all of it."""
    (one,) = backend.encode_pictures([noise(90, 60)])
    (trace,) = backend.traces(one, Request("", TEXT, "en", "caption"))
    with torch.no_grad(), record([layer.module for layer in trace.layers]) as looks:
        trace.run(Rows(recorded=trace.streams), None)
    return trace, looks.weights


@torch.no_grad()
def test_the_fused_kernel_gives_no_weights_and_they_are_recorded(mllama: Any) -> None:
    model = mllama.model
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    ids = mllama.tensor([1, 5, 6])
    given = model.model.language_model(input_ids=ids, output_attentions=True).attentions
    assert not any(isinstance(one, torch.Tensor) for one in given or ())
    _, weights = recorded(mllama)
    assert all(float(one.sum()) > 0 for one in weights)


def test_a_list_of_both_kinds_of_attention_is_told_apart(mllama: Any) -> None:
    trace, weights = recorded(mllama)
    kinds = {layer.context for layer in trace.layers}
    assert kinds == {("text",), ("picture",)}
    for layer, one in zip(trace.layers, weights, strict=True):
        wide = trace.lengths["picture"]
        assert (one.shape[-1] == wide) == (layer.context == ("picture",))


@torch.no_grad()
def test_an_attention_without_its_mask_is_none_of_ours(tmp_path: Path) -> None:
    """An interface that is registered without a mask is given none; what ours reads keeps what was
    registered by transformers."""
    backend = load(save_tiny_chat(tmp_path, "smolvlm"))
    model, masks = backend.model.get_decoder(), []
    ids, mask = backend.tensor([5, 5, 5, 6, 7]), torch.tensor([[0, 0, 1, 1, 1]])

    def seen(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **more: Any
             ) -> Any:
        masks.append(attention_mask)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)

    want = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 2:]
    AttentionInterface.register("seen", seen)
    model.set_attn_implementation("seen")
    dropped = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 2:]
    assert masks[0] is None
    assert not torch.allclose(dropped, want, atol=1e-4)
    AttentionMaskInterface.register("seen", AttentionMaskInterface._global_mapping["sdpa"])
    kept = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 2:]
    torch.testing.assert_close(kept, want)
    model.set_attn_implementation("sdpa")
    with record([layer.module for layer in backend.layers]) as looks:
        model(input_ids=ids, attention_mask=mask)
    assert all(float(one[:, :, 2:, :2].abs().max()) == 0 for one in looks.weights)


@torch.no_grad()
def test_mllama_never_looks_without_its_mask(mllama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one the fused kernel takes the picture for a text: what comes later is not seen."""
    text = mllama.model.model.language_model
    states = torch.randn(1, 8, text.config.hidden_size)
    other = states.clone()
    other[:, -1] += 5
    ids = mllama.tensor([4, 5, 6])
    first, second = (text(input_ids=ids, cross_attention_states=one).last_hidden_state[:, 0]
                     for one in (states, other))
    assert torch.allclose(first, second)
    masks: list[Any] = []
    real = mllama.looking
    monkeypatch.setattr(mllama, "looking", lambda *given: masks.append(
        real(*given)["cross_attention_mask"]) or real(*given))
    (one,) = mllama.encode_pictures([noise(90, 60)])
    list(mllama.generate(one, "", "en", Decoding("greedy", max_tokens=3, min_tokens=3)))
    mllama.explain(one, Request("", TEXT, "en", "caption"))
    assert len(masks) == 4 and all(mask.dim() == 4 for mask in masks)


def test_the_cache_has_either_name_and_the_old_one_is_not_used_where_it_goes(mllama: Any) -> None:
    def old(past_key_values: Any = None) -> None: ...

    def new(cache: Any = None, past_key_values: Any = None) -> None: ...

    assert cache_argument(SimpleNamespace(forward=old)) == "past_key_values"
    assert cache_argument(SimpleNamespace(forward=new)) == "cache"
    (one,) = mllama.encode_pictures([noise(90, 60)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        list(mllama.generate(one, "", "en", Decoding("greedy", max_tokens=3, min_tokens=3)))
        mllama.explain(one, Request("", TEXT, "en", "caption"))
