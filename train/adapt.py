"""What of the model is trained, and how fast: all but the backbone, additions (LoRA), or all."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from train.data.features import early_names
from train.settings import RunSettings
from vitdemo.errors import ConfigError
from vitdemo.models.vlm import VLM

_BACKBONE = "vision.backbone."
_ADAPTER = "default"
LORA_RANK = 8  # width of the additions
# Learning rates, as shares of that of new parts:
GATE_RATE = 20.0  # of the gates, which start at 0, where they hardly learn
REGION_RATE = 2.5  # of the region head
EMBEDDING_RATE = 0.3  # of the text encoder's token table, at least


def prepare(model: VLM, config: RunSettings) -> None:
    """Make trainable what ``config.train``, ``config.backbone_stage`` and
    ``config.train_pattern`` say, in place.

    lora: every linear map outside the backbone gets an addition of rank `LORA_RANK` (Hu et al.
    2022, eq. 3), which starts at 0; nothing else is trained.

    Raises:
        ConfigError: lora is asked for and peft is not installed, or nothing is left to train.
    """
    stage = config.backbone_stage
    if stage and stage >= model.vision.stages:
        raise ConfigError(f"backbone_stage is {stage}; " + (
            f"it must be below {model.vision.stages} for {model.config.backbone}."
            if model.vision.stages else f"{model.config.backbone} cannot be parted into stages, "
            "so it must be 0."))
    fixed: tuple[str, ...] = () if config.train == "full" else (_BACKBONE,)
    if stage:
        fixed = tuple(_BACKBONE + name for name in early_names(stage))
    for name, parameter in model.named_parameters():
        kind = not name.startswith(fixed)
        parameter.requires_grad_(kind and (not config.train_pattern or
                                           re.fullmatch(config.train_pattern, name) is not None))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"train_pattern is {config.train_pattern!r}, which matches nothing that "
                          f"--train {config.train} trains; a name is matched whole, as in "
                          r"decoder\.blocks\.0\.cross\.query\.weight.")
    if config.train != "lora":
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("--train lora needs the package peft; install what training needs with: "
                          "pip install -r requirements-train.txt") from error
    names = [name for name, module in model.named_modules()
             if isinstance(module, nn.Linear) and not name.startswith(_BACKBONE)]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        inject_adapter_in_model(LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK,
                                           target_modules=names), model)


def plain(model: VLM) -> VLM:
    """The model with plain weights: additions are merged into a copy; without any, itself."""
    state: dict[str, Tensor] = {}
    merged = False
    for name, value in model.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = value
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            state[f"{name}.weight"] = state[f"{name}.weight"] + module.get_delta_weight(_ADAPTER)
            merged = True
    if not merged:
        return model
    copy = VLM(model.config)
    copy.load_state_dict(state)
    return copy.eval()


def parameter_groups(model: VLM, config: RunSettings) -> list[dict[str, Any]]:
    """Trained parameters by learning rate and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = 1.0
        if name.startswith(_BACKBONE):
            share = config.backbone_rate
        elif name.startswith("text."):
            share = max(config.text_rate, EMBEDDING_RATE * ("token_embedding" in name))
        elif name.startswith("region_head."):
            share = REGION_RATE
        elif name.endswith("_gate"):
            share = GATE_RATE
        decay = config.weight_decay if parameter.dim() > 1 and "embedding" not in name else 0.0
        groups.setdefault((config.learning_rate * share, decay), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay}
            for (rate, decay), found in groups.items()]
