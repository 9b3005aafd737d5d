"""The models that `experiments` compares: one way of fusing each, all else begun alike."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from vitdemo.config import FUSIONS, ModelConfig
from vitdemo.models.checkpoint import Checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM

_KEPT = ("vision.backbone.", "text.")  # parts that come pretrained; the others begin anew


@dataclass(frozen=True)
class Variant:
    """One model of the comparison, and how it is trained."""

    fusion: str  # one of `FUSIONS`
    modulation: bool = True  # the instruction scales and shifts the picture's tokens
    alignment: bool = True  # the contrastive loss, and the match loss that needs it, are on

    @property
    def name(self) -> str:
        """As in "concat-no-modulation"."""
        return self.fusion + "-no-modulation" * (not self.modulation) + \
            "-no-alignment" * (not self.alignment)


GRID = {variant.name: variant for variant in (
    Variant(fusion, modulation, alignment) for fusion in FUSIONS
    for modulation in (True, False) for alignment in (True, False))}
# The four ways with everything, and the default one with each part left out.
CHOSEN = tuple(name for name, variant in GRID.items()
               if variant.fusion == FUSIONS[0] or (variant.modulation and variant.alignment))


def save_start(start: Checkpoint, variant: Variant, folder: Path, seed: int = 0) -> None:
    """Write the checkpoint that a variant is trained from.

    Backbone and text encoder are those of ``start``; everything else is drawn from the seed, and
    what two variants have in common begins with the same numbers in both. No region head: its
    losses steer the attention, and concat and linear have none to steer.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    config = dataclasses.replace(start.model.config, regions=False)
    whole = _fresh(dataclasses.replace(config, fusion=FUSIONS[0], modulation=True), seed)
    model = _fresh(dataclasses.replace(config, fusion=variant.fusion,
                                       modulation=variant.modulation), seed)
    own = model.state_dict()
    common = {name: value for name, value in whole.state_dict().items() if name in own}
    given = {name: value for name, value in start.model.state_dict().items()
             if name.startswith(_KEPT)}
    model.load_state_dict({**own, **common, **given})
    meta = {"name": variant.name, "step": 0, "sources": start.meta.get("sources", [])}
    save_checkpoint(folder, model, start.tokenizer, meta, weights="float32")


def _fresh(config: ModelConfig, seed: int) -> VLM:
    """Random weights; the instruction head begins as what the text encoder says, where it can."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VLM(config)
    head = model.instruction_head.out
    if head.in_features == head.out_features:
        torch.nn.init.eye_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return model
