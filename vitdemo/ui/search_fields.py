"""The fields of the tab Search that say what is looked for and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo.retrieval.filters import ORIENTATIONS, Filters
from vitdemo.ui.finding import SIZES
from vitdemo.ui.parts import Context, picture_input
from vitdemo.ui.search_link import PIXELS, SEARCH, TEXTS, pixels

ANY = "any"


@dataclass(frozen=True)
class Fields:
    """What a person fills in; ``settings`` are in the order of `SEARCH`."""

    words: gr.Textbox
    run: gr.Button
    picture: Any
    weight: gr.Slider
    settings: tuple[Any, ...]

    @property
    def second(self) -> gr.Checkbox:
        """Whether the best hits are looked at again."""
        return self.settings[-1]  # type: ignore[no-any-return]

    @property
    def size(self) -> gr.Dropdown:
        """How many hits a page has."""
        return self.settings[-2]  # type: ignore[no-any-return]

    @property
    def folder(self) -> gr.Textbox:
        """The folder that hits must lie in."""
        return self.settings[0]  # type: ignore[no-any-return]


def query_fields(context: Context) -> Fields:
    """Lay them out."""
    words = gr.Textbox(
        label="Find by words", placeholder="a dog on the beach -people +snow",
        info="A minus takes away what it stands before, a plus adds it: cat -indoor +2 snow. "
             "Quotes hold words together: -\"red ball\".", elem_id="search-words")
    run = gr.Button("Search", variant="primary", elem_id="search-run")
    with gr.Accordion("Find by picture: what looks like this one?", open=False,
                      elem_id="search-by-picture"):
        picture = picture_input("A picture to compare with", height=220, elem_id="search-picture")
        weight = gr.Slider(0.1, 3, 1, step=0.1, label="How much it counts beside the words",
                           elem_id="search-weight")
    with gr.Accordion("Only pictures that …", open=False, elem_id="search-filters"):
        settings = _filter_fields(context)
    with gr.Accordion("How hits are shown", open=False, elem_id="search-shown"):
        settings.append(gr.Dropdown([(str(size), size) for size in SIZES], value=SIZES[0],
                                    label="Hits on a page", filterable=False,
                                    elem_id="search-size"))
        settings.append(gr.Checkbox(
            context.can("match"), label="Look at the best 50 again and put them in a new order",
            info="The model reads your words and the picture together, which takes some "
                 "seconds. Off shows the order without.", visible=context.can("match"),
            elem_id="search-second"))
    return Fields(words, run, picture, weight, tuple(settings))


def _filter_fields(context: Context) -> list[Any]:
    folder = gr.Textbox(label="… lie in this folder", visible=context.settings.own_folders,
                        placeholder="~/Pictures/2024", elem_id="search-in")
    with gr.Row():
        after = gr.Textbox(label="… are from this day on", placeholder="2024-05-31 or 2024",
                           min_width=130, elem_id="search-after")
        before = gr.Textbox(label="… and up to this day", placeholder="2024-06-30 or 2024",
                            min_width=130, elem_id="search-before")
    sizes = []
    for side, name in (("width", "wide"), ("height", "high")):
        with gr.Row():
            sizes.append(gr.Number(None, label=f"… are at least so many pixels {name}",
                                   precision=0, min_width=130, elem_id=f"search-min-{side}"))
            sizes.append(gr.Number(None, label="… and at most", precision=0, min_width=130,
                                   elem_id=f"search-max-{side}"))
    with gr.Row():
        orientation = gr.Dropdown([ANY, *ORIENTATIONS], value=ANY, label="… have this form",
                                  filterable=False, min_width=130, elem_id="search-orientation")
        camera = gr.Textbox(label="… were taken with this camera", placeholder="Canon",
                            min_width=130, elem_id="search-camera")
    return [folder, after, before, *sizes, orientation, camera]


def filters_of(values: Sequence[Any]) -> Filters:
    """The filters that the fields hold, in the order of `SEARCH`.

    Raises:
        StoreError: one of them makes no sense.
    """
    given = dict(zip(SEARCH, values, strict=False))
    wanted: dict[str, Any] = {name: str(given[name] or "").strip() for name in TEXTS}
    wanted |= {name: pixels(given[name]) for name in PIXELS}
    form = given["orientation"]
    return Filters(**wanted, orientation="" if form in (ANY, None) else str(form))
