"""The losses: what the model is trained to do. Shapes as in `mixture` and `vlm`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.clouds import cloud_loss
from train.cross_entropy import linear_cross_entropy
from train.mixture import PairBatch, StepBatch, TextBatch, WordBatch
from vitdemo.attention.capture import AttentionRecord, capture_cross_attention, own_weights
from vitdemo.models.vlm import VLM

_WORDS_A_PICTURE = 25  # about so many belong to one: makes the region loss a mean over words

@dataclass(frozen=True)
class LossConfig:
    """Weights and settings of the losses."""

    caption: float = 1.0  # weight of describing
    question: float = 1.0  # weight of answering
    contrastive: float = 1.0  # weight of finding
    match: float = 0.5  # weight of matching
    smoothing: float = 0.1  # label smoothing of written words (Szegedy et al. 2016, section 7)
    temperature: float = 0.05  # T of the contrastive loss
    kept_tokens: float = 0.6  # share of picture tokens kept while describing and answering
    match_pairs: int = 32  # pictures of the pair batch that go through the match head
    region: float = 0.5  # weight of which words a picture's regions add up to
    look: float = 0.3  # weight of cross-attention that looks where the region head points
    cloud: float = 0.5  # weight of cross-attention that looks where a cloud would hurt


def kept_places(features: Tensor, share: float) -> Tensor:
    """A random share of each picture's places, in place of dropout: (P, N, C) to (P, n)."""
    pictures, count, _ = features.shape
    kept = min(count, max(1, round(count * share)))
    return torch.rand(pictures, count, device=features.device).argsort(1)[:, :kept]


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at these places: (P, N, D), (P, n) to (P, n, D)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def text_losses(model: VLM, batch: TextBatch, config: LossConfig,
                content: Tensor | None, read: bool) -> tuple[Tensor, Tensor]:
    """(writing, looking): the mean negative log-likelihood of the next token,
    -log p(w_t | w_<t, picture, instruction), and `look_loss` of the words that are written and,
    where ``read``, of the instruction's, on pictures that no cloud covers."""
    places = kept_places(batch.features, config.kept_tokens)
    tokens = take(model.vision.tokens(batch.features), places)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    which = batch.instruction_of
    decoder = model.decoder
    looks = content is not None and config.look > 0
    with _capture(model.decoder.blocks, looks) as written, \
            _capture(model.fusion.blocks, looks and read) as asked:
        memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which])
        hidden = decoder.hidden(batch.targets[:, :-1], decoder.start(memory))
    real = batch.target_mask[:, 1:]
    states = F.dropout(hidden[real], decoder.dropout, decoder.training)  # (tokens, D)
    smoothing = config.smoothing if model.training else 0.0
    targets = batch.targets[:, 1:]
    loss = linear_cross_entropy(states, decoder.embedding.weight, decoder.bias, targets[real],
                                smoothing)
    look = loss.new_zeros(())
    if written.calls and content is not None:
        clear = batch.clear.repeat_interleave(len(targets) // len(batch.clear))[:, None]
        look = look_loss(model, batch.features, places, written, targets,
                         real & content[targets] & clear)
    if asked.calls and content is not None:
        ids = batch.instruction[which]
        seen = batch.instruction_mask[which] & content[ids] & batch.clear[:, None]
        look = look + look_loss(model, batch.features, places, asked, ids, seen)
    return loss, look


def _capture(blocks: Sequence[nn.Module], wanted: bool) -> Any:
    modules: list[Any] = [block.cross for block in blocks] if wanted else []
    return capture_cross_attention(modules, own_weights, keep_graph=True)


def look_loss(model: VLM, features: Tensor, places: Tensor, record: AttentionRecord, ids: Tensor,
              which: Tensor) -> Tensor:
    """How far the cross-attention is from where the region head points, in nats a word.

    The cross entropy of the region head's map m and the attention a, both over the kept places:
    -sum_k m_k log a_k, less the map's own entropy. a is the mean over layers and heads, its part
    on the picture brought to 1. The region head learns nothing here (Liu et al. 2017, "Attention
    correctness in neural image captioning", eq. 8, with a learnt map in place of people's).

    ``places`` (P, n); ``ids`` (R, T) tokens, R = P * K; ``which`` bool (R, T): those that count.
    """
    assert model.region_head is not None
    if not bool(which.any()):
        return features.new_zeros(())
    text, place = which.nonzero(as_tuple=True)  # (words,)
    picture = text // (len(ids) // len(features))
    different, number = ids[which].unique(return_inverse=True)
    with torch.no_grad():
        maps = model.region_head.maps(features, different)  # (P, W, N)
        wanted = maps[picture, number].gather(1, places[picture])  # (words, n)
        wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-9)
    mean = torch.stack([calls[0][..., :places.shape[1]].mean(1) for calls in record.calls]).mean(0)
    attention = mean[text, place]  # (words, n)
    attention = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)
    return (wanted * (wanted.clamp(min=1e-9).log() - attention.clamp(min=1e-9).log())).sum(1).mean()


