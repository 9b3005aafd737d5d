"""The tab Compare: two pictures, two methods or two models side by side on one scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.attention.methods import METHODS
from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import Picture, open_pictures
from vitdemo.records import LANGUAGES, Caption, Explanation
from vitdemo.ui.desk import Said, dressed, not_read
from vitdemo.ui.models import Models
from vitdemo.ui.parts import (
    MODEL,
    QUIET,
    Context,
    clickable_html,
    picture_input,
    place_of,
    thumbnails,
    uploaded,
)
from vitdemo.ui.turns import AT_ONCE, Panel, Turn, Turns

HINT = "Two maps appear here side by side, and where they differ."
WHATS = {"pictures": "Two pictures", "methods": "Two ways to make the map", "models": "Two models"}
WORDS = {"first": "The first one's description, for both", "each": "Each its own description",
         "own": "A sentence of my own"}


@dataclass(frozen=True)
class Choice:
    """What a person wants to compare. ``methods`` are those of the left and the right side,
    ``model`` names the right one where models are compared."""

    what: str
    words: str = "first"
    sentence: str = ""
    language: str = "en"
    methods: tuple[str, str] = ("", "")
    model: str = ""


def build_compare(context: Context) -> None:
    """Lay out the tab and tie its handlers."""
    load = context.settings.load_model
    models = Models(load) if load is not None else None
    whats = [(label, name) for name, label in WHATS.items() if name != "models" or models]
    languages = context.engine.info.languages
    with gr.Row(elem_classes="vt-columns"):
        with gr.Column(scale=1, min_width=300):
            left = picture_input("First picture", elem_id="compare-left", height=220)
            examples = clickable_html(
                thumbnails(context.examples, "Or try one of these photographs"),
                visible=bool(context.examples), elem_id="compare-examples")
        with gr.Column(scale=1, min_width=300):
            what = gr.Radio(whats, value="pictures", label="What to compare",
                            elem_id="compare-what")
            right = picture_input("Second picture", elem_id="compare-right", height=220)
            first, second = _method_fields(context.engine)
            model = gr.Textbox(
                label="Second model: a checkpoint folder, or blip: and a name", visible=False,
                placeholder="blip:Salesforce/blip-image-captioning-base", elem_id="compare-model")
            words = gr.Radio(_word_choices(context, "pictures"), label="Words to compare",
                             value=_word_choices(context, "pictures")[0][1],
                             elem_id="compare-words")
            language = gr.Radio(
                [(LANGUAGES.get(code, code), code) for code in languages], value=languages[0],
                label="Language", visible=len(languages) > 1 and context.can("caption"),
                elem_id="compare-language")
            sentence = gr.Textbox(label="Your sentence", visible=not context.can("caption"),
                                  placeholder="a dog on the beach", elem_id="compare-sentence")
            run = gr.Button("Compare", variant="primary", elem_id="compare-run")
    view = gr.HTML(value={"hint": HINT}, html_template='<div class="vd-compare"></div>',
                   css_template=viewer.styles(), js_on_load=viewer.gradio_compare_script(),
                   apply_default_css=False, elem_id="compare-view")

    def choose(chosen: str) -> list[Any]:
        choices = _word_choices(context, chosen)
        return [gr.update(visible=chosen == "pictures"),
                gr.update(visible=chosen == "methods", value=_second(context.engine)),
                gr.update(visible=chosen == "models"),
                gr.update(choices=choices, value=choices[0][1])]

    what.change(choose, what, [right, second, model, words], **QUIET)
    words.change(lambda chosen: (gr.update(visible=chosen == "own"),
                                 gr.update(visible=chosen != "own" and len(languages) > 1)),
                 words, [sentence, language], **QUIET)
    _tie(context, models, (left, right, examples, run, view),
         [what, words, sentence, language, first, second, model])


def _tie(context: Context, models: Models | None, parts: tuple[Any, ...],
         fields: list[Any]) -> None:
    left, right, examples, run, view = parts
    panel = Panel.of(Turns())

    def compare(turns: Turns, turn: Turn, request: gr.Request, first_path: str | None,
                second_path: str | None, what: str, words: str, sentence: str, language: str,
                first: str, second: str, model: str) -> Iterator[dict[str, Any]]:
        choice = Choice(what, words, sentence, language,
                        (first, second if what == "methods" else first), model)
        paths = [uploaded(first_path, "Choose the first picture.")]
        if what == "pictures":
            paths.append(uploaded(second_path, "Choose the second picture, too."))
        photos = open_pictures(paths)
        photos = [photos[0], photos[-1]]
        yield {"busy": True, "hint": "Looking …"}
        engines = [context.engine, context.engine]
        if what == "models":
            if models is None:
                raise TaskError("This app was not started by you alone, so it loads no other "
                                "models.")
            if not models.holds(model):
                yield {"busy": True, "hint": "Loading the second model …"}
            engines[1] = models.get(model)
        yield compared(engines, photos, choice)

    def example(turns: Turns, turn: Turn, event: gr.EventData, first_path: str | None, what: str
                ) -> Iterator[tuple[Any, ...]]:
        path = str(context.examples[place_of(event, len(context.examples))])
        pair = (gr.skip(), path) if first_path and what == "pictures" else (path, gr.skip())
        yield {"hint": HINT}, *pair

    def swapped(turns: Turns, turn: Turn) -> Iterator[dict[str, Any]]:
        yield {"hint": HINT}

    # A comparison of pictures that are no longer there goes with them.
    panel.act(examples.click, example, [left, fields[0]], [view, left, right],
              lambda *_: gr.skip(), **AT_ONCE)
    panel.act([left.input, left.clear, right.input, right.clear], swapped, [], [view],
              lambda *_: gr.skip(), **AT_ONCE)
    panel.act(run.click, compare, [left, right, *fields], [view],
              lambda error, _: {"message": str(error)}, api_name="compare",
              api_visibility="private", show_progress="minimal", show_progress_on=view, **MODEL)


def compared(engines: Sequence[Engine], photos: Sequence[Picture],
             choice: Choice) -> dict[str, Any]:
    """The payload of the comparing viewer: a left and a right one.

    Raises:
        VitDemoError: one of the models cannot do what is needed; the sentence says which.
    """
    said: list[Said] = []
    for engine, photo in zip(engines, photos, strict=True):
        if choice.words == "own":
            said.append(choice.sentence)
        elif choice.words == "each" or not said:
            said.append(engine.caption(photo, "", choice.language))
        else:
            said.append(said[0])
    names = _names(engines, choice)
    sides = []
    for engine, photo, text, method, name in zip(engines, photos, said, choice.methods, names,
                                                 strict=True):
        if isinstance(text, Caption) and text.language not in engine.info.languages:
            raise TaskError(f"{engine.info.name} does not know the language "
                            f"{LANGUAGES[text.language]}; compare in another one.")
        maps = engine.explain(photo, text, method)
        if not maps:
            raise TaskError(f"{engine.info.name} had nothing to say, so there is nothing to "
                            "compare. Write a sentence of your own.")
        sides.append({**viewer.payload(_dressed(maps, text), photo, engine.info.name),
                      "unread": not_read(engine, text) if isinstance(text, str) else "",
                      "name": name, "asks": []})  # nothing here is on a desk to be checked
    return {"left": sides[0], "right": sides[1]}


def _dressed(maps: tuple[Explanation, ...], said: Said) -> list[Explanation]:
    return dressed(maps, said, said if isinstance(said, str) else said.text)


def _names(engines: Sequence[Engine], choice: Choice) -> list[str]:
    """The headings of the two sides."""
    if choice.what == "methods":
        return [METHODS.get(name, name) for name in choice.methods]
    if choice.what == "pictures":
        return ["First picture", "Second picture"]
    names = [engine.info.name for engine in engines]
    if names[0] == names[1]:  # the same model before and after training
        names = [f"{engine.info.name} ({engine.info.revision})" for engine in engines]
    return names


def _method_fields(engine: Engine) -> tuple[gr.Dropdown, gr.Dropdown]:
    choices = [(METHODS.get(name, name), name) for name in engine.methods]
    first = gr.Dropdown(choices, value=choices[0][1] if choices else None, label="How the map is "
                        "made", filterable=False, elem_id="compare-first-method")
    second = gr.Dropdown(choices, value=_second(engine), label="And on the right side",
                         visible=False, filterable=False, elem_id="compare-second-method")
    return first, second


def _second(engine: Engine) -> str | None:
    return engine.methods[min(1, len(engine.methods) - 1)] if engine.methods else None


def _word_choices(context: Context, what: str) -> list[tuple[str, str]]:
    """Ways to get the words, as far as the model can."""
    names = ["first"] if what == "methods" else ["first", "each"]
    if what == "pictures":
        names.reverse()
    usable = (names if context.can("caption") else []) + (["own"] if context.can("match") else [])
    found = {**WORDS, "first": "The model's description"} if what == "methods" else WORDS
    return [(found[name], name) for name in usable] or [(WORDS["own"], "own")]
