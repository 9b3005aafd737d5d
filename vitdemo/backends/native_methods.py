"""Our own model's words explained by each method: the passes that `vitdemo.attention` works on.

A word that was written is measured by its own log-probability, a word that was only read by what
the model made of the whole text: the log-probability of the answer with its end (a question), the
match logit (a sentence to compare). For gradients, each word to explain has a row of its own in the
batch, a copy of the text, so that one backward pass gives all of them; long texts take several.

Legend: R rows, N picture tokens, which are the K regions, I tokens of the instruction, T tokens
that were written, M = N + I tokens of the memory, H heads, C channels of the backbone, D width,
Q words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdemo.attention import relevancy, rollout
from vitdemo.attention.capture import (
    AttentionRecord,
    attention_weights,
    capture_cross_attention,
    own_weights,
)
from vitdemo.attention.grad_cam import grad_cam, only_through
from vitdemo.attention.methods import WordMaps, outside_inference_mode, over_words, rows_at_once
from vitdemo.attention.relevancy import Relevancy
from vitdemo.models.fusion import Memory
from vitdemo.models.layers import join_heads, split_heads
from vitdemo.models.names import named_words
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import split_words


def methods(model: VLM) -> tuple[str, ...]:
    """What this model's words can be explained by, the default first."""
    found = ("cross-attention", "rollout", "relevancy", "grad-cam")
    if model.region_head is None:
        return found
    return ("matched-attention", *found, "word-region")


def self_weights(module: Any, args: tuple[Any, ...], _kwargs: dict[str, Any],
                 output: Any) -> Tensor:
    """Adapter for `capture_cross_attention` on a `SelfAttention`: (R, H, T, T)."""
    key, _ = output[1]
    return attention_weights(split_heads(module.query(args[0]), module.heads), key, args[1])


