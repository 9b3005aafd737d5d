"""The tab Compare: two instructions, pictures, methods or models side by side on one scale."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from cachetools import LRUCache

from vitdemo import viewer
from vitdemo.attention.dependence import first_word
from vitdemo.attention.methods import label_of
from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError, TaskError
from vitdemo.instructions import default_instruction, presets
from vitdemo.preprocess import Picture, open_pictures
from vitdemo.records import LANGUAGES, Caption
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    MODEL,
    Context,
    PictureInput,
    clickable_html,
    compare_output,
    picture_input,
    place_of,
    uploaded,
)
from vitdemo.ui.shown_result import Said, dressed, not_read
from vitdemo.ui.tabs.describe import first_language
from vitdemo.ui.turns import Panel, Turn, Turns

# What can be compared: the fields that belong to it, and where its words can come from.
FIELDS = {"instructions": ("first_instruction", "second_instruction"), "pictures": (),
          "methods": ("first_method", "second_method"), "models": ("model",)}
WORDS = {"instructions": ("each",), "pictures": ("each", "first", "own"),
         "methods": ("first", "own"), "models": ("first", "each", "own")}
# What is asked beside "describe", the first of them that is known.
SECOND = ("colours", "place", "things", "people", "short")
KEPT = 2  # models beside the app's own: each takes memory


@dataclass(frozen=True)
class Choice:
    """What a person wants to compare. ``words`` are "each" side's own description, the "first"
    one's for both, or one's "own" sentence. ``model`` names that of the right side."""

    what: str
    words: str = "each"
    sentence: str = ""
    first_instruction: str = ""
    second_instruction: str = ""
    first_method: str = ""
    second_method: str = ""
    model: str = ""
    language: str = "en"


class Models:
    """Loads second models by name and keeps those used last. Safe to call from several threads."""

    def __init__(self, load: Callable[[str], Engine]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._engines: LRUCache[str, Engine] = LRUCache(KEPT)

    def holds(self, name: str) -> bool:
        """Whether `get` gives it at once."""
        return _tidy(name) in self._engines

    def get(self, name: str) -> Engine:
        """The model of this name: see `vitdemo.backends.registry`.

        Raises:
            CheckpointError: no name, there is no such model, or it cannot be used.
        """
        name = _tidy(name)
        if not name:
            raise CheckpointError("compare.no_model")
        with self._lock:
            if name not in self._engines:
                self._engines[name] = self._load(name)
            return self._engines[name]


def _tidy(name: str) -> str:
    """A name as typed or pasted, without spaces and quotes around it; "~" is the home folder."""
    name = name.strip().strip("\"'").strip()
    return str(expanded(name)) if name.startswith("~") else name


class Comparison(Turns):
    """What one visitor compares: the picture ``taken`` over from Describe, what is ``shown``."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = ""
        self.shown: tuple[Any, ...] = ()


def build_compare(context: Context, tab: gr.Tab, shared: PictureInput) -> None:
    """Lay out the tab and tie its handlers; ``shared`` is the field of Describe, whose picture is
    compared when the tab is opened."""
    kinds = _kinds(context)
    if not kinds:
        return
    with gr.Column(elem_classes="vt-compare"):
        with gr.Row(elem_id="compare-kinds"):
            parts: dict[str, Any] = {"what": gr.Radio(
                [(phrase(f"compare.what.{name}"), name) for name in kinds], value=kinds[0],
                label=phrase("compare.what.label"), show_label=False, elem_id="compare-what")}
            examples = clickable_html(
                markup.thumbnails(context.examples, phrase("compare.examples")),
                visible=bool(context.examples), elem_id="compare-examples")
        with gr.Row(elem_id="compare-fields"):
            _lay_out_fields(context, parts, kinds[0])
        view = compare_output("compare-view")
        with gr.Row(elem_classes="vt-columns vt-field"):  # app.css hides it where a picture is
            pictures = [picture_input(_first_label(kinds[0]), elem_id="compare-left", height=180),
                        picture_input(phrase("compare.right"), elem_id="compare-right", height=180,
                                      visible=kinds[0] == "pictures")]
    with gr.Accordion(phrase("compare.words.label"), open=False, elem_id="compare-more"):
        words = _words(context, kinds[0])
        parts["words"] = gr.Radio([(phrase(f"compare.words.{name}"), name) for name in words],
                                  value=words[0], show_label=False, elem_id="compare-words")
        parts["sentence"] = gr.Textbox(label=phrase("compare.sentence"), max_lines=3,
                                       placeholder=phrase("compare.sentence_example"),
                                       elem_id="compare-sentence")
        run = gr.Button(phrase("tab.compare"), variant="primary", elem_id="compare-run")
    _tie(context, tab, (shared, *pictures), parts, (view, examples, run))


