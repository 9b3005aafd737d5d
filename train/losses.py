"""The losses: what the model is trained to do. Shapes as in `mixture` and `vlm`."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from train.cross_entropy import linear_cross_entropy
from train.mixture import PairBatch, StepBatch, TextBatch
from vitdemo.models.vlm import VLM


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


def keep_some(tokens: Tensor, share: float) -> Tensor:
    """A random share of each picture's tokens, in place of dropout: (P, N, D) to (P, n, D)."""
    pictures, count, width = tokens.shape
    kept = max(1, round(count * share))
    if kept >= count:
        return tokens
    order = torch.rand(pictures, count, device=tokens.device).argsort(1)[:, :kept]
    return tokens.gather(1, order[..., None].expand(-1, -1, width))


def text_loss(model: VLM, batch: TextBatch, config: LossConfig) -> Tensor:
    """Mean negative log-likelihood of the next token: -log p(w_t | w_<t, picture, instruction)."""
    tokens = keep_some(model.vision.tokens(batch.features), config.kept_tokens)
    words, z = model.encode_text(batch.instruction, batch.instruction_mask)
    which = batch.instruction_of
    memory = model.fuse(tokens, words[which], batch.instruction_mask[which], z[which])
    decoder = model.decoder
    hidden = decoder.hidden(batch.targets[:, :-1], decoder.start(memory))
    real = batch.target_mask[:, 1:]
    states = F.dropout(hidden[real], decoder.dropout, decoder.training)  # (tokens, D)
    smoothing = config.smoothing if model.training else 0.0
    return linear_cross_entropy(states, decoder.embedding.weight, decoder.bias,
                                batch.targets[:, 1:][real], smoothing)


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
    tokens = keep_some(model.vision.tokens(batch.features), config.kept_tokens)
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
    if batch.captions is not None and config.caption:
        losses["caption"] = text_loss(model, batch.captions, config)
    if batch.questions is not None and config.question:
        losses["question"] = text_loss(model, batch.questions, config)
    if batch.pairs is not None and config.contrastive:
        losses["contrastive"], losses["match"] = pair_losses(model, batch.pairs, config)
    weights = {"caption": config.caption, "question": config.question,
               "contrastive": config.contrastive, "match": config.match}
    losses["loss"] = sum((weights[name] * value for name, value in losses.items()),
                         start=torch.zeros(()).to(next(iter(losses.values()))))
    return losses


