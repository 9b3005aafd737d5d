"""Links that open the app with a task, its text, the name of an example and the viewer's choices
set; never a picture.

    ?task=describe&example=cat&word=cat
    ?task=ask&text=what+is+it%3F&method=rollout&layer=2&head=1
    ?task=find&text=cat+-indoor&after=2024&orientation=portrait

``layer`` and ``head`` count from 1. What a link leaves out stays as it is; what it holds and the
app does not know is left out, and a sentence names it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from vitdemo.config import LIMITS, Decoding
from vitdemo.errors import ConfigError, TextError, shortened
from vitdemo.texts import phrase
from vitdemo.ui.controls import FIELDS
from vitdemo.ui.search.link import read_search
from vitdemo.words import clean_text

# A task in a link -> the tab, and the tab within it.
TASKS = {"describe": ("describe", ""), "ask": ("ask", ""), "find": ("search", "find"),
         "fits": ("search", "fits"), "compare": ("compare", ""), "tour": ("tour", "")}
FOREIGN = ("__", "utm_")  # what Gradio and others add to addresses begins with one of these
MAX_INDEX = 1000  # of a layer or a head: no model has as many
MAX_STATED = 10_000  # characters of what a viewer says of itself
MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exact
_INDEX = re.compile("[0-9]{1,4}")
SHOWN = 40  # characters of a bad value that are repeated to the person


@dataclass(frozen=True)
class View:
    """What a link sets. ``choice`` is the viewer's: the word as text, method, and layer and head
    counted from 0; ``search`` holds fields of `vitdemo.ui.search.link`."""

    task: str = ""
    text: str = ""
    language: str = ""
    example: str = ""
    decoding: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)


def query_of(view: View) -> str:
    """The part of an address after "?"; what is as it always is at the start is left out."""
    start = Decoding()
    items: dict[str, Any] = {"task": view.task, "text": view.text, "language": view.language,
                             "example": view.example, "word": view.choice.get("word", ""),
                             "method": view.choice.get("method", "")}
    for name in ("layer", "head"):
        place = view.choice.get(name, -1)
        items[name] = place + 1 if isinstance(place, int) and place >= 0 else ""
    items |= {name: value for name, value in view.decoding.items()
              if value != getattr(start, name)}
    items |= view.search
    return urlencode({name: value for name, value in items.items() if value not in ("", None)})


def read_query(params: Mapping[str, str], languages: Sequence[str], methods: Sequence[str],
               examples: Sequence[str] = ()) -> tuple[View, list[str]]:
    """What an address asks for, and one sentence on each part of it that cannot be had."""
    reader = _Reader({name: value for name, value in params.items()
                      if not name.startswith(FOREIGN)})
    task = reader.one_of("task", tuple(TASKS))
    language = reader.one_of("language", languages)
    example = reader.one_of("example", examples)
    choice: dict[str, Any] = {}
    if method := reader.one_of("method", methods):
        choice["method"] = method
    for name in ("layer", "head"):
        if (place := reader.whole(name)) is not None:
            choice[name] = place - 1
    if word := reader.text("word"):
        choice["word"] = word
    text = reader.text("text", many=task == "fits")
    decoding = reader.decoding()
    search, complaints = read_search(reader.params) if task == "find" else ({}, [])
    reader.complaints += complaints
    reader.rest()
    return View(task, text, language, example, decoding, choice, search), reader.complaints


class _Reader:
    """Takes one part of a link after the other, and keeps what cannot be used as sentences."""

    def __init__(self, params: dict[str, str]) -> None:
        self.params = params
        self.complaints: list[str] = []

    def one_of(self, name: str, known: Sequence[str]) -> str:
        value = self.params.pop(name, "")
        if not value or value in known:
            return value
        self._complain("link.unknown", name, value, known=", ".join(known) or "–")
        return ""

    def whole(self, name: str) -> int | None:
        value = self.params.pop(name, "")
        if not value:
            return None
        if _INDEX.fullmatch(value) and 1 <= int(value) <= MAX_INDEX:
            return int(value)
        self._complain("link.not_counted", name, value)
        return None

    def text(self, name: str, many: bool = False) -> str:
        value = self.params.pop(name, "")
        lines = value.splitlines() if many else [value]
        try:
            if len(value) > LIMITS.max_text_characters:
                raise TextError("typed.long", what=phrase("link.it"), length=len(value),
                                most=LIMITS.max_text_characters)
            return "\n".join(clean_text(line, phrase("link.it"), may_be_empty=True)
                             for line in lines)
        except TextError as error:
            self.complaints.append(phrase("link.text", why=error))
            return ""

    def decoding(self) -> dict[str, Any]:
        """The settings of how words are chosen; each is tried on its own."""
        found: dict[str, Any] = {}
        kinds: dict[str, Callable[[str], Any]] = {
            name: type(getattr(Decoding(), name)) for name in FIELDS}
        for name in FIELDS:
            value = self.params.pop(name, "")
            if not value:
                continue
            try:
                found[name] = kinds[name](value)
                Decoding(**{**found, "min_tokens": 0})
                if name == "min_tokens":
                    Decoding(**found)
                if name == "seed" and found[name] > MAX_SEED:
                    raise ConfigError("link.large", limit=MAX_SEED)
            except ValueError:
                found.pop(name, None)
                self._complain("link.not_whole" if kinds[name] is int else "link.not_a_number",
                               name, value)
            except ConfigError as error:
                found.pop(name, None)
                self._complain("link.setting", name, value, why=error)
        return found

    def rest(self) -> None:
        """Whatever is still there is unknown."""
        for name in list(self.params)[:5]:
            self.complaints.append(phrase("link.other", name=_short(name)))

    def _complain(self, key: str, name: str, value: str, **values: object) -> None:
        self.complaints.append(phrase(key, name=name, value=_short(value), **values))


def chosen_of(stated: object) -> dict[str, Any]:
    """What the viewer says it shows ({"said", "method", "layer", "head", ...} as JSON; "said" is
    the word), as far as it makes sense."""
    try:
        found = json.loads(str(stated or "{}")[:MAX_STATED])
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    choice = {name: found[name] for name in ("layer", "head")
              if type(found.get(name)) is int and 0 <= found[name] < MAX_INDEX}
    for name, key in (("method", "method"), ("said", "word")):
        if isinstance(found.get(name), str) and found[name]:
            choice[key] = found[name]
    return choice


def _short(value: str) -> str:
    return shortened(value, SHOWN)