def _lay_out_fields(context: Context, parts: dict[str, Any], kind: str) -> None:
    """The fields for the two sides; those of ``kind`` are seen."""
    engine, sides = context.engine, ("first", "second")
    offered = presets(first_language(engine), engine.info.instructions)
    second = next((offered[name] for name in SECOND if name in offered), "")
    first = default_instruction(first_language(engine))
    for side, value in zip(sides, (first, second), strict=True):
        parts[f"{side}_instruction"] = gr.Dropdown(
            list(offered.values()), value=value, label=phrase(f"compare.{side}_instruction"),
            allow_custom_value=True, visible=kind == "instructions",
            elem_id=f"compare-{side}-instruction")
    methods = [(label_of(name), name) for name in engine.methods]
    for place, side in enumerate(sides):
        name = engine.methods[min(place, len(methods) - 1)] if methods else None
        parts[f"{side}_method"] = gr.Dropdown(
            methods, value=name, label=phrase(f"compare.{side}_method"), filterable=False,
            visible=kind == "methods", elem_id=f"compare-{side}-method")
    parts["model"] = gr.Textbox(
        label=phrase("compare.model"), visible=kind == "models", elem_id="compare-model",
        placeholder="Salesforce/blip-image-captioning-base")


def _tie(context: Context, tab: gr.Tab, pictures: tuple[Any, ...], parts: dict[str, Any],
         rest: tuple[Any, ...]) -> None:
    view, examples, run = rest
    _, left, right = pictures
    load = context.settings.load_model
    models = Models(load) if load is not None and _models_offered(context) else None
    panel = Panel.of(Comparison())
    names = list(parts)

    def start(here: Comparison, turn: Turn, first: str | None, second: str | None, *values: Any
              ) -> Iterator[list[Any]]:
        """Compare; the outputs are the view, both pictures, and the fields as they are seen."""
        # A field that was never touched is None.
        given = {name: value or "" for name, value in zip(names, values, strict=True)}
        pair = given["what"] == "pictures"
        paths = [path or "" for path in ((first, second) if pair else (first,))]
        words = _words(context, given["what"])
        given["words"] = given["words"] if given["words"] in words else words[0]
        updates = _updates(given, words)
        shown_first = gr.update(value=first, label=_first_label(given["what"]))
        shown_second = gr.update(value=second, visible=pair)
        here.shown = ()
        if not all(paths):
            yield [{"hint": phrase("compare.no_picture")}, shown_first, shown_second, *updates]
            return
        choice = Choice(language=first_language(context.engine), **given)
        for shown in _compare(context, models, paths, choice):
            yield [shown, shown_first, shown_second, *updates]
        with here.writing():
            here.shown = tuple(given.values())

    def open_tab(here: Comparison, turn: Turn, shared: str | None, first: str | None,
                 second: str | None, *values: Any) -> Iterator[list[Any]]:
        if shared and shared != here.taken:
            here.taken = first = shared
        elif first and here.shown == tuple(value or "" for value in values):
            return  # it is there already
        yield from start(here, turn, *filled(first, second, *values))

    def change(here: Comparison, turn: Turn, *given: Any) -> Iterator[list[Any]]:
        yield from start(here, turn, *filled(*given))

    def filled(first: str | None, second: str | None, what: str, *values: Any) -> tuple[Any, ...]:
        """The same with examples in the place of pictures that are missing."""
        there = [str(path) for path in context.examples]
        first = first or next(iter(there), None)
        if what == "pictures" and first:
            second = second or next((path for path in there
                                     if Path(path).name != Path(str(first)).name), None)
        return first, second, what, *values

    def example(here: Comparison, turn: Turn, event: gr.EventData, first: str | None,
                second: str | None, *values: Any) -> Iterator[list[Any]]:
        path = str(context.examples[place_of(event, len(context.examples))])
        pair = (first, path) if values[0] == "pictures" and first else (path, second)
        yield from start(here, turn, *pair, *values)

    inputs = [left, right, *parts.values()]
    outputs = [view, left, right, *(parts[name] for name in names[1:])]
    changes = [left.input, left.clear, right.input, right.clear, run.click,
               parts["sentence"].submit,
               *(parts[name].input for name in ("first_instruction", "second_instruction",
                                                "first_method", "second_method")),
               parts["model"].submit]

    def failed(error: Exception, _: tuple[Any, ...]) -> list[Any]:
        return [{"message": str(error)}, *[gr.skip()] * (len(outputs) - 1)]

    panel.act(tab.select, open_tab, [pictures[0], *inputs], outputs, failed, **MODEL)
    panel.act(parts["what"].input, change, inputs, outputs, failed, **MODEL)
    panel.act(changes, start, inputs, outputs, failed, api_name="compare", **MODEL)
    panel.act(examples.click, example, inputs, outputs, failed, **MODEL)


