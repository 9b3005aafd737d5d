"""The losses: what the model is trained to do. Shapes as in `batches` and `vlm`.

With several processes each loss is this process's share: a sum over its rows, divided by what all
processes hold. The shares add up to the loss that one process would have.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.data.batches import PairBatch, StepBatch, TextBatch, WordBatch
from train.data.features import scaled_pixels
from train.distributed import Team
from train.objectives.claim_matching import claim_loss
from train.objectives.cross_entropy import linear_cross_entropy
from train.objectives.fade import fading_losses
from train.objectives.sampling import with_own_words
from train.objectives.self_critical import Judge, reward_loss
from train.objectives.swapped_names import swap_names
from vitdemo.attention.capture import AttentionRecord, capture_cross_attention, own_weights
from vitdemo.models.vlm import VLM

_WORDS_A_PICTURE = 25  # about so many belong to one: makes the region loss a mean over words
_TEXTS_AT_ONCE = 96  # of about one length that are read together
_LEAST_ODDS = 1e-6  # of a wrong pair to be drawn, however little alike


@dataclass(frozen=True)
class LossConfig:
    """Weights and settings of the losses."""

    caption: float = 1.0  # weight of describing
    question: float = 1.0  # weight of answering
    contrastive: float = 1.0  # weight of finding
    match: float = 0.5  # weight of matching
    claim: float = 0.0  # weight of telling whether what an answer claims is true (see claims.py)
    smoothing: float = 0.1  # label smoothing of written words (Szegedy et al. 2016, section 7)
    temperature: float = 0.05  # T of the contrastive loss
    swapped: float = 0.25  # share of described pictures with a name replaced by another
    kept_tokens: float = 0.6  # share of picture tokens kept while describing and answering
    match_pairs: int = 32  # pictures of the pair batch that go through the match head
    region: float = 0.5  # weight of which words a picture's regions add up to
    look: float = 0.3  # weight of cross-attention that looks where the region head points
    hide: float = 0.0  # weight of words that fade as a cloud covers where they look
    reward: float = 0.0  # weight of describing as the judge rewards it (see reward.py)
    reward_bleu: float = 0.0  # weight of BLEU-4 in the reward, where that of CIDEr-D is 1
    reward_fault: float = 0.0  # what a thing that nobody named, or a word said twice, takes off it
    hold: float = 0.0  # weight of saying of the same pictures, whole, what the start says of them


def kept_places(noise: Tensor, share: float) -> Tensor:
    """A random share of each picture's places, in place of dropout: (P, N) to (P, n)."""
    count = noise.shape[1]
    return noise.argsort(1)[:, :min(count, max(1, round(count * share)))]


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at these places: (P, N, D), (P, n) to (P, n, D)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def text_losses(model: VLM, batch: TextBatch, config: LossConfig,
                content: Tensor | None, read: bool, swap: bool = False) -> tuple[Tensor, Tensor]:
    """(writing, looking): the mean negative log-likelihood of the next token,
    -log p(w_t | w_<t, picture, instruction), and `look_loss` of the words that are written and,
    where ``read``, of the instruction's, on pictures that no cloud covers."""
    places = kept_places(batch.noise, config.kept_tokens)
    tokens = take(model.vision.tokens(batch.features), places)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    which = batch.instruction_of
    decoder = model.decoder
    looks = content is not None and config.look > 0
    with _capture(model.decoder.blocks, looks) as written, \
            _capture(model.fusion.blocks, looks and read) as asked:
        names = model.nameable(batch.features)
        if names is not None and config.swapped and swap and model.training:
            batch, names = swap_names(batch, names, model.names, config.swapped)
        memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which], names)
        cache = decoder.start(memory)
        hidden = decoder.hidden(batch.targets[:, :-1], cache)
    real = batch.target_mask[:, 1:]
    states = F.dropout(hidden[real], decoder.dropout, decoder.training)  # (tokens, D)
    smoothing = config.smoothing if model.training else 0.0
    targets = batch.targets[:, 1:]
    copy = decoder.copies(hidden, batch.targets[:, :-1], cache)
    copy = copy and copy.at(*real.nonzero(as_tuple=True))
    loss = linear_cross_entropy(states, decoder.embedding.weight, decoder.bias, targets[real],
                                smoothing, copy) * (len(states) / batch.totals.tokens)
    look = loss.new_zeros(())
    if written.calls and content is not None:
        clear = batch.clear.repeat_interleave(len(targets) // len(batch.clear))[:, None]
        look = look_loss(model, batch.features, places, written, targets,
                         real & content[targets] & clear, batch.totals.written)
    if asked.calls and content is not None:
        ids = batch.instruction[which]
        seen = batch.instruction_mask[which] & content[ids] & batch.clear[:, None]
        look = look + look_loss(model, batch.features, places, asked, ids, seen,
                                batch.totals.read)
    return loss, look


def _capture(blocks: Sequence[nn.Module], wanted: bool) -> Any:
    modules: list[Any] = [block.cross for block in blocks] if wanted else []
    return capture_cross_attention(modules, own_weights, keep_graph=True)


def look_loss(model: VLM, features: Tensor, places: Tensor, record: AttentionRecord, ids: Tensor,
              which: Tensor, total: int) -> Tensor:
    """How far the cross-attention is from where the region head points, in nats a word.

    The cross entropy of the region head's map m and the attention a, both over the kept places:
    -sum_k m_k log a_k, less the map's own entropy. a is the mean over layers and heads, its part
    on the picture brought to 1. The region head learns nothing here (Liu et al. 2017, "Attention
    correctness in neural image captioning", eq. 8, with a learnt map in place of people's).

    ``places`` (P, n); ``ids`` (R, T) tokens, R = P * K; ``which`` bool (R, T): those that count;
    ``total``: how many words count in all processes.
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
    away = wanted * (wanted.clamp(min=1e-9).log() - attention.clamp(min=1e-9).log())
    return away.sum() / total


def region_loss(model: VLM, features: Tensor, words: WordBatch, total: int = 0) -> Tensor:
    """Binary cross entropy of which words belong to each picture, summed over the words and
    meaned over the pictures (multiple-instance learning; Fang et al. 2015, section 3.1), of which
    there are ``total`` in all processes (0: these)."""
    assert model.region_head is not None
    logits = model.region_head.presence(features, words.ids)  # (P, W)
    loss = F.binary_cross_entropy_with_logits(logits, words.present, weight=words.weight,
                                              reduction="sum")
    return loss / (total or len(features))


def contrastive_loss(similarity: Tensor, temperature: float, back: Tensor | None = None,
                     right: Tensor | None = None) -> Tensor:
    """L = -log exp(s+/T) / sum exp(s/T) over the batch, both ways (van den Oord et al. 2018, eq. 4;
    Radford et al. 2021, figure 3).

    ``similarity`` (P, A): cosines of pictures with texts; ``back`` (P, A) of texts with pictures;
    ``right`` (P,): the columns of the right ones. By default the batch is all there is: P = A, the
    right ones are on the diagonal.
    """
    scores = similarity.float() / temperature
    scores_back = scores.T if back is None else back.float() / temperature
    if right is None:
        right = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores_back, right)) / 2


@torch.no_grad()
def draw_wrong(similarity: Tensor, temperature: float, own: Tensor, picks: Tensor) -> Tensor:
    """For each row of ``similarity`` (P, A) a column other than its ``own`` (P,), drawn by how
    alike they are with ``picks`` (P,), uniform in 0..1."""
    odds = (similarity.float() / temperature).softmax(1) + _LEAST_ODDS
    odds[torch.arange(len(odds), device=odds.device), own] = 0
    reached = odds.double().cumsum(1)
    wanted = picks.double()[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).squeeze(1).clamp(max=odds.shape[1] - 1)


def read_by_length(model: VLM, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`VLM.encode_text`, the texts of about one length together: of many texts the longest is two
    to three times as long as the mean, and all would be read at its length. What stands after
    the end of a text means nothing, as there."""
    lengths = mask.sum(1)
    order = lengths.argsort()
    words, z = [], []
    for chunk in order.split(_TEXTS_AT_ONCE):
        longest = int(lengths[chunk].max())
        found, vectors = model.encode_text(ids[chunk, :longest], mask[chunk, :longest])
        words.append(F.pad(found, (0, 0, 0, ids.shape[1] - longest)))
        z.append(vectors)
    back = order.argsort()
    return torch.cat(words)[back], torch.cat(z)[back]


def pair_losses(model: VLM, batch: PairBatch, config: LossConfig,
                team: Team) -> tuple[Tensor, Tensor]:
    """(contrastive loss, match loss), both against the pictures and texts of all processes.

    The match head sees each right pair, and for each a wrong text and a wrong picture, drawn from
    the step by how alike they are (Li et al. 2021, ALBEF, section 3.2).
    """
    total = batch.totals.pictures
    words, z = read_by_length(model, batch.ids, batch.mask)
    pictures = model.picture_head(batch.features)
    if config.match:
        places = kept_places(batch.noise, config.kept_tokens)
        tokens = take(model.vision.tokens(batch.features), places)
        regions = [model.regions(batch.features)] if model.evidence is not None else []
        all_z, all_pictures, all_words, all_tokens, *all_regions = team.gather(
            total, z, pictures, words, tokens, *regions)
    else:
        all_z, all_pictures = team.gather(total, z, pictures)
    own = team.own(total, z.device)
    forth, back = pictures @ all_z.T, z @ all_pictures.T  # (P, A)
    find = contrastive_loss(forth, config.temperature, back, own) * (len(own) / total)
    if not config.match:
        return find, find.new_zeros(())
    count = min(config.match_pairs, total)
    own, all_masks = own[own < count], team.join(batch.mask, total)
    n = len(own)
    if n == 0:
        return find, find.new_zeros(())
    wrong_text = draw_wrong(forth[:n], config.temperature, own, batch.picks[:n, 0])
    wrong_picture = draw_wrong(back[:n], config.temperature, own, batch.picks[:n, 1])
    picture = torch.cat((own, own, wrong_picture))
    text = torch.cat((own, wrong_text, own))
    mask = all_masks[text]
    memory = model.fuse(all_tokens[picture], all_words[text], mask, all_z[text])
    evidence = None
    if all_regions:
        evidence = model.weigh_words(all_regions[0][picture], team.join(batch.ids, total)[text],
                                     mask)
    logits = model.match(memory, mask, all_pictures[picture], all_z[text], evidence)
    target = torch.zeros_like(logits)
    target[:n] = 1
    loss = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="sum",
                                              pos_weight=logits.new_tensor(2.0).float())
    return find, loss / (3 * count)


