"""The models that `experiments` compares: begun alike in all that they share."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from vitdemo.config import FUSIONS, ModelConfig
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import Checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM

_BACKBONE = "vision.backbone."
_KEPT = (_BACKBONE, "text.")  # parts that come pretrained; the others begin anew
# The ViT that is trained from nothing, for each size of the model.
VITS = {"tiny": "test_vit", "small": "vit_tiny_patch16_224", "base": "vit_small_patch16_224"}
# What the backbone does, and the flags of `train.finetune` for it. All but the first read pixels
# and crop them anew in each step.
BACKBONES: dict[str, tuple[str, ...]] = {
    "cached": (),
    "frozen": ("--train", "full", "--train-pattern", r"(?!vision\.backbone\.).+"),
    "fine-tuned": ("--train", "full", "--backbone-rate", "0.1"),
    "vit-from-scratch": ("--train", "full", "--backbone-rate", "1"),
}


@dataclass(frozen=True)
class Variant:
    """One model of a comparison, and how it is trained."""

    fusion: str = FUSIONS[0]  # one of `FUSIONS`
    modulation: bool = True  # the instruction scales and shifts the picture's tokens
    alignment: bool = True  # the contrastive loss, and the match loss that needs it, are on
    backbone: str = "cached"  # one of `BACKBONES`

    @property
    def name(self) -> str:
        """As in "concat-no-modulation" or "backbone-frozen"."""
        if self.backbone != "cached":
            return f"backbone-{self.backbone}"
        return self.fusion + "-no-modulation" * (not self.modulation) + \
            "-no-alignment" * (not self.alignment)

    @property
    def flags(self) -> tuple[str, ...]:
        """For `train.finetune`."""
        without = () if self.alignment else ("--loss-contrastive", "0", "--loss-match", "0")
        return (*BACKBONES[self.backbone], *without)


_FUSED = tuple(Variant(fusion, modulation, alignment) for fusion in FUSIONS
               for modulation in (True, False) for alignment in (True, False))
_SEEN = tuple(Variant(backbone=backbone) for backbone in BACKBONES if backbone != "cached")
GRID = {variant.name: variant for variant in (*_FUSED, *_SEEN)}
# The four ways with everything, and the default one with each part left out; and the backbones.
COMPARISONS = {
    "fusion": tuple(variant.name for variant in _FUSED if variant.fusion == FUSIONS[0]
                    or (variant.modulation and variant.alignment)),
    "backbone": tuple(variant.name for variant in _SEEN),
}


def reshaped(config: ModelConfig, picture_size: int = 0, width: int = 0) -> ModelConfig:
    """The shape that all variants have: without a region head, whose losses steer the attention,
    and concat and linear have none to steer. Of another ``width`` (0: its own) it is narrower
    everywhere, with two layers to read and two to write, and learns more in little time.

    Raises:
        ConfigError: a size cannot be used.
    """
    if picture_size and picture_size < 32:
        raise ConfigError(f"--picture-size is {picture_size}; it must be at least 32 pixels.")
    if width < 0 or width % 32:
        raise ConfigError(f"--width is {width}; it must be a multiple of 32.")
    if width:
        config = dataclasses.replace(
            config, width=width, embedding_width=width, heads=width // 32, text_heads=width // 32,
            text_layers=2, decoder_layers=2)
    return dataclasses.replace(config, regions=False,
                               picture_size=picture_size or config.picture_size)


def save_start(start: Checkpoint, variant: Variant, folder: Path, seed: int = 0,
               picture_size: int = 0, width: int = 0) -> None:
    """Write the checkpoint that a variant is trained from; see `reshaped` for the sizes.

    Backbone (but for a ViT from scratch) and, at the same width, the text encoder are those of
    ``start``; everything else is drawn from the seed, and what two variants have in common begins
    with the same numbers in both.

    Raises:
        CheckpointError: the folder cannot be written.
        ConfigError: a size cannot be used.
    """
    config = reshaped(start.model.config, picture_size, width)
    whole = _fresh(dataclasses.replace(config, fusion=FUSIONS[0], modulation=True), seed)
    new_eyes = variant.backbone == "vit-from-scratch"
    model = _fresh(dataclasses.replace(
        config, fusion=variant.fusion, modulation=variant.modulation,
        backbone=VITS[config.size] if new_eyes else config.backbone), seed)
    own = model.state_dict()
    kept = {name: value for name, value in start.model.state_dict().items()
            if name.startswith(_KEPT if config.width == start.model.config.width
                               else _BACKBONE)}
    for given in (whole.state_dict(), kept):
        own |= {name: value for name, value in given.items()
                if name in own and own[name].shape == value.shape
                and not (new_eyes and name.startswith(_BACKBONE))}
    model.load_state_dict(own)
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