def _first_label(kind: str) -> str:
    return phrase("compare.left" if kind == "pictures" else "picture.label")


def _updates(given: Mapping[str, Any], words: Sequence[str]) -> list[dict[str, Any]]:
    """How the fields but the first are seen with what is chosen, in their order."""
    seen = [gr.update(visible=name in FIELDS[given["what"]])
            for fields in FIELDS.values() for name in fields]
    choices = [(phrase(f"compare.words.{name}"), name) for name in words]
    return [*seen, gr.update(choices=choices, value=given["words"]), gr.skip()]


def _compare(context: Context, models: Models | None, paths: Sequence[str], choice: Choice
             ) -> Iterator[dict[str, Any]]:
    """Payloads of the comparing viewer: the pictures at once, then the maps."""
    photos = open_pictures([uploaded(path) for path in paths])
    photos = [photos[0], photos[-1]]
    engines = [context.engine, context.engine]
    if choice.what == "models" and models is not None:
        if not choice.model.strip():
            yield {"hint": phrase("compare.no_model")}
            return
        if not models.holds(choice.model):
            yield {"busy": True, "hint": phrase("compare.loading")}
        engines[1] = models.get(choice.model)
    if choice.words == "own" and not choice.sentence.strip():
        yield {"hint": phrase("compare.no_sentence")}
        return
    left, right = ({"picture": viewer.display(photo), "writing": "", "name": name}
                   for photo, name in zip(photos, _names(engines, choice), strict=True))
    yield {"busy": True, "left": left, "right": right}
    yield compared(engines, photos, choice)


def compared(engines: Sequence[Engine], photos: Sequence[Picture],
             choice: Choice) -> dict[str, Any]:
    """The payload of the comparing viewer: a left and a right one.

    Raises:
        VitDemoError: one of the models cannot do what is needed; the sentence says which.
    """
    instructions, methods = ("", ""), (choice.first_method,) * 2
    if choice.what == "instructions":
        instructions = (choice.first_instruction, choice.second_instruction)
    if choice.what == "methods":
        methods = (choice.first_method, choice.second_method)
    said: Said | None = choice.sentence if choice.words == "own" else None
    sides: list[dict[str, Any]] = []
    for engine, photo, instruction, method, name in zip(
            engines, photos, instructions, methods, _names(engines, choice), strict=True):
        if choice.words == "each" or said is None:
            said = engine.caption(photo, instruction, choice.language)
        if isinstance(said, Caption) and said.language not in engine.info.languages:
            raise TaskError("compare.other_language", model=engine.info.name,
                            language=LANGUAGES[said.language])
        maps = engine.explain(photo, said, method)
        if not maps:
            raise TaskError("compare.no_words", model=engine.info.name)
        words = dressed(maps, said, said if isinstance(said, str) else said.text)
        same = bool(sides) and sides[0]["texts"][-1]["text"] == words[-1].text
        first = sides[0]["choose"]["word"] if same else first_word(words[-1])
        model = engine.info.behind(words[-1]).name
        sides.append({**viewer.payload(words, photo, model), "choose": {"word": first},
                      "unread": not_read(engine, said) if isinstance(said, str) else "",
                      "name": name, "asks": []})  # nothing here is on a desk to be checked
    return {"left": sides[0], "right": sides[1]}


def _names(engines: Sequence[Engine], choice: Choice) -> list[str]:
    """The headings of the two sides."""
    if choice.what == "instructions":
        return [choice.first_instruction, choice.second_instruction]
    if choice.what == "methods":
        return [label_of(name) for name in (choice.first_method, choice.second_method)]
    if choice.what == "pictures":
        return [phrase("compare.left"), phrase("compare.right")]
    names = [engine.info.name for engine in engines]
    if names[0] == names[1]:  # the same model before and after training
        names = [f"{engine.info.name} ({engine.info.revision})" for engine in engines]
    return names


def _kinds(context: Context) -> list[str]:
    """What can be compared here, first what the tab begins with."""
    info = context.engine.info
    there = {"instructions": context.can("caption") and any(name in info.instructions
                                                            for name in SECOND),
             "pictures": True, "methods": len(context.engine.methods) > 1,
             "models": _models_offered(context)}
    return [name for name in FIELDS if there[name] and _words(context, name)]


def _models_offered(context: Context) -> bool:
    """A name may be that of a folder, so visitors of others' computers give none."""
    return context.settings.load_model is not None and not context.settings.shared


def _words(context: Context, what: str) -> list[str]:
    """Where the words can come from, as far as the model can."""
    return [name for name in WORDS[what] if context.can("match" if name == "own" else "caption")]
