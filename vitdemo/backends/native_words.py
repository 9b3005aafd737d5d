"""How probable our own model finds each word of a finished text, on many pictures at once.

Legend: P pictures, N picture tokens, C channels of the backbone, T text tokens, Q whole words,
V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

from vitdemo.models.fusion import Memory
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

# Pictures times tokens that the decoder reads in one go: the logits are (P, T, V).
TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def read_pictures(model: VLM, features: Tensor, ids: Tensor,
                  mask: Tensor) -> tuple[Memory, Tensor, Tensor, Tensor]:
    """One text (1, T) read with every picture, features (P, N, C).

    Returns the memory of P rows, the text's mask (P, T), z (P, E) and the pictures' vectors (P, E).
    The text alone is encoded once.
    """
    words, z = model.encode_text(ids, mask)
    count = len(features)
    words, z, mask = (one.expand(count, *one.shape[1:]) for one in (words, z, mask))
    tokens = model.vision.tokens(features)
    memory = model.fuse(tokens, words, mask, z, model.nameable(features))
    return memory, mask, z, model.picture_head(features)


@torch.inference_mode()
def match_scores(model: VLM, tokenizer: TextTokenizer, features: Tensor,
                 text: str) -> np.ndarray:
    """The match head's score of one text with each picture: float32 (P,), 0..1."""
    ids, mask = (one.to(features.device) for one in tokenizer.encode([text]))
    rows = []
    for some in _parts(features, ids.shape[1]):
        memory, seen, z, pictures = read_pictures(model, some, ids, mask)
        evidence = model.weigh_words(model.regions(some), ids.expand(len(some), -1), seen)
        rows.append(model.match(memory, seen, pictures, z, evidence).float().sigmoid().cpu())
    return np.asarray(torch.cat(rows).numpy(), dtype=np.float32)


@torch.inference_mode()
def written_probabilities(model: VLM, tokenizer: TextTokenizer, features: Tensor,
                          instruction: str, text: str, language: str,
                          ) -> tuple[np.ndarray, np.ndarray]:
    """A finished text on each picture: each word's probability given the words before it, float32
    (P, Q), and that of the whole text with its end, float32 (P,)."""
    ids, mask = (one.to(features.device) for one in tokenizer.encode([instruction]))
    pieces, _ = tokenizer.pieces(text)
    row = [tokenizer.language_start[language], *pieces]
    inputs = torch.tensor([row], device=features.device)  # (1, 1 + T)
    targets = torch.tensor([*pieces, tokenizer.end], device=features.device)
    logs = []
    for some in _parts(features, len(row)):
        memory = read_pictures(model, some, ids, mask)[0]
        logits = model.decoder(inputs.expand(len(some), -1), memory).float()  # (P, 1 + T, V)
        chosen = logits.gather(2, targets.expand(len(some), -1)[..., None]).squeeze(2)
        logs.append((chosen - logits.logsumexp(-1)).cpu())
    tokens = torch.cat(logs).double()  # (P, 1 + T)
    words = [tokens[:, found].sum(1) for _, found in tokenizer.word_tokens(text)]
    columns = torch.stack(words, 1) if words else tokens.new_zeros(len(tokens), 0)
    return _probabilities(columns), _probabilities(tokens.sum(1))


def _probabilities(logs: Tensor) -> np.ndarray:
    return np.asarray(logs.exp().clamp(0, 1).numpy(), dtype=np.float32)


def _parts(features: Tensor, tokens: int) -> tuple[Tensor, ...]:
    return features.split(max(1, TOKENS_AT_ONCE // tokens))
