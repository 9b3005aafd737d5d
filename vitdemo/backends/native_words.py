"""How probable our own model finds each word of a finished text, on many pictures at once.

Legend: P pictures, N picture tokens, C channels of the backbone, T text tokens, Q whole words,
V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

from vitdemo.models.inference import Inference

# Pictures times tokens that the decoder reads in one go: the logits are (P, T, V).
TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def written_probabilities(inference: Inference, features: Tensor, instruction: str, text: str,
                          language: str) -> tuple[np.ndarray, np.ndarray]:
    """A finished text on each picture (P, N, C): each word's probability given the words before it,
    float32 (P, Q), and that of the whole text with its end, float32 (P,)."""
    model, tokenizer = inference.model, inference.tokenizer
    pieces, _ = tokenizer.pieces(text)
    row = [tokenizer.language_start[language], *pieces]
    inputs = torch.tensor([row], device=features.device)  # (1, 1 + T)
    targets = torch.tensor([*pieces, tokenizer.end], device=features.device)
    logs = []
    for some in features.split(max(1, TOKENS_AT_ONCE // len(row))):
        memory = inference.memory(some, range(len(some)), [instruction])
        logits = model.decoder(inputs.expand(len(some), -1), memory).float()  # (P, 1 + T, V)
        chosen = logits.gather(2, targets.expand(len(some), -1)[..., None]).squeeze(2)
        logs.append((chosen - logits.logsumexp(-1)).cpu())
    tokens = torch.cat(logs).double()  # (P, 1 + T)
    words = [tokens[:, found].sum(1) for _, found in tokenizer.word_tokens(text)]
    columns = torch.stack(words, 1) if words else tokens.new_zeros(len(tokens), 0)
    return _probabilities(columns), _probabilities(tokens.sum(1))


def _probabilities(logs: Tensor) -> np.ndarray:
    return np.asarray(logs.exp().clamp(0, 1).numpy(), dtype=np.float32)
