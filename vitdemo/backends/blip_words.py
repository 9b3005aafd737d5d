"""How probable BLIP finds each word of a finished text, on many pictures at once.

Legend: P pictures, N picture tokens, D width, T text tokens, Q whole words. ``states`` are each
picture's, (1, N, D).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdemo.backends.blip_decoder import Reader, Writer
from vitdemo.backends.blip_explain import word_places
from vitdemo.backends.blip_load import BlipCheckpoint
from vitdemo.words import split_words

PICTURES_AT_ONCE = 8  # each takes about 40 MB of keys and values in BLIP-base


@torch.no_grad()
def caption_words(checkpoint: BlipCheckpoint, writer: Writer, states: Sequence[Tensor],
                  text: str) -> np.ndarray:
    """Each word of a raw caption given those before it: float32 (P, Q)."""
    ids, offsets = checkpoint.ids(text)
    places = word_places(text, offsets)[1]
    if not ids:
        return np.zeros((len(states), 0), dtype=np.float32)
    return np.concatenate([
        _by_word(writer.teacher_forced_on_each(ids, writer.reader.project(some)), places)
        for some in _parts(states)])


@torch.no_grad()
def answer_words(checkpoint: BlipCheckpoint, reader: Reader, writer: Writer,
                 states: Sequence[Tensor], question: str,
                 answer: str) -> tuple[np.ndarray, np.ndarray]:
    """The whole answer with its end, for each word of the question, and each word of the answer
    given those before it: both float32 (P, Q)."""
    asked, mask = checkpoint.batch([question])
    ids, offsets = checkpoint.ids(answer)
    places = word_places(answer, offsets)[1]
    whole, words = [], []
    for some in _parts(states):
        read = reader.encode(asked.expand(len(some), -1), mask.expand(len(some), -1),
                             reader.project(some))
        logs = writer.teacher_forced_on_each([*ids, writer.end], writer.reader.project(read))
        whole.append(_by_word(logs, [list(range(len(ids) + 1))]))
        words.append(_by_word(logs, places))
    return (np.repeat(np.concatenate(whole), len(split_words(question)), axis=1),
            np.concatenate(words))


@torch.no_grad()
def match_words(checkpoint: BlipCheckpoint, reader: Reader, states: Sequence[Tensor],
                text: str) -> np.ndarray:
    """The matching head's score of a sentence, for each of its words: float32 (P, Q)."""
    ids, mask = checkpoint.batch([text])
    scores = []
    for some in _parts(states):
        read = reader.encode(ids.expand(len(some), -1), mask.expand(len(some), -1),
                             reader.project(some))
        scores.append(checkpoint.model.itm_head(read[:, 0]).float().softmax(-1)[:, 1].cpu())
    column = torch.cat(scores).numpy()[:, None]  # (P, 1)
    return np.repeat(column, len(split_words(text)), axis=1)


def _by_word(logs: Tensor, places: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-probabilities (P, T) of tokens to probabilities (P, Q) of words."""
    logs = logs.double().cpu()
    columns = [logs[:, list(found)].sum(1) for found in places]
    joined = torch.stack(columns, 1) if columns else logs.new_zeros(len(logs), 0)
    return np.asarray(joined.exp().clamp(0, 1).numpy(), dtype=np.float32)


def _parts(states: Sequence[Tensor]) -> Iterator[Tensor]:
    """A few pictures' states at a time, (B, N, D)."""
    for first in range(0, len(states), PICTURES_AT_ONCE):
        yield torch.cat(list(states[first:first + PICTURES_AT_ONCE]))
