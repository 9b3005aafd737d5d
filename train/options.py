"""How settings are declared: a default, the line that --help shows, and what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from vitdemo.errors import ConfigError

T = TypeVar("T")


def option(default: T, text: str, *, above: float | None = None, least: float | None = None,
           below: float | None = None, one_of: Sequence[str] = ()) -> T:
    """A field of a class of `Options`: it must be above, at least, below, or one of these."""
    allowed = {"above": above, "least": least, "below": below, "one_of": one_of}
    return cast("T", field(default=default, metadata={"text": text, **allowed}))


@dataclass(frozen=True)
class Options:
    """Settings that look at their values themselves; every field is a flag of its name.

    Raises:
        ConfigError: a value is not allowed.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            value, said = getattr(self, each.name), _wrong(getattr(self, each.name), each.metadata)
            if said:
                raise ConfigError(f"{each.name} is {value!r}; it must be {said}.")


def _wrong(value: Any, allowed: Any) -> str:
    above, least, below, one_of = (allowed.get(key) for key in ("above", "least", "below",
                                                                "one_of"))
    if one_of and value not in one_of:
        return f"{', '.join(one_of[:-1])} or {one_of[-1]}"
    if above is not None and not value > above:
        return f"above {above:g}"
    if least is not None and below is not None and not least <= value < below:
        return f"at least {least:g} and below {below:g}"
    if least is not None and not value >= least:
        return f"{least:g} or above"
    return ""
