"""The fields of the tab Search that say what is looked for and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo.retrieval.filters import ORIENTATIONS, Filters
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import Context, clickable_html, picture_input
from vitdemo.ui.link import PIXELS, TEXTS
from vitdemo.ui.search.state import SIZES, Wish
from vitdemo.ui.tabs.describe import first_language

ANY = "any"
# The fields that are settings of a search, in their order.
SETTINGS = ("folder", "after", "before", *PIXELS, "orientation", "camera", "newest", "size",
            "second")
QUERIES = {
    "en": ["something that swims", "a hot drink", "yellow cars", "flying"],
    "zh": ["喝的东西", "黄色的车", "游泳", "天空"],
}


@dataclass(frozen=True)
class Fields:
    """What a person fills in; ``settings`` are by the names of `SETTINGS`, in their order."""

    words: gr.Textbox
    run: gr.Button
    samples: gr.HTML
    picture: Any
    weight: gr.Slider
    settings: dict[str, Any]


def samples_of(context: Context) -> list[str]:
    """Queries to start with, in the page's language, where the model knows it."""
    return QUERIES[first_language(context.engine)]


def query_fields(context: Context) -> tuple[gr.Textbox, gr.Button, gr.HTML, Any]:
    """Lay out the words, the button, queries to start with and the picture."""
    words = gr.Textbox(label=phrase("search.words"), placeholder=phrase("search.words_example"),
                       info=phrase("search.words_about"), elem_id="search-words")
    run = gr.Button(phrase("search.run"), variant="primary", elem_id="search-run")
    samples = clickable_html(markup.chips(samples_of(context), phrase("search.samples")),
                             elem_id="search-samples")
    with gr.Accordion(phrase("search.by_picture"), open=False, elem_id="search-by-picture"):
        picture = picture_input(phrase("search.picture"), height=220, elem_id="search-picture")
    return words, run, samples, picture


def filter_fields(context: Context) -> dict[str, Any]:
    """Lay out what pictures must be like, by the names of `Filters`."""
    fields: dict[str, Any] = {}

    def text(name: str, **settings: Any) -> None:
        fields[name] = gr.Textbox(label=phrase(f"search.only.{name}"), min_width=130,
                                  elem_id=f"search-only-{name}", **settings)

    with gr.Accordion(phrase("search.only.these"), open=False, elem_id="search-filters"):
        text("folder", placeholder="~/Pictures/2024", visible=context.settings.own_folders)
        with gr.Row():
            text("after", placeholder="2024-05-31")
            text("before", placeholder="2024")
        for names in (PIXELS[:2], PIXELS[2:]):
            with gr.Row():
                for name in names:
                    fields[name] = gr.Number(None, label=phrase(f"search.only.{name}"),
                                             precision=0, min_width=130,
                                             elem_id=f"search-{name.replace('_', '-')}")
        with gr.Row():
            choices = [(phrase("search.form.any"), ANY),
                       *((phrase(f"search.form.{form}"), form) for form in ORIENTATIONS)]
            fields["orientation"] = gr.Dropdown(
                choices, value=ANY, label=phrase("search.only.orientation"), filterable=False,
                min_width=130, elem_id="search-orientation")
            text("camera", placeholder="Canon")
    return fields


def expert_fields(context: Context) -> tuple[gr.Slider, dict[str, Any]]:
    """Lay out how much a picture weighs, and how hits are shown."""
    weight = gr.Slider(0.1, 3, 1, step=0.1, label=phrase("search.picture_weight"),
                       elem_id="search-weight")
    size = gr.Dropdown([(str(size), size) for size in SIZES], value=SIZES[0],
                       label=phrase("search.size"), filterable=False, elem_id="search-size")
    second = gr.Checkbox(context.can("match"), label=phrase("search.second"),
                         info=phrase("search.second_about"), visible=context.can("match"),
                         elem_id="search-second")
    return weight, {"size": size, "second": second}


def pixels(value: object) -> int:
    """What stands in a field for a number of pixels, 0 where that is none; see `Filters`."""
    if not isinstance(value, int | float) or value != value:
        return 0
    return int(min(max(value, -1), 10**9))


def filters_of(values: Sequence[Any]) -> Filters:
    """The filters that the fields hold, in the order of `SETTINGS`.

    Raises:
        StoreError: one of them makes no sense.
    """
    given = dict(zip(SETTINGS, values, strict=False))
    wanted: dict[str, Any] = {name: str(given[name] or "").strip() for name in TEXTS}
    wanted |= {name: pixels(given[name]) for name in PIXELS}
    form = given["orientation"]
    return Filters(**wanted, orientation="" if form in (ANY, None) else str(form))


def wish_of(values: Sequence[Any]) -> Wish:
    """How hits are wanted, by the fields in the order of `SETTINGS`."""
    given = dict(zip(SETTINGS, values, strict=True))
    size = given["size"] if given["size"] in SIZES else SIZES[0]
    return Wish(size, bool(given["second"]), bool(given["newest"]))
