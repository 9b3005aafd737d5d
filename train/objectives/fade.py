"""Words that fade as their map is covered.

Where deletion and insertion only measure, this trains. The picture is shown whole and under a cloud
(`features.View.clouded`):

- `hide`: under the cloud a word should keep as much of its probability as its map has outside of
  the cloud, and where all of it is covered, what it has with no picture at all. So the model learns
  to say what it sees where it looks, and not to guess it from the surroundings.
- `hold`: with the whole picture it says what it said before. The model that a run starts with, the
  teacher, holds what it is to say both ways, so that nothing drifts (Hinton, Vinyals, Dean 2015).

A cloud is drawn at random, or it covers what the map of one of the words calls most, or least,
important (`word_clouds`): those are the pictures that deletion and insertion show.

Shapes as in `batches`; V tokens of the vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from train.data.batches import CloudBatch, TextBatch
from train.data.features import LEAST_HIDDEN, scaled_pixels
from train.objectives.sampling import memory_of
from vitdemo.attention.capture import capture_cross_attention, own_weights
from vitdemo.models.pointer import mixed
from vitdemo.models.vlm import VLM

SHARPEN = 2.0  # power of a map before its shares are taken: its strongest regions carry the word
TOP_SHARE = 0.7  # of clouds along a word's map: those over its most important regions
TOP_HIDDEN = 0.55  # share of the regions that those cover at most; nothing of the map is left then
UNSURE = 2.0  # temperature of what is said of a thing that cannot be seen


@dataclass
class Seen:
    """What the passes found, for every real token: its place ``text`` and ``place`` (tokens,) in
    the texts; log-probabilities (tokens, V) with the whole picture, under the cloud and with none,
    the last as the teacher has them, as those ``taught`` with the whole picture (without a teacher,
    the model's own); and the decoder's mean attention on the picture's places, adding up to 1
    (tokens, N)."""

    text: Tensor
    place: Tensor
    whole: Tensor
    clouded: Tensor
    blank: Tensor
    taught: Tensor
    attention: Tensor


def fading_losses(model: VLM, batch: CloudBatch, content: Tensor,
                  teacher: VLM | None = None) -> tuple[Tensor, Tensor]:
    """(hide, hold), the second 0 without a ``teacher``.

    ``content`` (vocabulary,): the tokens that can be seen at a place. With several processes each
    is this one's share: its sum, divided by what all have.
    """
    seen, maps, hidden = look(model, batch, content, teacher)
    targets, total = batch.texts.targets[:, 1:], batch.texts.totals.tokens
    hidden = hidden[seen.text // (len(targets) // len(hidden))]  # (tokens, N)
    visible = content[targets[seen.text, seen.place]]
    hold = seen.attention.new_zeros(())
    if teacher is not None:
        hold = F.kl_div(seen.whole, seen.taught.exp(), reduction="sum") / total
    return hide_loss(seen, maps, hidden, visible, total), hold


def hide_loss(seen: Seen, maps: Tensor, hidden: Tensor, visible: Tensor, total: int) -> Tensor:
    """KL(q || p(. | clouded)) with q = k p(. | whole) + (1 - k) p(. | no picture), where k comes
    from the share s of the word's map outside of the cloud, k = s^2 (3 - 2 s): a word stays as
    long as most of what it is seen by is there. Summed over the tokens, divided by ``total``.

    Where a word names what can be seen (``visible``, bool (tokens,)), p(. | no picture) is
    flattened by the temperature `UNSURE`: of what it cannot see the model should be less sure than
    the sentence makes it. Nothing is learnt here from p(. | whole), p(. | no picture) and the
    ``maps`` (tokens, N).
    """
    share = (maps * ~hidden).sum(1, keepdim=True)  # (tokens, 1)
    kept = share ** 2 * (3 - 2 * share)
    with torch.no_grad():
        blank = torch.where(visible[:, None], (seen.blank / UNSURE).softmax(-1), seen.blank.exp())
        wanted = kept * seen.taught.exp() + (1 - kept) * blank  # (tokens, V)
    return F.kl_div(seen.clouded, wanted, reduction="sum") / total


def look(model: VLM, batch: CloudBatch, content: Tensor, teacher: VLM | None = None,
         ) -> tuple[Seen, Tensor, Tensor]:
    """The passes over the whole, the clouded and no picture; each token's map (tokens, N); and
    what the clouds cover (P, N)."""
    texts = batch.texts
    real = texts.target_mask[:, 1:]
    text, place = real.nonzero(as_tuple=True)
    crossings = [block.cross for block in model.decoder.blocks]
    with capture_cross_attention(crossings, own_weights) as record, \
            torch.set_grad_enabled(teacher is not None):
        whole = _chances(model, texts.features, texts, real, learns=teacher is not None)
    knows = teacher or model
    with torch.no_grad():
        taught = whole.detach() if teacher is None else \
            _chances(teacher, texts.features, texts, real, learns=False)
        side = model.config.picture_size
        grey = knows.vision.features(texts.features.new_zeros(1, 3, side, side)).float()
        blank = _chances(knows, grey.expand_as(texts.features), texts, real, learns=False)
    places = batch.hidden.shape[1]
    mean = torch.stack([calls[0][..., :places].mean(1) for calls in record.calls]).mean(0)
    attention = mean[text, place].float()  # (tokens, N)
    attention = attention / attention.sum(1, keepdim=True).clamp(min=1e-9)
    seen = Seen(text, place, whole, whole, blank, taught, attention)
    maps = word_maps(model, texts, seen)
    clouded, hidden = batch.clouded, batch.hidden
    if len(batch.pixels):
        by_word = word_clouds(texts, seen, maps, content)[:len(batch.pixels)]
        covered = _features(model, cover(model, batch.pixels, by_word))
        clouded = torch.cat([covered, clouded[len(covered):]])
        hidden = torch.cat([by_word, hidden[len(by_word):]])
    seen.clouded = _chances(model, clouded, texts, real, learns=True)
    return seen, maps, hidden


@torch.no_grad()
def word_maps(model: VLM, texts: TextBatch, seen: Seen) -> Tensor:
    """Each token's map as `vitdemo.attention.methods.matched` makes it, to the power `SHARPEN`,
    adding up to 1: (tokens, N)."""
    rows, columns = model.vision.grid
    maps = seen.attention.detach().float()
    if min(rows, columns) > 3:
        maps = F.avg_pool2d(maps.view(-1, 1, rows, columns), 3, 1, 1,
                            count_include_pad=False).flatten(1)
    if model.region_head is not None:
        token = texts.targets[:, 1:][seen.text, seen.place]
        different, number = token.unique(return_inverse=True)
        match = model.region_head.maps(texts.features, different)  # (P, W, N)
        picture = seen.text // (len(texts.targets) // len(texts.features))
        maps = maps * match[picture, number].float().sqrt()
    maps = maps.pow(SHARPEN)
    return maps / maps.sum(1, keepdim=True).clamp(min=1e-12)


@torch.no_grad()
def word_clouds(texts: TextBatch, seen: Seen, maps: Tensor, content: Tensor) -> Tensor:
    """For each picture a cloud along the map of one word, bool (P, N): over its most, or its least,
    important regions.

    A word that names what can be seen is drawn by how much it owes to the picture; which way round,
    and how many regions evenly, also come from the picture's own ``noise``.
    """
    pictures, places = texts.noise.shape
    picture = seen.text // (len(texts.targets) // pictures)
    token = texts.targets[:, 1:][seen.text, seen.place]
    owed = [chances.gather(1, token[:, None]).squeeze(1).exp()
            for chances in (seen.taught, seen.blank)]
    odds = (owed[0] - owed[1]).clamp(min=1e-3) * content[token] + 1e-9  # (tokens,)
    found = []
    for number in range(pictures):
        which = (picture == number).nonzero().squeeze(1)
        draw, way, amount = texts.noise[number, :3].tolist()
        sums = odds[which].double().cumsum(0)
        word = which[int((sums < draw * sums[-1]).sum().clamp(max=len(which) - 1))]
        rank = maps[word].argsort(descending=True).argsort()  # (N,)
        top = way < TOP_SHARE
        highest = TOP_HIDDEN if top else 1.0
        count = round((LEAST_HIDDEN + (highest - LEAST_HIDDEN) * amount) * places)
        found.append(rank < count if top else rank >= places - count)
    return torch.stack(found)


def cover(model: VLM, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Pixels uint8 (p, 2, 3, side, side), sharp and blurred, to pixels (p, 3, side, side) that are
    blurred in the regions that are ``hidden``, bool (p, N)."""
    side = pixels.shape[-1]
    rows, columns = model.vision.grid
    down, across = (torch.bucketize((torch.arange(side, device=pixels.device) + 0.5) / side,
                                    torch.tensor(edges[1:-1], device=pixels.device), right=True)
                    for edges in model.vision.edges)
    away = hidden.view(-1, rows, columns)[:, down][:, :, across]  # (p, side, side)
    return torch.where(away[:, None], pixels[:, 1], pixels[:, 0])


@torch.no_grad()
def _features(model: VLM, pixels: Tensor) -> Tensor:
    """Features (p, N, C) as they are computed elsewhere: in full precision, few at a time."""
    with torch.autocast(pixels.device.type, enabled=False):
        parts = (scaled_pixels(model, part) for part in pixels.split(4))
        return torch.cat([model.vision.features(part.contiguous(memory_format=torch.channels_last))
                          for part in parts])


def _chances(model: VLM, features: Tensor, texts: TextBatch, real: Tensor,
             learns: bool) -> Tensor:
    """Log-probabilities of what follows at each real place: (tokens, V)."""
    decoder = model.decoder
    prefix, cache = texts.targets[:, :-1], decoder.start(memory_of(model, texts, features))
    hidden = decoder.hidden(prefix, cache)
    copy = decoder.copies(hidden, prefix, cache)
    with torch.set_grad_enabled(learns):
        logits = F.linear(hidden[real], decoder.embedding.weight, decoder.bias)
        if copy is not None:
            return mixed(logits, copy.at(*real.nonzero(as_tuple=True)))
        return logits.float().log_softmax(-1)
