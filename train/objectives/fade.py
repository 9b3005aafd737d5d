"""Words that fade as their map is covered.

Where deletion and insertion only measure, this trains. A picture is shown whole and with some of
its regions blurred: along the map of one of the words, over what that calls most, or least,
important. Those are the pictures that deletion and insertion show. A word should then keep as much
of its probability as its map has outside of what is covered, and where all of it is covered, what
it has with no picture at all. So the model learns to say what it sees where it looks, and not to
guess it from the surroundings. What is said of whole pictures is held meanwhile near what the model
that the run starts with, the teacher, says (Hinton, Vinyals, Dean 2015).

Shapes as in `batch_sampler`; V tokens of the vocabulary, "tokens" the real ones of all texts.
"""

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from train.data.batch_sampler import TARGET_TOKENS, BatchSampler, Draw, TextBatch
from train.data.features import features_of
from train.objectives.attention import on_picture
from train.objectives.base import Objective, Options, Step
from train.objectives.captioning import descriptions
from train.objectives.writing import (
    draw_captions,
    log_probabilities,
    memory_of,
    until_end,
)
from vitdemo.attention.capture import record
from vitdemo.attention.methods import matched
from vitdemo.models.decoding import Vocabulary
from vitdemo.models.vlm import VLM

TEXTS = 2  # captions of each picture
OWN_WORDS = 0.6  # share of the pictures whose captions the model writes, as evidence explains those
TEMPERATURE = 0.5  # at which it writes them: nearly what the app would say
SHARPEN = 2.0  # power of a map before its shares are taken: its strongest regions carry the word
TOP_SHARE = 0.7  # of the covers: those over a word's most important regions
LEAST_HIDDEN = 0.1  # share of the regions that are covered
TOP_HIDDEN = 0.55  # the most over the most important ones; nothing of the map is left then
UNSURE = 2.0  # temperature of what is said of a thing that cannot be seen
HELD = 0.5  # weight of what is said of whole pictures, beside words that fade


class FadeSettings(Options):
    """Words that fade as their map is covered."""

    loss_fade: float = Field(0.0, ge=0, description=(
        "weight of words that fade as their map is covered"))
    fade_pictures: int = Field(24, ge=0, description="pictures to describe, whole and covered")


@dataclass
class FadeBatch:
    """Pictures to describe, whole in ``texts``; their ``pixels``, sharp and blurred, uint8
    (P, 2, 3, side, side); ``cover`` (P, 3), 0..1, by which a word, a way and how much is covered
    are chosen. Of those that are ``own``, bool (P,), the model writes the K captions itself, by
    ``draws`` (P, K, S), 0..1."""

    texts: TextBatch
    pixels: Tensor
    cover: Tensor
    own: Tensor
    draws: Tensor
    vocabulary: Vocabulary


@dataclass
class Passes:
    """What the passes found, for every real token: its place ``text`` and ``place`` (tokens,) in
    the texts; log-probabilities (tokens, V) with the whole picture, covered and with none, the last
    as the teacher has them, as those ``taught`` with the whole picture; and the decoder's mean
    attention on the picture's places, adding up to 1 (tokens, N)."""

    text: Tensor
    place: Tensor
    whole: Tensor
    covered: Tensor
    blank: Tensor
    taught: Tensor
    attention: Tensor


