"""Recipes: the settings of a run, or of several that follow each other, in a TOML file.

    data = ["pictures"]
    from = "checkpoints/vitdemo-small"
    out = "runs/mine"
    steps = 300

With `[[stage]]` tables there are several runs: what stands above them counts for all, each has a
`name`, writes to OUT/NAME and starts from the one before it. A stage with `mean = {a = 0.25,
b = 0.75}` trains nothing; it writes the weighted mean of those stages (Wortsman et al. 2022, "Model
soups").
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint

_ONLY_FLAGS = ("recipe", "resume", "accept_changes")


@dataclass(frozen=True)
class Stage:
    """One run of a recipe: its name, what the recipe says of it, and of which stages it is the
    mean, if it is one."""

    name: str
    values: dict[str, Any]
    mean: dict[str, float] = field(default_factory=dict)


def read(file: Path, parsed: Callable[[Sequence[str]], dict[str, Any]]) -> list[Stage]:
    """The stages of a recipe. ``parsed`` gives the values of a command line, and raises
    `ConfigError` where one is wrong: a recipe's keys are its flags, with _ for -.

    Raises:
        ConfigError: it cannot be read, or a key or a value in it is wrong.
    """
    content = _load(file)
    tables = content.pop("stage", None)
    common = _values(content, file, "", parsed)
    if tables is None:
        return [Stage("", common)]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{file}: write each stage under a line [[stage]].")
    stages: list[Stage] = []
    for number, table in enumerate(tables, start=1):
        name, mean = table.pop("name", None), table.pop("mean", {})
        if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
            raise ConfigError(f"{file}: stage {number} needs a name, which is also that of its "
                              f"folder; this one is {name!r}.")
        before = [stage.name for stage in stages]
        if name in before:
            raise ConfigError(f"{file}: two stages have the name {name}.")
        for key in ("out", *(("from",) if stages else ())):
            if key in table:
                raise ConfigError(f"{file}: {key} in stage {name} has no meaning; a stage starts "
                                  "from the one before it and writes to OUT/NAME.")
        stages.append(Stage(
            name, {**common, **_values(table, file, f", stage {name}", parsed)},
            _mean(mean, before, file, name)))
    return stages


def merge(stages: Sequence[Stage], given: Mapping[str, Any],
          defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All values of each stage: the command line (``given``) over the recipe over the defaults."""
    merged: list[dict[str, Any]] = []
    for stage in stages:
        values = {**defaults, **stage.values, **given, "stage": stage.name,
                  "given": {*stage.values, *given}}
        out = values.get("out")
        if merged:
            values["start"] = merged[-1]["out"]
        if stage.name and out is not None:
            values["out"] = out / stage.name
        values["mean"] = {out / name: share for name, share in stage.mean.items()} if out else {}
        merged.append(values)
    return merged


def _load(file: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError as error:
        raise ConfigError(f"--recipe needs Python 3.11 or newer; this is "
                          f"{sys.version_info.major}.{sys.version_info.minor}.") from error
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the recipe {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"the recipe {file} is not TOML: {error}.") from error


def _values(table: Mapping[str, Any], file: Path, where: str,
            parsed: Callable[[Sequence[str]], dict[str, Any]]) -> dict[str, Any]:
    """The values of a table, as the command line would have them."""
    line: list[str] = []
    for key, value in table.items():
        flag = f"--{key.replace('_', '-')}"
        if key in _ONLY_FLAGS:
            raise ConfigError(f"{file}{where}: {key} belongs on the command line, as {flag}.")
        for each in value if isinstance(value, list) else [value]:
            line += [] if each is False else [flag] if each is True else [f"{flag}={each}"]
    try:
        return parsed(line)
    except ConfigError as error:
        raise ConfigError(f"{file}{where}: {error}.") from error


def _mean(mean: Any, before: Sequence[str], file: Path, name: str) -> dict[str, float]:
    if not isinstance(mean, dict) or not all(type(x) in (int, float) for x in mean.values()):
        raise ConfigError(f"{file}: mean in stage {name} is {mean!r}; write the names of stages "
                          "before it with their shares: {a = 0.25, b = 0.75}.")
    for part in mean:
        if part not in before:
            raise ConfigError(f"{file}: mean in stage {name} names {part!r}, which is no stage "
                              f"before it ({', '.join(before) or 'there is none'}).")
    return mean


def mean_of(parts: Mapping[Path, float], out: Path, weights: str = "float16") -> None:
    """Write the mean of checkpoints, each with its share, to ``out``, its ``weights`` as int8,
    float16 or float32.

    The last one gives the shape. A weight that some of them lack, that of a region head say, is the
    mean over those that have it.

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
        if value.is_floating_point() and whole > 0:
            value = sum((other * (share / whole) for other, share in having),
                        start=value.new_zeros(value.shape))
        mixed[name] = value
    last.model.load_state_dict(mixed)
    meta = {**last.meta, "name": out.name,
            "averaged": {folder.name: share for folder, share in parts.items()}}
    save_checkpoint(out, last.model, last.tokenizer, meta, weights)