def see_with(model: VLM, given: Tensor, stage: int) -> Tensor:
    """Features of pixels, or of what the stages before ``stage`` made of them: (P, N, C)."""
    if stage:
        made = given.float().contiguous(memory_format=torch.channels_last)
        return model.vision.late(made, stage).float()
    pixels = scaled_pixels(model, given)
    return model.vision.features(pixels.contiguous(memory_format=torch.channels_last)).float()


def with_features(model: VLM, batch: StepBatch) -> StepBatch:
    """The batch with features in place of pixels, or of what the first stages of the backbone made
    of them, where it learns, too."""
    def seen(part: Any) -> Any:
        if part is None or part.features.dim() == 3:
            return part
        return dataclasses.replace(part, features=see_with(model, part.features, batch.stage))
    clouds = batch.clouds
    if clouds is not None and clouds.clouded.dim() != 3:
        with torch.no_grad():  # they say what a cloud costs, and learn nothing
            clouded = see_with(model, clouds.clouded, batch.stage)
        clouds = dataclasses.replace(clouds, texts=seen(clouds.texts), clouded=clouded)
    rewards = batch.rewards
    if rewards is not None:
        rewards = dataclasses.replace(rewards, texts=seen(rewards.texts))
    return dataclasses.replace(batch, captions=seen(batch.captions), pairs=seen(batch.pairs),
                               questions=seen(batch.questions), clouds=clouds, rewards=rewards,
                               claims=seen(batch.claims))


