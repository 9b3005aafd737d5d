"""The catalogue: every sentence that a person reads, by its key, in each language.

`phrase` words a key in the current language, which is that of the visitor while a page is built or
a handler runs, that of the terminal in the command line, and English everywhere else. How to add a
sentence, or a language, is told in docs/texts.md.
"""

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT", "LANGUAGES", "Message", "as_json", "best_language", "catalogue",
           "from_json", "joined", "language", "listed", "phrase", "section", "speaking"]

DEFAULT = "en"
_FOLDER = Path(__file__).parent
# Codes of the languages, the default one first.
LANGUAGES = (DEFAULT, *sorted(file.stem for file in _FOLDER.glob("*.toml")
                              if file.stem != DEFAULT))
_PLURAL = {"one", "other"}
_current: ContextVar[str] = ContextVar("language", default=DEFAULT)

Sentence = str | Mapping[str, str]  # one text, or {"one": ..., "other": ...} by the value `count`


class Message:
    """A key and its values, to be worded where it is shown: ``str`` does, in the language that is
    current then. A value may be a message itself."""

    def __init__(self, key: str, /, **values: object) -> None:
        self.key, self.values = key, values

    def __str__(self) -> str:
        return phrase(self.key, **self.values)

    def __repr__(self) -> str:
        return f"Message({self.key!r}, {self.values!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.key, self.values) == (other.key, other.values)

    def __hash__(self) -> int:
        return hash(self.key)


def as_json(text: str | Message) -> Any:
    """A sentence as JSON holds it, so that it can be worded later, in any language."""
    if isinstance(text, str):
        return text
    return {"key": text.key, "values": {
        name: value if isinstance(value, int | float) else as_json(
            value if isinstance(value, Message) else str(value))
        for name, value in text.values.items()}}


def from_json(value: Any) -> str | Message:
    """The way back.

    Raises:
        ValueError: it is none, or of a version with other sentences.
    """
    if isinstance(value, str):
        return value
    if not (isinstance(value, dict) and value.get("key") in catalogue(DEFAULT)):
        raise ValueError(value)
    return Message(value["key"], **{
        name: inner if isinstance(inner, int | float) else from_json(inner)
        for name, inner in value["values"].items()})


def language() -> str:
    """The code of the current language, one of `LANGUAGES`."""
    return _current.get()


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Make a language the current one, here and in what is called from here. Another thread begins
    in English."""
    token = _current.set(code)
    try:
        yield
    finally:
        _current.reset(token)


def phrase(key: str, /, **values: object) -> str:
    """The sentence of a key in the current language, with its named values filled in.

    Where it is written in singular and plural, the value ``count`` decides.

    Raises:
        KeyError: there is no such key, or a value is missing: a fault of the program.
    """
    sentence = catalogue(language())[key]
    if not isinstance(sentence, str):
        sentence = sentence["one" if values["count"] == 1 and "one" in sentence else "other"]
    return sentence.format(**values)


@functools.cache
def catalogue(code: str) -> Mapping[str, Sentence]:
    """All sentences of a language by their dotted keys."""
    with open(_FOLDER / f"{code}.toml", "rb") as file:
        return MappingProxyType(dict(_flat(tomllib.load(file))))


def listed(names: Sequence[str], more: int = 0) -> str:
    """“a”, “b” and 3 more: at least one name, and how many are not named."""
    if more:
        return phrase("list.more", first=phrase("list.join").join(names), count=more)
    if len(names) < 2:
        return "".join(names)
    return phrase("list.and", first=phrase("list.join").join(names[:-1]), last=names[-1])


def joined(sentences: Iterable[str]) -> str:
    """Whole sentences, one after the other; those that are empty left out."""
    return phrase("list.sentences").join(filter(None, sentences))


def section(prefix: str) -> dict[str, Sentence]:
    """The sentences of the current language whose keys begin with ``prefix`` and a dot, as
    JavaScript is fed with them."""
    return {key: sentence if isinstance(sentence, str) else dict(sentence)
            for key, sentence in catalogue(language()).items() if key.startswith(f"{prefix}.")}


def best_language(wanted: str) -> str:
    """The language for a list as browsers and terminals send it, best first: "zh-CN,zh;q=0.9",
    "zh_CN.UTF-8"; the default one where none of it is there."""
    weighed = []
    for place, part in enumerate(wanted.split(",")):
        name, _, weight = part.strip().partition(";q=")
        code = name.replace("_", "-").partition("-")[0].lower()
        if code in LANGUAGES:
            weighed.append((-_number(weight), place, code))
    return min(weighed)[2] if weighed and min(weighed)[0] < 0 else DEFAULT


def _number(weight: str) -> float:
    try:
        return float(weight or 1)
    except ValueError:
        return 0.0


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Sentence]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield prefix + name, value
        elif isinstance(value, dict) and value.keys() <= _PLURAL:
            yield prefix + name, MappingProxyType(value)
        else:
            assert isinstance(value, dict), f"{prefix + name} is neither a text nor a table"
            yield from _flat(value, f"{prefix}{name}.")
