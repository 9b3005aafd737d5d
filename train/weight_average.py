"""The weighted mean of checkpoints (Wortsman et al. 2022, "Model soups"): a stage of a recipe."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint


def mean_of(parts: Mapping[Path, float], out: Path, weights: str = "float16",
            pattern: str = "") -> None:
    """Write the mean of checkpoints, each with its share, to ``out``, its ``weights`` as int8,
    float16 or float32.

    The last one gives the shape, and all weights whose whole name ``pattern`` does not match. A
    weight that some of them lack, that of a region head say, is the mean over those that have it.

    Raises:
        ConfigError: the shares do not add up to 1, or the models do not fit together.
    """
    if not math.isclose(sum(parts.values()), 1, abs_tol=1e-6) or min(parts.values()) < 0:
        raise ConfigError("the shares of a mean must be 0 or above and add up to 1, not to "
                          f"{sum(parts.values()):g}.")
    loaded = [(load_checkpoint(folder), share) for folder, share in parts.items()]
    last = loaded[-1][0]
    mixed = {}
    for name, value in last.model.state_dict().items():
        having = [(found.model.state_dict()[name], share) for found, share in loaded
                  if name in found.model.state_dict()]
        if any(other.shape != value.shape for other, _ in having):
            raise ConfigError(f"the models of a mean do not fit together: {name} has other shapes.")
        whole = sum(share for _, share in having)
        wanted = not pattern or re.fullmatch(pattern, name) is not None
        if wanted and value.is_floating_point() and whole > 0:
            value = sum((other * (share / whole) for other, share in having),
                        start=value.new_zeros(value.shape))
        mixed[name] = value
    last.model.load_state_dict(mixed)
    meta = {**last.meta, "name": out.name,
            "averaged": {folder.name: share for folder, share in parts.items()}}
    save_checkpoint(out, last.model, last.tokenizer, meta, weights)