def step_losses(model: VLM, batch: StepBatch, config: LossConfig,
                team: Team | None = None, teacher: VLM | None = None,
                judge: Judge | None = None) -> dict[str, Tensor]:
    """Each loss of a step by name, unweighted, and their weighted sum as "loss". ``teacher`` is
    what the run starts with, where it is to be held to that; ``judge`` says how good its own
    captions are, where it is to learn from that."""
    team = team or Team()
    losses: dict[str, Tensor] = {}
    batch = with_features(model, batch)
    content = batch.words.content if batch.words and model.region_head is not None else None
    looks = []
    if batch.captions is not None and config.caption:
        losses["caption"], look = text_losses(model, batch.captions, config, content, False, True)
        looks.append(look)
    if batch.questions is not None and config.question:
        losses["question"], look = text_losses(model, batch.questions, config, content, True)
        looks.append(look)
    if batch.pairs is not None and config.contrastive:
        losses["contrastive"], losses["match"] = pair_losses(model, batch.pairs, config, team)
    if batch.claims is not None and config.claim:
        places = kept_places(batch.claims.noise, config.kept_tokens)
        tokens = take(model.vision.tokens(batch.claims.features), places)
        losses["claim"] = claim_loss(model, batch.claims, tokens)
    if batch.words is not None and model.region_head is not None:
        parts = [part for part in (batch.captions, batch.questions) if part is not None]
        if config.region:
            losses["region"] = region_loss(
                model, torch.cat([part.features for part in parts]), batch.words,
                sum(part.totals.pictures for part in parts))
        if config.look and looks:
            losses["look"] = sum(looks, start=torch.zeros_like(looks[0]))
    if batch.clouds is not None and batch.words is not None and config.hide:
        shown = with_own_words(model, batch.clouds, team)
        losses["hide"], hold = fading_losses(model, shown, batch.words.content,
                                             teacher if config.hold else None)
        if teacher is not None and config.hold:
            losses["hold"] = hold
    if batch.rewards is not None and judge is not None and config.reward:
        losses["reward"] = reward_loss(model, batch.rewards, judge)
    weights = {"caption": config.caption, "question": config.question,
               "contrastive": config.contrastive, "match": config.match, "claim": config.claim,
               "look": config.look, "hide": config.hide, "hold": config.hold,
               "reward": config.reward, "region": config.region / _WORDS_A_PICTURE}
    losses["loss"] = sum((weights[name] * value for name, value in losses.items()),
                         start=torch.zeros(()).to(next(iter(losses.values()))))
    return losses