def self_output(module: Any, weights: Tensor, args: tuple[Any, ...],
                _kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What a `SelfAttention` gives back, made from its weights."""
    key, value = module.project(args[0])
    return module.out(join_heads(weights.to(value.dtype) @ value)), (key, value)


def cross_output(module: Any, weights: Tensor, args: tuple[Any, ...],
                 _kwargs: dict[str, Any]) -> Tensor:
    """What a `CrossAttention` with one text per memory gives back, made from its weights."""
    _, value = args[1]
    result: Tensor = module.out(join_heads(weights.to(value.dtype) @ value))
    return result


def _record_cross(modules: Sequence[nn.Module]) -> Any:
    return capture_cross_attention(modules, own_weights, keep_graph=True,
                                   output_from=cross_output)


def _record_self(modules: Sequence[nn.Module]) -> Any:
    return capture_cross_attention(modules, self_weights, keep_graph=True,
                                   output_from=self_output)


@dataclass(frozen=True)
class Task:
    """One picture with its texts, as numbers.

    ``features`` is (1, N, C). ``read`` is the text that the fusion reads (the instruction, the
    question or the sentence), with its ids and mask (1, I); ``written`` the text that the decoder
    wrote after ``start``, with its ids, and "" where nothing was written.
    """

    model: VLM
    tokenizer: TextTokenizer
    features: Tensor
    kind: str
    read: str
    read_ids: Tensor
    read_mask: Tensor
    written: str
    written_ids: tuple[int, ...]
    start: int

    @property
    def crossings(self) -> list[nn.Module]:
        """The fusion's cross-attention layers."""
        return [block.cross for block in self.model.fusion.blocks]

    @property
    def regions(self) -> int:
        """K."""
        return int(self.features.shape[1])

    def memory(self, tokens: Tensor, words: Tensor, z: Tensor) -> Memory:
        """The memory of R rows, picture tokens (R, N, D), that all read ``words`` (1, I, D)."""
        rows = len(tokens)
        words, z, mask = (one.expand(rows, *one.shape[1:]) for one in (words, z, self.read_mask))
        first = torch.zeros(rows, dtype=torch.long, device=tokens.device)
        names = self.model.nameable(self.features, first)
        return self.model.fuse(tokens, words, mask, z, names)

    def row_weights(self) -> int:
        """About how many attention weights one row has in a pass."""
        length, read = len(self.written_ids) + 1, self.read_ids.shape[1]
        decoder = len(self.model.decoder.blocks) * length * (length + self.regions + read)
        fusion = len(self.crossings) * read * self.regions
        return self.model.config.heads * (decoder + fusion)


def word_maps(model: VLM, tokenizer: TextTokenizer, features: Tensor, *, instruction: str,
              text: str, language: str, task: str, method: str) -> list[WordMaps]:
    """The maps of each text that `Backend.explain` gives for the same arguments, in its order.
    ``features`` is (1, N, C); ``method`` is one of `methods` but
    cross-attention and matched-attention."""
    with outside_inference_mode():
        return _word_maps(model, tokenizer, features.clone(), instruction, text, language, task,
                          method)


def _word_maps(model: VLM, tokenizer: TextTokenizer, features: Tensor, instruction: str, text: str,
               language: str, task: str, method: str) -> list[WordMaps]:
    wrote = task != "match"
    ids, mask = tokenizer.encode([instruction if wrote else text])
    given = Task(model, tokenizer, features, task, text if task == "match" else instruction,
                 ids.to(features.device), mask.to(features.device), text if wrote else "",
                 tuple(tokenizer.pieces(text)[0]) if wrote else (),
                 tokenizer.language_start[language])
    read_by, written_by = {"rollout": (_read_rollout, _written_rollout),
                           "relevancy": (_read_relevancy, _written_relevancy),
                           "grad-cam": (_read_grad_cam, _written_grad_cam),
                           "word-region": (_read_regions, _written_regions)}[method]
    found = []
    if task in ("ask", "match") and given.crossings:  # else the words see no picture
        source = "question" if task == "ask" else "text"
        found.append(WordMaps(given.read, source, split_words(given.read), read_by(given)))
    if wrote:
        maps, chances = written_by(given)
        found.append(WordMaps(text, "caption" if task == "caption" else "answer",
                              split_words(text), maps, chances))
    return found


# Rollout: no gradients, one row

@torch.inference_mode()
def _fused(task: Task) -> tuple[Memory, Tensor]:
    """The memory, and the shares of its tokens in the regions (M, K)."""
    words, z = task.model.encode_text(task.read_ids, task.read_mask)
    with capture_cross_attention(task.crossings, own_weights) as seen:
        memory = task.memory(task.model.vision.tokens(task.features), words, z)
    picture = torch.eye(task.regions, device=task.features.device)
    share = picture.new_zeros(task.read_ids.shape[1], task.regions)  # (I, K)
    for weights, gate in zip(seen.calls, task.model.gates().tolist(), strict=True):
        share = rollout.cross_attention(share, weights[0][0], picture, gate)
    return memory, torch.cat((picture, share))  # (M, K)


def _read_rollout(task: Task) -> np.ndarray:
    _, share = _fused(task)
    places = [tokens for _, tokens in task.tokenizer.word_tokens(task.read)]
    return over_words(share[task.regions + 1:-1].cpu().numpy(), places)  # no [CLS], no [SEP]


@torch.inference_mode()
def _written_rollout(task: Task) -> tuple[np.ndarray, tuple[float, ...]]:
    memory, context = _fused(task)
    blocks = task.model.decoder.blocks
    crossings = [block.cross for block in blocks]
    mixings = [block.self_attention for block in blocks]
    with capture_cross_attention(crossings, own_weights) as crossed, \
            capture_cross_attention(mixings, self_weights) as mixed:
        chances = _chances(task, memory)
    share = context.new_zeros(len(task.written_ids) + 1, task.regions)  # (1 + T, K)
    for own, seen in zip(mixed.calls, crossed.calls, strict=True):
        share = rollout.self_attention(share, own[0][0])
        share = rollout.cross_attention(share, seen[0][0], context)
    places = [tokens for _, tokens in task.tokenizer.word_tokens(task.written)]
    return over_words(share.cpu().numpy(), places), chances


# The region head: no gradients, and no context, so that a word has the same map wherever it stands

@torch.inference_mode()
def matching_regions(model: VLM, tokenizer: TextTokenizer, features: Tensor,
                     text: str) -> np.ndarray:
    """Maps (Q, K) of a text's words, from each token's own, on one picture's features (1, N, C);
    see `vitdemo.models.regions`. That of a word which the names head knows is multiplied by where
    that sees it."""
    ids = torch.tensor(tokenizer.pieces(text)[0], dtype=torch.long, device=features.device)
    assert model.region_head is not None
    maps = model.region_head.maps(features, ids)[0].cpu().numpy()  # (T, K)
    words = tokenizer.word_tokens(text)
    maps = over_words(maps, [tokens for _, tokens in words])  # (Q, K)
    named = named_words([word.text for word, _ in words]) if model.names is not None else {}
    if named:
        assert model.names is not None
        places = list(named)
        maps[places] *= model.names.maps(features, list(named.values()))[0].cpu().numpy()
        maps[places] /= maps[places].sum(1, keepdims=True).clip(min=1e-12)
    return maps


def _read_regions(task: Task) -> np.ndarray:
    return matching_regions(task.model, task.tokenizer, task.features, task.read)


@torch.inference_mode()
def _written_regions(task: Task) -> tuple[np.ndarray, tuple[float, ...]]:
    words, z = task.model.encode_text(task.read_ids, task.read_mask)
    memory = task.memory(task.model.vision.tokens(task.features), words, z)
    found = matching_regions(task.model, task.tokenizer, task.features, task.written)
    return found, _chances(task, memory)


# Words that were written

def _chances(task: Task, memory: Memory) -> tuple[float, ...]:
    """The probability of each word given those before it."""
    logs = _written_logs(task, memory, list(task.written_ids))[0]
    return tuple(min(1.0, float(logs[tokens].sum().exp()))
                 for _, tokens in task.tokenizer.word_tokens(task.written))


def _written_logs(task: Task, memory: Memory, targets: list[int]) -> Tensor:
    """Log-probability of each target id after those before it, teacher-forced with every memory:
    float32 (R, len(targets))."""
    rows = len(memory.tokens)
    inputs = torch.tensor([[task.start, *task.written_ids]], device=task.features.device)
    logits = task.model.decoder(inputs.expand(rows, -1), memory)[:, :len(targets)].float()
    wanted = torch.tensor(targets, dtype=torch.long, device=task.features.device)
    return logits.log_softmax(-1).gather(2, wanted.expand(rows, -1)[..., None]).squeeze(2)


def _word_logs(task: Task, memory: Memory, spans: Sequence[Sequence[int]]) -> Tensor:
    """Row r's own word: the sum of the log-probabilities of its tokens, float32 (R,). Nothing
    after the last of these words is read."""
    length = 1 + max(max(tokens) for tokens in spans)
    device = task.features.device
    inputs = torch.tensor([[task.start, *task.written_ids[:length - 1]]], device=device)
    decoder = task.model.decoder
    inputs, cache = inputs.expand(len(spans), -1), decoder.start(memory)
    hidden = decoder.hidden(inputs, cache)  # (R, T, D)
    copy = decoder.copies(hidden, inputs, cache)
    row = torch.tensor([r for r, tokens in enumerate(spans) for _ in tokens], device=device)
    place = torch.tensor([token for tokens in spans for token in tokens], device=device)
    wanted = torch.tensor(task.written_ids, device=device)[place]
    # Logits only where a word stands: those of all places would be (R, T, V).
    logs = decoder.logits(hidden[row, place], copy and copy.at(row, place)).float().log_softmax(-1)
    logs = logs.gather(1, wanted[:, None]).squeeze(1)
    return logs.new_zeros(len(spans)).index_add(0, row, logs)


def _in_rows(task: Task, method: Any) -> tuple[np.ndarray, tuple[float, ...]]:
    """Maps (Q, K) and probabilities of the words that were written: ``method(task, words, z,
    spans)`` gives the maps (R, K) and log-probabilities (R,) of some of them."""
    found = task.tokenizer.word_tokens(task.written)
    maps = np.zeros((len(found), task.regions), dtype=np.float32)
    chances = [1.0] * len(found)
    asked = [q for q, (_, tokens) in enumerate(found) if tokens]
    size = rows_at_once(task.row_weights())
    words, z = task.model.encode_text(task.read_ids, task.read_mask)
    for first in range(0, len(asked), size):
        some = asked[first:first + size]
        with torch.enable_grad():
            part, logs = method(task, words, z, [found[q][1] for q in some])
        maps[some] = part.detach().float().cpu().numpy()
        for q, log in zip(some, logs.detach().tolist(), strict=True):
            chances[q] = min(1.0, float(np.exp(log)))
    return maps, tuple(chances)


def _written_relevancy(task: Task) -> tuple[np.ndarray, tuple[float, ...]]:
    return _in_rows(task, _relevancy_rows)


def _relevancy_rows(task: Task, words: Tensor, z: Tensor,
                    spans: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    rows, blocks = len(spans), task.model.decoder.blocks
    tokens = task.model.vision.tokens(task.features).expand(rows, -1, -1)
    with _record_cross(task.crossings) as fused, \
            _record_cross([block.cross for block in blocks]) as crossed, \
            _record_self([block.self_attention for block in blocks]) as mixed:
        logs = _word_logs(task, task.memory(tokens, words, z), spans)
    fusion, cross, own = relevancy.means(logs, _calls(fused), crossed.weights, mixed.weights)
    picture = torch.eye(task.regions, device=logs.device).expand(rows, -1, -1)
    # The decoder looks at the places of the fused words, whatever the text encoder mixed into
    # them before the picture came in: R_ss of the instruction is I here.
    read = Relevancy.start(rows, task.read_ids.shape[1], task.regions, logs.device)
    for mean in fusion:
        read = read.after_cross(mean, picture)
    context = torch.cat((picture, read.picture), 1)  # (R, M, K)
    said = Relevancy.start(rows, own[0].shape[-1], task.regions, logs.device)
    for mine, theirs in zip(own, cross, strict=True):
        said = said.after_self(mine).after_cross(theirs, context)
    return torch.stack([said.picture[r, list(tokens)].mean(0)
                        for r, tokens in enumerate(spans)]), logs


def _written_grad_cam(task: Task) -> tuple[np.ndarray, tuple[float, ...]]:
    return _in_rows(task, _grad_cam_rows)


def _grad_cam_rows(task: Task, words: Tensor, z: Tensor,
                   spans: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    leaf = task.features.expand(len(spans), -1, -1).detach().clone().requires_grad_()
    logs = _word_logs(task, task.memory(task.model.vision.tokens(leaf), words, z), spans)
    (gradient,) = torch.autograd.grad(logs.sum(), leaf)  # (R, N, C)
    return grad_cam(task.features[0], gradient.mean(1)), logs


def _calls(record: AttentionRecord) -> list[Tensor]:
    """`weights`, and an empty list where there are no layers."""
    return record.weights if record.calls else []


# Words that were only read

def outcome(task: Task, memory: Memory, z: Tensor) -> Tensor:
    """What the model made of the text, for each of R memories: (R,)."""
    if task.kind == "match":
        rows = len(memory.tokens)
        ids, mask, z = (one.expand(rows, -1) for one in (task.read_ids, task.read_mask, z))
        return task.model.match(memory, ids, mask, z, task.model.picture_head(task.features),
                                task.model.regions(task.features)).float()
    return _written_logs(task, memory, [*task.written_ids, task.tokenizer.end]).sum(1)


def _read_relevancy(task: Task) -> np.ndarray:
    mixings: list[Any] = [block.attention for block in task.model.text.blocks]
    with torch.enable_grad():
        with _record_self(mixings) as mixed, _record_cross(task.crossings) as fused:
            words, z = task.model.encode_text(task.read_ids, task.read_mask)
            memory = task.memory(task.model.vision.tokens(task.features), words, z)
            target = outcome(task, memory, z)
        own, fusion = relevancy.means(target, mixed.weights, fused.weights)
    picture = torch.eye(task.regions, device=target.device)[None]
    read = Relevancy.start(1, task.read_ids.shape[1], task.regions, target.device)
    for mean in own:
        read = read.after_self(mean)
    for mean in fusion:
        read = read.after_cross(mean, picture)
    places = [tokens for _, tokens in task.tokenizer.word_tokens(task.read)]
    return over_words(read.picture[0, 1:-1].cpu().numpy(), places)


def _read_grad_cam(task: Task) -> np.ndarray:
    found = task.tokenizer.word_tokens(task.read)
    length = task.read_ids.shape[1]
    # After [CLS], and before [SEP] where the text was too long and was cut.
    places = [[token + 1 for token in tokens if token + 2 < length] for _, tokens in found]
    asked = [q for q, tokens in enumerate(places) if tokens]
    maps = np.zeros((len(found), task.regions), dtype=np.float32)
    size = rows_at_once(task.row_weights())
    words, z = task.model.encode_text(task.read_ids, task.read_mask)
    for first in range(0, len(asked), size):
        some = asked[first:first + size]
        positions = torch.zeros(len(some), length, dtype=torch.bool, device=words.device)
        for row, q in zip(positions, some, strict=True):
            row[places[q]] = True
        with torch.enable_grad():
            leaf = task.features.expand(len(some), -1, -1).detach().clone().requires_grad_()
            with only_through(task.crossings, positions):
                memory = task.memory(task.model.vision.tokens(leaf), words, z)
            # The decoder also sees the picture itself; that is no merit of the word's.
            cut = torch.cat((memory.tokens[:, :task.regions].detach(),
                             memory.tokens[:, task.regions:]), 1)
            target = outcome(task, Memory(cut, memory.mask, memory.picture_tokens, memory.text), z)
            (gradient,) = torch.autograd.grad(target.sum(), leaf)
        maps[some] = grad_cam(task.features[0], gradient.mean(1)).detach().cpu().numpy()
    return maps