class Fade(Objective):
    """Covers pictures along the map of a word."""

    Settings = FadeSettings

    def __init__(self, settings: FadeSettings, sampler: BatchSampler, start: VLM) -> None:
        super().__init__(settings, sampler, start)
        self.teacher = copy.deepcopy(start).eval().requires_grad_(False)

    def draw(self, draw: Draw, parts: Mapping[str, Any]) -> FadeBatch | None:
        """Pictures to describe, as they are."""
        sampler = self.sampler
        items = descriptions(sampler, draw.maker, self.settings.fade_pictures, TEXTS)
        texts = sampler.text_batch(items, draw)
        if texts is None:
            return None
        count, paths = len(items), [sampler.rows[item.row].path for item in items]
        return FadeBatch(texts, sampler.store.sharp_and_blurred(paths), draw.uniform(count, 3),
                         draw.uniform(count) < OWN_WORDS,
                         draw.uniform(count, TEXTS, TARGET_TOKENS + 1), sampler.vocabulary(items))

    def loss(self, step: Step, batch: FadeBatch) -> Tensor:
        """`fade_loss` and `HELD` times `held_loss`."""
        batch, content = with_own_words(step.model, batch), self.content(step)
        passes, maps, hidden = look(step.model, batch, content, self.teacher)
        targets = batch.texts.targets[:, 1:]
        hidden = hidden[passes.text // (len(targets) // len(hidden))]  # (tokens, N)
        visible = content[targets[passes.text, passes.place]]
        return fade_loss(passes, maps, hidden, visible) + HELD * held_loss(passes)


def held_loss(passes: Passes) -> Tensor:
    """KL(taught || p(. | whole)), the mean over the tokens."""
    return F.kl_div(passes.whole, passes.taught.exp(), reduction="batchmean")


def fade_loss(passes: Passes, maps: Tensor, hidden: Tensor, visible: Tensor) -> Tensor:
    """KL(q || p(. | covered)) with q = k p(. | whole) + (1 - k) p(. | no picture), where k comes
    from the share s of the word's map that is not ``hidden`` (tokens, N), k = s^2 (3 - 2 s): a word
    stays as long as most of what it is seen by is there. The mean over the tokens.

    Where a word names what can be seen (``visible``, bool (tokens,)), p(. | no picture) is
    flattened by the temperature `UNSURE`: of what it cannot see the model should be less sure than
    the sentence makes it. Nothing is learnt here from p(. | whole), p(. | no picture) and the
    ``maps`` (tokens, N).
    """
    share = (maps * ~hidden).sum(1, keepdim=True)  # (tokens, 1)
    kept = share ** 2 * (3 - 2 * share)
    with torch.no_grad():
        blank = torch.where(visible[:, None], (passes.blank / UNSURE).softmax(-1),
                            passes.blank.exp())
        wanted = kept * passes.taught.exp() + (1 - kept) * blank  # (tokens, V)
    return F.kl_div(passes.covered, wanted, reduction="batchmean")


@torch.no_grad()
def with_own_words(model: VLM, batch: FadeBatch) -> FadeBatch:
    """The batch with the model's own captions in place of people's where it is to write them."""
    texts, words = batch.texts, batch.vocabulary
    targets, mask = texts.targets, texts.target_mask
    rows = batch.own.nonzero().squeeze(1)
    if len(rows):
        asked = dataclasses.replace(texts, instruction_of=texts.instruction_of[rows])
        starts = [words.starts[row] for row in rows.tolist()]
        ids, _ = draw_captions(model, memory_of(model, asked, texts.features[rows]),
                               dataclasses.replace(words, starts=starts), batch.draws[rows],
                               TEMPERATURE)
        own = batch.own.repeat_interleave(batch.draws.shape[1])
        # The texts of a picture are in one language, so their starts are alike.
        drawn = torch.cat([targets[own, :1], ids], 1)
        real = F.pad(until_end(ids, words.end), (1, 0), value=True)
        more = max(0, drawn.shape[1] - targets.shape[1])
        targets, mask = F.pad(targets, (0, more)), F.pad(mask, (0, more))
        less = targets.shape[1] - drawn.shape[1]
        targets[own], mask[own] = F.pad(drawn, (0, less)), F.pad(real, (0, less))
    return dataclasses.replace(batch, texts=dataclasses.replace(
        texts, targets=targets, target_mask=mask))


def look(model: VLM, batch: FadeBatch, content: Tensor,
         teacher: VLM) -> tuple[Passes, Tensor, Tensor]:
    """The passes over the whole, the covered and no picture; each token's map (tokens, N); and
    what is covered, bool (P, N)."""
    texts = batch.texts
    real = texts.target_mask[:, 1:]
    text, place = real.nonzero(as_tuple=True)
    crossings = [block.cross for block in model.decoder.blocks]
    with record(crossings) as seen:
        whole = _log_probabilities(model, texts.features, texts, real)
    with torch.no_grad():
        taught = _log_probabilities(teacher, texts.features, texts, real)
        side = model.config.picture_size
        grey = teacher.vision.features(texts.features.new_zeros(1, 3, side, side)).float()
        blank = _log_probabilities(teacher, grey.expand_as(texts.features), texts, real)
    attention = on_picture(seen, texts.features.shape[1])[text, place].float()  # (tokens, N)
    attention = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)
    passes = Passes(text, place, whole, whole, blank, taught, attention)
    maps = word_maps(model, texts, passes)
    hidden = covered_places(batch, passes, maps, content)
    with torch.no_grad(), torch.autocast(batch.pixels.device.type, enabled=False):
        features = features_of(model, cover(model, batch.pixels, hidden))
    passes.covered = _log_probabilities(model, features, texts, real)
    return passes, maps, hidden


