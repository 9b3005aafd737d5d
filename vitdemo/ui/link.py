"""Links that open the app with a task, its text, the name of an example, the viewer's choices and
the settings of a search; never a picture.

    ?task=describe&example=cat&word=cat
    ?task=ask&text=what+is+it%3F&method=rollout&layer=2&head=1
    ?task=find&text=cat+-indoor&after=2024&orientation=portrait

A view is a dict of the parts by their names. What a link leaves out stays as it is; what it holds
and the app does not know is left out, and a sentence names it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from vitdemo.config import LIMITS, Decoding
from vitdemo.errors import ConfigError, StoreError, TextError, shortened
from vitdemo.retrieval.filters import ORIENTATIONS, Filters
from vitdemo.texts import phrase
from vitdemo.ui.controls import FIELDS
from vitdemo.ui.search.state import SIZES
from vitdemo.words import clean_text

# A task in a link -> the tab, and the tab within it.
TASKS = {"describe": ("describe", ""), "ask": ("ask", ""), "find": ("search", "find"),
         "fits": ("search", "fits"), "compare": ("compare", ""), "tour": ("tour", "")}
PLACES = ("examples", "folder", "owners")  # uploads are nobody else's, so no link names them
TEXTS = ("folder", "after", "before", "camera")
PIXELS = ("min_width", "max_width", "min_height", "max_height")
FOREIGN = ("__", "utm_")  # what Gradio and others add to addresses begins with one of these
MAX_INDEX = 1000  # of a layer or a head: no model has as many
MAX_STATED = 10_000  # characters of what a viewer says of itself
MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exact
SHOWN = 40  # characters of a bad value that are repeated to the person
WRONG = (ConfigError, StoreError, TextError)


@dataclass(frozen=True)
class Part:
    """One part of a link: how its text is read, the value at the ``start``, which is left out, and
    how another one is written, where that is not the value itself ("" to leave it out)."""

    read: Callable[[str], Any]
    start: Any = ""
    write: Callable[[Any], Any] = lambda value: value


def known_one(text: str, known: Iterable[str]) -> str:
    """The text, which must be one of these."""
    if text not in known:
        raise ConfigError("link.unknown", known=", ".join(known) or "–")
    return text


def choice(values: Mapping[str, Any], start: Any = "") -> Part:
    """Texts, each with the value that it stands for; other values are not written."""
    texts = {value: text for text, value in values.items()}
    return Part(lambda text: values[known_one(text, values)], start,
                lambda value: texts.get(value, ""))


def counted(value: str) -> int:
    """A place that a link counts from 1, and the program from 0."""
    if not re.fullmatch("[0-9]{1,4}", value) or not 1 <= int(value) <= MAX_INDEX:
        raise ConfigError("link.not_counted")
    return int(value) - 1


def pixels(value: str) -> int:
    """A side of a picture."""
    if not (value.isascii() and value.isdigit() and len(value) < 7):
        raise ConfigError("link.not_pixels")
    return int(value)


def text(value: str) -> str:
    """Lines that a person could have typed."""
    if len(value) > LIMITS.max_text_characters:
        raise TextError("typed.long", what=phrase("link.it"), length=len(value),
                        most=LIMITS.max_text_characters)
    return "\n".join(clean_text(line, phrase("link.it"), may_be_empty=True)
                     for line in value.splitlines())


def _setting(name: str) -> Part:
    """A setting of how words are chosen."""
    start = getattr(Decoding(), name)

    def read(value: str) -> Any:
        try:
            number = type(start)(value)
        except ValueError:
            raise ConfigError("link.not_whole" if isinstance(start, int)
                              else "link.not_a_number") from None
        if name == "seed" and number > MAX_SEED:
            raise ConfigError("link.large", limit=MAX_SEED)
        return number

    return Part(read, start)


def _place(value: Any) -> Any:
    return value + 1 if isinstance(value, int) and value >= 0 else ""


SEARCH: dict[str, Part] = {
    "in": choice({name: name for name in PLACES}),
    **dict.fromkeys(TEXTS, Part(text)),
    **dict.fromkeys(PIXELS, Part(pixels, 0)),
    "orientation": choice({form: form for form in ORIENTATIONS}, "any"),
    "order": choice({"vectors": False}, True),
    "sort": choice({"newest": True}, False),
    "size": choice({str(size): size for size in SIZES}, SIZES[0])}
PARTS: dict[str, Part] = {
    "task": choice({task: task for task in TASKS}), "text": Part(text),
    "language": Part(str), "example": Part(str),
    "word": Part(text), "method": Part(str), "layer": Part(counted, -1, _place),
    "head": Part(counted, -1, _place), **{name: _setting(name) for name in FIELDS}, **SEARCH}


def query_of(view: Mapping[str, Any]) -> str:
    """The part of an address after "?"; what is as it always is at the start is left out."""
    items = {}
    for name, part in PARTS.items():
        value = view.get(name)
        value = value.strip() if isinstance(value, str) else value
        if value not in ("", None, part.start) and (written := part.write(value)) != "":
            items[name] = written
    return urlencode(items)


def read_query(params: Mapping[str, str], languages: Sequence[str], methods: Sequence[str],
               examples: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The view that an address asks for, and one sentence on each part that cannot be had."""
    given = {name: value for name, value in params.items() if not name.startswith(FOREIGN)}
    known = {"language": languages, "method": methods, "example": examples}
    view: dict[str, Any] = {}
    complaints = []
    for name, part in PARTS.items():
        if name in SEARCH and view.get("task") != "find":
            continue
        if not (value := given.pop(name, "")):
            continue
        try:
            read = known_one(value, known[name]) if name in known else part.read(value)
            _check({**view, name: read})
        except WRONG as error:
            complaints.append(phrase("link.setting", name=name, value=shortened(value, SHOWN),
                                     why=shortened(error, 200)))
        else:
            view |= {name: read} if read != "" else {}
    return view, complaints + [phrase("link.other", name=shortened(name, SHOWN))
                               for name in list(given)[:5]]


def _check(view: Mapping[str, Any]) -> None:
    """Raise an error where the values make no sense together."""
    Decoding(**{"min_tokens": 0, **{name: view[name] for name in FIELDS if name in view}})
    Filters(**{name: view[name] for name in (*TEXTS, *PIXELS, "orientation") if name in view})


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
