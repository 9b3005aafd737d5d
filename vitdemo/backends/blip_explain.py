"""Where BLIP looked for each word: one recorded pass per text, tokens merged to whole words.

A decoder's word was chosen one position before it stands in the text, so a written word has the
attention of the step that wrote it; a text encoder's word has that of its own position. A word of
several tokens has their mean. The vision encoder's class token takes a share of the attention but
lies nowhere in the picture, so its column is left out and a row over the regions adds up to
less than 1.

Legend: L layers, H heads, T tokens, Q whole words, N memory tokens, K picture regions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.attention.capture import capture_cross_attention
from vitdemo.backends.blip_decoder import Memory, Reader, Writer
from vitdemo.backends.blip_load import BlipCheckpoint
from vitdemo.preprocess import grid_boxes
from vitdemo.records import Explanation, Word
from vitdemo.words import split_words

METHOD = "cross-attention"
ANSWER_PATH = "BLIP's answer looks at the question, and through the question at the picture."
ANSWER_NOTE = (
    "BLIP's answer looks at the question, not at the picture: each answer word's map is the maps "
    "of the question's tokens, weighted by how much the word attended to them (mean over the "
    "answer decoder's layers and heads).")


def returned_weights(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
                     output: Any) -> Tensor:
    """Adapter for `capture_cross_attention`: BLIP's attention gives (result, weights) back, and
    in evaluation the weights are the very ones that the result was made with."""
    weights: Tensor = output[1]
    return weights


def read_written(writer: Writer, memory: Memory, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights float32 (L, H, T, N) and log-probabilities (T,) of a text that a decoder wrote."""
    modules = writer.reader.cross_attentions
    if not ids:
        return (torch.zeros(len(modules), writer.reader.heads, 0, memory.states.shape[1]),
                torch.zeros(0))
    with capture_cross_attention(modules, returned_weights) as record:
        log_probabilities = writer.teacher_forced(ids, memory)
    return record.stacked()[:, 0], log_probabilities


def read_encoded(reader: Reader, memory: Memory, ids: Tensor,
                 mask: Tensor) -> tuple[Tensor, Tensor]:
    """Weights float32 (L, H, T, N) and states (1, T, D) of one text (1, T) that is read."""
    with capture_cross_attention(reader.cross_attentions, returned_weights) as record:
        states = reader.encode(ids, mask, memory)
    return record.stacked()[:, 0], states


def word_places(text: str, offsets: Sequence[tuple[int, int]],
                ) -> tuple[tuple[Word, ...], list[list[int]]]:
    """The whole words of a text, and for each the tokens (by place in ``offsets``) that share a
    character with it."""
    words = split_words(text)
    return words, [[i for i, (start, end) in enumerate(offsets)
                    if start < word.end and end > word.start] for word in words]


def merge_tokens(weights: Tensor, places: Sequence[Sequence[int]]) -> np.ndarray:
    """Mean over each word's tokens: (L, H, T, K) to float32 (L, H, Q, K). A word of which the
    tokenizer kept nothing gets zeros."""
    mean = torch.zeros(len(places), weights.shape[2])
    for row, found in zip(mean, places, strict=True):
        if found:
            row[list(found)] = 1 / len(found)
    merged = torch.einsum("qt,lhtk->lhqk", mean, weights.float().cpu())
    return merged.clamp(0, 1).numpy()


def word_probabilities(log_probabilities: Tensor,
                       places: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """The product of each word's token probabilities."""
    values = log_probabilities.cpu()
    return tuple(min(1.0, float(values[list(found)].sum().exp())) for found in places)


def explain_caption(checkpoint: BlipCheckpoint, writer: Writer, states: Tensor,
                    size: tuple[int, int], text: str) -> Explanation:
    """The raw caption, each word with the attention of the step that wrote it."""
    ids, offsets = checkpoint.ids(text)
    weights, log_probabilities = read_written(writer, writer.reader.memory(states), ids)
    words, places = word_places(text, offsets)
    return _explanation(checkpoint, size, text, "caption", words,
                        merge_tokens(weights[..., 1:], places),
                        word_probabilities(log_probabilities, places))


def explain_question(checkpoint: BlipCheckpoint, reader: Reader, writer: Writer, states: Tensor,
                     size: tuple[int, int], question: str,
                     answer: str) -> tuple[Explanation, Explanation]:
    """The question as its encoder read it, and the answer through the question's tokens."""
    ids, mask = checkpoint.batch([question])
    asked, asked_states = read_encoded(reader, reader.memory(states), ids, mask)
    asked = asked[..., 1:]  # (L, H, T, K), T with [CLS] and [SEP]
    words, places = _inner_places(checkpoint, question)
    first = _explanation(checkpoint, size, question, "question", words,
                         merge_tokens(asked, places))
    answer_ids, offsets = checkpoint.ids(answer)
    told, log_probabilities = read_written(writer, writer.reader.memory(asked_states), answer_ids)
    share = told.mean(dim=(0, 1))  # (answer tokens, T)
    through = torch.einsum("at,lhtk->lhak", share, asked)
    words, places = word_places(answer, offsets)
    second = _explanation(checkpoint, size, answer, "answer", words,
                          merge_tokens(through, places),
                          word_probabilities(log_probabilities, places), ANSWER_NOTE)
    return first, second


def explain_match(checkpoint: BlipCheckpoint, reader: Reader, states: Tensor,
                  size: tuple[int, int], text: str) -> Explanation:
    """A sentence as the matching head's text encoder read it with the picture in view."""
    ids, mask = checkpoint.batch([text])
    weights, _ = read_encoded(reader, reader.memory(states), ids, mask)
    words, places = _inner_places(checkpoint, text)
    return _explanation(checkpoint, size, text, "text", words,
                        merge_tokens(weights[..., 1:], places))


def _inner_places(checkpoint: BlipCheckpoint,
                  text: str) -> tuple[tuple[Word, ...], list[list[int]]]:
    """`word_places` counted with the [CLS] that stands before the text."""
    words, places = word_places(text, checkpoint.ids(text)[1])
    return words, [[place + 1 for place in found] for found in places]


def _explanation(checkpoint: BlipCheckpoint, size: tuple[int, int], text: str, source: str,
                 words: tuple[Word, ...], weights: np.ndarray,
                 probabilities: tuple[float, ...] = (), note: str = "") -> Explanation:
    names = tuple(f"cross-attention {number}" for number in range(1, len(weights) + 1))
    return Explanation(text, source, words, weights, grid_boxes(checkpoint.grid, size),
                       checkpoint.grid, size, METHOD, names,
                       word_probabilities=probabilities, note=note)
