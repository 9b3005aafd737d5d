"""Recipes: the settings of a run, or of several that follow each other, in a TOML file.

    data = ["pictures"]
    from = "checkpoints/vitdemo-small"
    out = "runs/mine"
    steps = 300

With `[[stage]]` tables there are several runs: what stands above them counts for all, each has a
`name`, writes to OUT/NAME and starts from the one before it. A stage with `mean = {a = 0.25,
b = 0.75}` trains nothing; it writes the weighted mean of those stages.
"""

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitdemo.errors import ConfigError

PATHS = ("data", "from", "out", "cache", "also_evaluate")
_LISTS = ("data", "also_evaluate")
_ONLY_FLAGS = ("recipe", "resume", "accept_changes", "forecast")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}


@dataclass(frozen=True)
class Stage:
    """One run of a recipe: its name, what the recipe says of it, and of which stages it is the
    mean, if it is one."""

    name: str
    values: dict[str, Any]
    mean: dict[str, float] = field(default_factory=dict)


def read(file: Path, known: Mapping[str, Any]) -> list[Stage]:
    """The stages of a recipe. ``known``: every key that may stand in it, with its default.

    Raises:
        ConfigError: it cannot be read, or a key or a value in it is wrong.
    """
    content = _load(file)
    tables = content.pop("stage", None)
    common = _checked(content, known, file, "")
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
        stages.append(Stage(name, {**common, **_checked(table, known, file, f" in stage {name}")},
                            _mean(mean, before, file, name)))
    return stages


def merge(stages: Sequence[Stage], given: Mapping[str, Any],
          defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All values of each stage: the command line (``given``) over the recipe over the defaults."""
    merged: list[dict[str, Any]] = []
    for stage in stages:
        values = {**defaults, **{key: value for key, value in stage.values.items()
                                 if key != "from"}}
        if "from" in stage.values:
            values["start"] = stage.values["from"]
        values.update(given, stage=stage.name, given={*stage.values, *given})
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


def _checked(table: Mapping[str, Any], known: Mapping[str, Any], file: Path,
             where: str) -> dict[str, Any]:
    """The values of a table as the settings want them."""
    return {key: _value(key, value, known, f"{file}: {key}{where}")
            for key, value in table.items()}


def _value(key: str, value: Any, known: Mapping[str, Any], what: str) -> Any:
    if key in _ONLY_FLAGS:
        raise ConfigError(f"{what} belongs on the command line, as --{key.replace('_', '-')}.")
    if key not in known:
        near = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "see --help for all settings."
        raise ConfigError(f"{what} is no setting; {hint}")
    if key in _LISTS:
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not all(isinstance(x, str) for x in several):
            raise ConfigError(f"{what} is {value!r}; it must be a folder in quotes, or a list of "
                              "such.")
        return [Path(x) for x in several]
    kind = str if key in PATHS else type(known[key])
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise ConfigError(f"{what} is {value!r}; it must be {_KINDS[kind]}.")
    return Path(value) if key in PATHS else kind(value)


def _mean(mean: Any, before: Sequence[str], file: Path, name: str) -> dict[str, float]:
    if not isinstance(mean, dict) or not all(type(x) in (int, float) for x in mean.values()):
        raise ConfigError(f"{file}: mean in stage {name} is {mean!r}; write the names of stages "
                          "before it with their shares: {a = 0.25, b = 0.75}.")
    for part in mean:
        if part not in before:
            raise ConfigError(f"{file}: mean in stage {name} names {part!r}, which is no stage "
                              f"before it ({', '.join(before) or 'there is none'}).")
    return mean
