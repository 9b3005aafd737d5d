"""BLIP's vision encoder with the fused attention kernel.

transformers computes every attention matrix of BLIP's vision encoder in full; no one looks at
them here, and the fused kernel gives the same states in less time. The modules and their weights
are transformers' own.

Legend: B pictures, N tokens (the class token first), H heads, d head width, D width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdemo.attention import rollout


def encode_pixels(model: Any, pixels: Tensor) -> Tensor:
    """What `BlipVisionModel` gives as last_hidden_state: pixels (B, 3, S, S) to (B, N, D)."""
    states: Tensor = model.embeddings(pixels)
    for layer in model.encoder.layers:
        states = states + _attend(layer.self_attn, layer.layer_norm1(states))
        states = states + layer.mlp(layer.layer_norm2(states))
    normed: Tensor = model.post_layernorm(states)
    return normed


def _attend(module: Any, states: Tensor) -> Tensor:
    batch, length, width = states.shape
    mixed = module.qkv(states).view(batch, length, 3, module.num_heads, -1)  # (B, N, 3, H, d)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each (B, H, N, d)
    result = F.scaled_dot_product_attention(query, key, value, scale=module.scale)
    projected: Tensor = module.projection(result.transpose(1, 2).reshape(batch, length, width))
    return projected  # (B, N, D)


@torch.no_grad()
def patch_shares(model: Any, pixels: Tensor) -> Tensor:
    """How much of each of the encoder's last tokens came from each patch, by attention rollout:
    pixels (1, 3, S, S) to float32 (N, N - 1); see `vitdemo.attention.rollout`."""
    states: Tensor = model.embeddings(pixels)
    weights = []
    for layer in model.encoder.layers:
        module, normed = layer.self_attn, layer.layer_norm1(states)
        mixed = module.qkv(normed).view(1, normed.shape[1], 3, module.num_heads, -1)
        query, key, _ = mixed.permute(2, 0, 3, 1, 4)  # each (1, H, N, d)
        scores = query.float() @ key.float().mT * module.scale
        weights.append(scores.softmax(-1)[0].mean(0, keepdim=True))  # (1, N, N)
        states = states + _attend(module, normed)
        states = states + layer.mlp(layer.layer_norm2(states))
    return rollout.vision(weights, prefix=1)
