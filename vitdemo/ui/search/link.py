"""What a link says of a search beside its words: where, which conditions, how it is shown."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import ConfigError, StoreError, TextError, shortened
from vitdemo.retrieval.filters import ORIENTATIONS, Filters
from vitdemo.texts import phrase
from vitdemo.ui.search.state import SIZES
from vitdemo.words import clean_text

PLACES = ("examples", "folder", "owners")  # uploads are nobody else's, so no link names them
TEXTS = ("folder", "after", "before", "camera")
PIXELS = ("min_width", "max_width", "min_height", "max_height")
# The fields of the tab, in their order, behind the one that says where to search.
SEARCH = ("folder", "after", "before", *PIXELS, "orientation", "camera", "newest", "size", "second")
SHOWN = 40  # characters of a bad value that are repeated to the person


def search_of(settings: Sequence[Any]) -> dict[str, Any]:
    """The parts of a link for these fields: where to search, then those of `SEARCH`. What is as at
    the start is left out."""
    where, *values = settings
    fields = dict(zip(SEARCH, values, strict=True))
    found: dict[str, Any] = {"in": where if where in PLACES else ""}
    found |= {name: str(fields[name] or "").strip() for name in ("folder", "after", "before")}
    found |= {name: pixels(fields[name]) or "" for name in PIXELS}
    found["orientation"] = fields["orientation"] if fields["orientation"] in ORIENTATIONS else ""
    found["camera"] = str(fields["camera"] or "").strip()
    found["size"] = "" if fields["size"] == SIZES[0] else fields["size"]
    found["order"] = "" if fields["second"] else "vectors"
    found["sort"] = "newest" if fields["newest"] else ""
    return {name: value for name, value in found.items() if value != ""}


def pixels(value: object) -> int:
    """What stands in a field for a number of pixels, 0 where that is none; see `Filters`."""
    if not isinstance(value, int | float) or value != value:
        return 0
    return int(min(max(value, -1), 10**9))


def read_search(params: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Take what belongs to a search out of a link's parts; gives it in the form of `search_of`, and
    a sentence on each part that cannot be had."""
    found: dict[str, Any] = {}
    complaints: list[str] = []

    def take(name: str) -> str:
        return params.pop(name, "")

    def complain(key: str, name: str, value: str, **values: object) -> None:
        complaints.append(phrase(key, name=name, value=shortened(value, SHOWN), **values))

    for name, known in (("in", PLACES), ("orientation", ORIENTATIONS),
                        ("order", ("vectors",)), ("sort", ("newest",)),
                        ("size", tuple(map(str, SIZES)))):
        if value := take(name):
            if value in known:
                found[name] = int(value) if name == "size" else value
            else:
                complain("link.unknown", name, value, known=", ".join(known))
    for name in (*TEXTS, *PIXELS):
        if not (value := take(name)):
            continue
        try:
            if len(value) > LIMITS.max_text_characters:
                raise TextError("link.long")
            kept: Any = clean_text(value, phrase("link.it"), may_be_empty=True)
            if name in PIXELS:
                if not (value.isascii() and value.isdigit() and len(value) < 7):
                    raise TextError("link.not_pixels")
                kept = int(value)
            Filters(**{key: one for key, one in {**found, name: kept}.items()
                       if key in Filters.__dataclass_fields__})
        except (TextError, StoreError, ConfigError) as error:
            complain("link.setting", name, value, why=shortened(str(error), 200))
        else:
            found[name] = kept
    return found, complaints


def settings_of(search: dict[str, Any], choice: gr.Radio) -> list[Any]:
    """New values for where to search and the fields of `SEARCH`; what a link leaves out is as at
    the start."""
    if not search:
        return [gr.skip()] * (1 + len(SEARCH))
    known = [value for _, value in choice.choices]
    where = search.get("in", "")
    values: dict[str, Any] = {name: search.get(name, "") for name in TEXTS}
    if "folder" not in known:  # others' folders are not searched here
        values["folder"] = ""
    values |= {name: search.get(name) for name in PIXELS}
    values |= {"orientation": search.get("orientation", "any"),
               "newest": search.get("sort") == "newest",
               "size": search.get("size", SIZES[0]), "second": search.get("order") != "vectors"}
    return [where if where in known else gr.skip(), *[values[name] for name in SEARCH]]
