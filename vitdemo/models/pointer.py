"""Copying: a word may be taken from the names that the eyes know, in place of the vocabulary.

At each place a gate says how likely the next word is one of the names that the picture may have,
and an attention over the names which of them (pointer-generator networks: See, Liu, Manning 2017,
eq. 8 and 9; for captions Lu et al. 2018, "Neural baby talk"). So a thing can be named that no
caption of the training pictures held.

Shapes: B memories, R rows (texts, R / B of each memory), S places, T tokens of a prefix, E entries
(ways to say the names of a memory), L tokens of an entry, V vocabulary, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ENTRIES = 12  # names of a picture, each in up to two forms
LEAST = 0.03  # probability of a name that may be copied
_NOTHING = -1  # pads the tokens of an entry


@dataclass
class Names:
    """What may be copied about each memory: token ids by language (B, 2, E, L), padded with -1;
    the name's probability (B, E), 0 where there is no entry; the language's start tokens (2,)."""

    ids: Tensor
    chances: Tensor
    starts: Tensor

    def select(self, rows: Tensor) -> "Names":
        """Those of these memories, in this order."""
        return Names(self.ids[rows], self.chances[rows], self.starts)


@dataclass
class Entries:
    """What `Pointer` reads of `Names`: their ids and starts, keys by language (B, 2, E, D), and
    which of them there are, bool (B, 2, E)."""

    ids: Tensor
    starts: Tensor
    key: Tensor
    there: Tensor


@dataclass
class Copy:
    """Of each place: the logit of the gate (..., ), the share of each entry (..., E), and the token
    with which the entry begins or goes on there (..., E), -1 where there is none."""

    gate: Tensor
    share: Tensor
    token: Tensor

    def at(self, *places: Tensor) -> "Copy":
        """Those of these places."""
        return Copy(self.gate[places], self.share[places], self.token[places])

    def of(self, targets: Tensor) -> Tensor:
        """The share that goes to each target token: (...,)."""
        return (self.share * (self.token == targets[..., None])).sum(-1)


class Pointer(nn.Module):
    """The gate and the attention over entries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.chance = nn.Linear(2, width)
        self.gate = nn.Linear(2 * width, 1)
        nn.init.constant_(self.gate.bias, -3.0)

    def entries(self, names: Names, table: Tensor) -> Entries:
        """The keys of names, once for any number of words; ``table`` (V, D), the decoder's
        embeddings."""
        real = names.ids >= 0
        there = real[..., 0] & (names.chances > 0)[:, None]
        rows = table[names.ids.clamp(min=0)] * real[..., None]  # (B, 2, E, L, D)
        mean = rows.sum(3) / real.sum(3, keepdim=True).clamp(min=1)
        about = torch.stack((names.chances.clamp(min=1e-3).log(), names.chances), -1)  # (B, E, 2)
        key = self.key(mean * mean.shape[-1] ** 0.5) + self.chance(about.to(mean.dtype))[:, None]
        return Entries(names.ids, names.starts, key, there)

    def forward(self, hidden: Tensor, prefix: Tensor, names: Entries) -> Copy:
        """hidden (R, S, D) at the last S of the tokens ``prefix`` (R, T), which begins with the
        language's start."""
        each = len(hidden) // len(names.ids)
        language = (prefix[:, 0] == names.starts[1]).long()
        row = torch.arange(len(hidden), device=hidden.device) // each
        ids, key, there = (one[row, language] for one in (names.ids, names.key, names.there))
        scores = self.query(hidden) @ key.transpose(1, 2) / key.shape[-1] ** 0.5  # (R, S, E)
        scores = scores.float().masked_fill(~there[:, None], -1e4)
        share = scores.softmax(-1) * there[:, None]
        seen = (share.to(key.dtype) @ key)  # (R, S, D)
        gate = self.gate(torch.cat((hidden, seen), -1)).squeeze(-1).float()  # (R, S)
        gate = gate.masked_fill(~there.any(1)[:, None], -30.0)
        length = hidden.shape[1]
        token = next_tokens(prefix[:, -(length + ids.shape[2]):], ids)[:, -length:]
        return Copy(gate, share, token.masked_fill(~there[:, None], _NOTHING))


def next_tokens(prefix: Tensor, ids: Tensor) -> Tensor:
    """The token with which each entry (R, E, L) begins after each token of a prefix (R, T), or goes
    on where that ends with its first tokens: (R, T, E)."""
    length = prefix.shape[1]
    back = [nn.functional.pad(prefix, (k, 0), value=-2)[:, :length, None]
            for k in range(ids.shape[2] - 1)]  # k tokens before each place
    found = ids[:, None, :, 0].expand(-1, length, -1)
    for done in range(1, ids.shape[2]):
        fits = (ids[:, None, :, done] >= 0).expand(-1, length, -1)
        for i in range(done):
            fits = fits & (back[done - 1 - i] == ids[:, None, :, i])
        found = torch.where(fits, ids[:, None, :, done], found)
    return found


def mixed(logits: Tensor, copy: Copy) -> Tensor:
    """Log-probabilities of the next token, (1 - g) p(vocabulary) + g p(copied): logits (..., V)."""
    logs = logits.float().log_softmax(-1) + nn.functional.logsigmoid(-copy.gate)[..., None]
    share = copy.share * (copy.token >= 0) * copy.gate.sigmoid()[..., None]
    place = copy.token.clamp(min=0)
    same = (place[..., None] == place[..., None, :]).to(share.dtype)  # (..., E, E)
    copied = (same @ share[..., None]).squeeze(-1)  # of each entry's token, by all its entries
    gained = nn.functional.softplus(copied.clamp(min=1e-20).log() - logs.gather(-1, place))
    return logs.scatter_add(-1, place, gained / same.sum(-1))