def region_loss(model: VLM, features: Tensor, words: WordBatch) -> Tensor:
    """Binary cross entropy of which words belong to each picture, summed over the words and
    meaned over the pictures (multiple-instance learning; Fang et al. 2015, section 3.1)."""
    assert model.region_head is not None
    logits = model.region_head.presence(features, words.ids)  # (P, W)
    loss = F.binary_cross_entropy_with_logits(logits, words.present, weight=words.weight,
                                              reduction="sum")
    return loss / len(features)


def contrastive_loss(similarity: Tensor, temperature: float) -> Tensor:
    """L = -log exp(s+/T) / sum exp(s/T) over the batch, both ways (van den Oord et al. 2018, eq. 4;
    Radford et al. 2021, figure 3). ``similarity`` is (P, P), cosines, right pairs on the diagonal.
    """
    scores = similarity.float() / temperature
    right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def pair_losses(model: VLM, batch: PairBatch, config: LossConfig) -> tuple[Tensor, Tensor]:
    """(contrastive loss, match loss).

    The match head sees each right pair, and for each a wrong text and a wrong picture, drawn from
    the batch by how alike they are (Li et al. 2021, ALBEF, section 3.2).
    """
    words, z = model.encode_text(batch.ids, batch.mask)
    pictures = model.picture_head(batch.features)
    similarity = pictures @ z.T  # (P, P)
    find = contrastive_loss(similarity, config.temperature)
    if config.match == 0:
        return find, find.new_zeros(())
    count = min(config.match_pairs, len(pictures))
    with torch.no_grad():
        odds = (similarity.float() / config.temperature).softmax(1)
        odds.fill_diagonal_(0)
        odds_back = (similarity.T.float() / config.temperature).softmax(1)
        odds_back.fill_diagonal_(0)
        wrong_text = torch.multinomial(odds[:count] + 1e-6, 1).squeeze(1)
        wrong_picture = torch.multinomial(odds_back[:count] + 1e-6, 1).squeeze(1)
    right = torch.arange(count, device=z.device)
    picture = torch.cat((right, right, wrong_picture))
    text = torch.cat((right, wrong_text, right))
    tokens = take(model.vision.tokens(batch.features),
                  kept_places(batch.features, config.kept_tokens))
    mask = batch.mask[text]
    memory = model.fuse(tokens[picture], words[text], mask, z[text])
    logits = model.match(memory, mask, pictures[picture], z[text])
    target = torch.zeros_like(logits)
    target[:count] = 1
    return find, F.binary_cross_entropy_with_logits(logits.float(), target.float(),
                                                    pos_weight=logits.new_tensor(2.0).float())


def step_losses(model: VLM, batch: StepBatch, config: LossConfig) -> dict[str, Tensor]:
    """Each loss of a step by name, unweighted, and their weighted sum as "loss"."""
    losses: dict[str, Tensor] = {}
    content = batch.words.content if batch.words and model.region_head is not None else None
    looks = []
    if batch.captions is not None and config.caption:
        losses["caption"], look = text_losses(model, batch.captions, config, content, False)
        looks.append(look)
    if batch.questions is not None and config.question:
        losses["question"], look = text_losses(model, batch.questions, config, content, True)
        looks.append(look)
    if batch.pairs is not None and config.contrastive:
        losses["contrastive"], losses["match"] = pair_losses(model, batch.pairs, config)
    if batch.words is not None and model.region_head is not None:
        parts = [part.features for part in (batch.captions, batch.questions) if part is not None]
        losses["region"] = region_loss(model, torch.cat(parts), batch.words)
        if config.look:
            losses["look"] = sum(looks, start=torch.zeros(()).to(losses["region"]))
    if batch.clouds is not None and batch.words is not None and config.cloud:
        losses["cloud"] = cloud_loss(model, batch.clouds, batch.words.content)
    weights = {"caption": config.caption, "question": config.question,
               "contrastive": config.contrastive, "match": config.match, "look": config.look,
               "cloud": config.cloud,
               "region": config.region / _WORDS_A_PICTURE}
    losses["loss"] = sum((weights[name] * value for name, value in losses.items()),
                         start=torch.zeros(()).to(next(iter(losses.values()))))
    return losses
