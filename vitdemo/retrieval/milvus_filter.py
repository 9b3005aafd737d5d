"""Conditions as Milvus writes them. No field of its older servers may be empty, so that a value
that is not known is kept as one that no picture has."""

import json
import math

from vitdemo.retrieval.base import FIELDS, Condition

WHOLE_NUMBERS = 2**62  # below this; the server's own limit is twice as far
NOTHING: dict[type, str | int | float] = {str: "\0", int: -WHOLE_NUMBERS, float: -1e300}
NEVER = 'id in []'
_LAST = "\U0010ffff"


def to_expression(condition: Condition) -> str:
    """A condition, not "contains", as a boolean expression. An unknown value never fits."""
    name, kind = condition.field, FIELDS[condition.field]
    known = f"{name} != {_literal(NOTHING[kind])}"
    if condition.operator == "starts_with":
        first = str(condition.value)
        rest = f" and {name} < {_literal(first + 4 * _LAST)}"
        return f"({known} and {name} >= {_literal(first)}{rest})"
    if isinstance(condition.value, tuple):
        values = [one for one in condition.value if kind is str or _fits(one, kind)]
        listed = ", ".join(_literal(one if kind is str else kind(one)) for one in values)
        return f"({known} and {name} in [{listed}])" if values else NEVER
    if kind is str:
        return f"({known} and {name} {_sign(condition.operator)} {_literal(condition.value)})"
    return _number(condition, kind, known)


def _number(condition: Condition, kind: type, known: str) -> str:
    name, operator, value = condition.field, condition.operator, float(condition.value)  # type: ignore[arg-type]
    if math.isinf(value) or abs(value) >= WHOLE_NUMBERS and kind is int:
        fits = operator == "!=" or operator[0] == ("<" if value > 0 else ">")
        return f"({known})" if fits else NEVER
    if kind is float:
        return f"({known} and {name} {_sign(operator)} {value!r})"
    if value != int(value):  # a whole number is compared with whole numbers only
        if operator in ("=", "!="):
            return NEVER if operator == "=" else f"({known})"
        operator, value = (">=", math.ceil(value)) if operator[0] == ">" else \
            ("<=", math.floor(value))
    return f"({known} and {name} {_sign(operator)} {int(value)})"


def _fits(value: str | int | float, kind: type) -> bool:
    """Whether a field of this kind can have this number at all."""
    number = float(value)
    return math.isfinite(number) and (kind is float or (number == int(number)
                                                        and abs(number) < WHOLE_NUMBERS))


def _sign(operator: str) -> str:
    return "==" if operator == "=" else operator


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