@torch.no_grad()
def word_maps(model: VLM, texts: TextBatch, passes: Passes) -> Tensor:
    """Each token's map as `vitdemo.attention.methods.matched` makes it, to the power `SHARPEN`,
    adding up to 1: (tokens, N)."""
    match = torch.ones_like(passes.attention)
    if model.region_head is not None:
        token = texts.targets[:, 1:][passes.text, passes.place]
        different, number = token.unique(return_inverse=True)
        picture = passes.text // (len(texts.targets) // len(texts.features))
        match = model.region_head.maps(texts.features, different)[picture, number].float()
    maps = torch.from_numpy(matched(passes.attention.detach().cpu().numpy(), match.cpu().numpy(),
                                    model.vision.grid)).to(match.device)
    maps = maps.pow(SHARPEN)
    return maps / maps.sum(1, keepdim=True).clamp(min=1e-12)


@torch.no_grad()
def covered_places(batch: FadeBatch, passes: Passes, maps: Tensor, content: Tensor) -> Tensor:
    """For each picture the most, or the least, important regions of one word's map: bool (P, N).

    A word that names what can be seen is drawn by how much it owes to the picture; which way round,
    and how many regions, evenly.
    """
    texts, pictures, places = batch.texts, len(batch.cover), maps.shape[1]
    picture = passes.text // (len(texts.targets) // pictures)
    token = texts.targets[:, 1:][passes.text, passes.place]
    with_picture, without = (logs.gather(1, token[:, None]).squeeze(1).exp()
                             for logs in (passes.taught, passes.blank))
    odds = (with_picture - without).clamp(min=1e-3) * content[token] + 1e-9  # (tokens,)
    found = []
    for number in range(pictures):
        which = (picture == number).nonzero().squeeze(1)
        draw, way, amount = batch.cover[number].tolist()
        sums = odds[which].double().cumsum(0)
        word = which[int((sums < draw * sums[-1]).sum().clamp(max=len(which) - 1))]
        rank = maps[word].argsort(descending=True).argsort()  # (N,)
        top = way < TOP_SHARE
        highest = TOP_HIDDEN if top else 1.0
        count = round((LEAST_HIDDEN + (highest - LEAST_HIDDEN) * amount) * places)
        found.append(rank < count if top else rank >= places - count)
    return torch.stack(found)


def cover(model: VLM, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Pixels uint8 (P, 2, 3, side, side), sharp and blurred, to pixels (P, 3, side, side) that are
    blurred in the regions that are ``hidden``, bool (P, N)."""
    side = pixels.shape[-1]
    rows, columns = model.vision.grid
    down, across = (torch.bucketize((torch.arange(side, device=pixels.device) + 0.5) / side,
                                    torch.tensor(edges[1:-1], device=pixels.device), right=True)
                    for edges in model.vision.edges)
    away = hidden.view(-1, rows, columns)[:, down][:, :, across]  # (P, side, side)
    return torch.where(away[:, None], pixels[:, 1], pixels[:, 0])


def _log_probabilities(model: VLM, features: Tensor, texts: TextBatch, real: Tensor) -> Tensor:
    """Of what follows at each real place: (tokens, V)."""
    return log_probabilities(model, memory_of(model, texts, features), texts.targets[:, :-1], real)
