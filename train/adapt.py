"""What of the model is trained, how fast and how exactly, and what it is given before that."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train.settings import RunSettings, Settings
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import Checkpoint
from vitdemo.models.vlm import VLM

_BACKBONE = "vision.backbone."
_ADAPTER = "default"
LORA_RANK = 8  # width of the additions
# Learning rates, as shares of that of new parts:
GATE_RATE = 20.0  # of the gates, which start at 0, where they hardly learn
REGION_RATE = 2.5  # of the region head
EMBEDDING_RATE = 0.3  # of the text encoder's token table, at least


def prepare(model: VLM, config: RunSettings) -> None:
    """Make trainable what ``config.train`` and ``config.train_pattern`` say, in place.

    lora: every linear map outside the backbone gets an addition of rank `LORA_RANK` (Hu et al.
    2022, eq. 3), which starts at 0; nothing else is trained.

    Raises:
        ConfigError: lora is asked for and peft is not installed, or nothing is left to train.
    """
    fixed: tuple[str, ...] = () if config.train == "full" else (_BACKBONE,)
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


def grow(start: Checkpoint, picture_size: int = 0, region_head: bool = False,
         word_evidence: bool = False, querybank: int = 0) -> Checkpoint:
    """The checkpoint with its model at another picture size (0: its own), with a region head, with
    a match head that weighs words one by one, and with a bank for so many pictures and texts (0: as
    many as it has).

    Weights that were there stay. A new region head starts from the text encoder's token table and,
    for the regions, from the projection of the picture tokens; words weigh nothing at first.

    Raises:
        ConfigError: the size is not one the backbone can take, or there is no region head whose
            words could be weighed.
    """
    old = start.model
    regions = old.config.regions or region_head
    if word_evidence and not regions:
        raise ConfigError("--word-evidence weighs what a region head finds, and this checkpoint "
                          "has none; add --region-head.")
    config = dataclasses.replace(old.config, picture_size=picture_size or old.config.picture_size,
                                 regions=regions, evidence=old.config.evidence or word_evidence,
                                 querybank=querybank or old.config.querybank)
    if config == old.config:
        return start
    if config.picture_size < 32:
        raise ConfigError(f"--picture-size is {picture_size}; it must be at least 32 pixels.")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VLM(config)
    state = {name: value for name, value in old.state_dict().items()
             if not name.startswith("querybank.") or value.shape == model.state_dict()[name].shape}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith(("region_head.", "evidence.", "querybank."))
                                  for name in missing)
    head = model.region_head
    if head is not None and not old.config.regions:
        with torch.no_grad():
            head.word_embedding.weight.copy_(model.text.token_embedding.weight)
            torch.nn.init.constant_(head.rarity.weight, -6.0)
    if model.names is not None:
        model.names.learn_forms(start.tokenizer)
    return dataclasses.replace(start, model=model.eval())


_CPU_PRODUCTS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # by torch's names


def settled(settings: Settings) -> Settings:
    """The settings with a word in place of "auto"."""
    if settings.run.mixed_precision != "auto":
        return settings
    chosen = "bf16" if multiplies_bf16() else "no"
    return dataclasses.replace(
        settings, run=settings.run.model_copy(update={"mixed_precision": chosen}))


def multiplies_bf16() -> bool:
    """Whether the device that a run would take has products of bf16 numbers.

    A processor without them does each number by hand: 60 times slower than in float32, measured on
    one with AVX2.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.mps.is_available():
        return False
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer releases
    return any(known.get(name, False) for name in _CPU_PRODUCTS)


def depthwise_in_float32(model: nn.Module) -> None:
    """Let depthwise convolutions compute in float32 under autocast, in place.

    They multiply little and have no fast bf16 way back on a processor: the last two stages of
    EfficientNet-Lite2 with their gradients took 33 ms a picture so, 96 with all in bf16, and 56
    with all in float32 (one core with AMX).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = functools.partial(_in_float32, module.forward)  # type: ignore


def _in_float32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())
