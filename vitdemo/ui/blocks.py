"""The app's `gr.Blocks`: what an event is given is looked at before Gradio touches it, and what
goes wrong in one is a sentence."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from vitdemo.errors import VitDemoError
from vitdemo.texts import language, phrase, speaking
from vitdemo.ui.components import FilesInput, PictureInput
from vitdemo.ui.gate import page_query, paths_in
from vitdemo.ui.given import is_uploaded_file, plain_value
from vitdemo.ui.health import Health
from vitdemo.ui.language import language_of
from vitdemo.ui.session import Sessions

log = logging.getLogger(__name__)

MAX_NUMBER = 2.0**63
Check = Callable[[Any], bool]


class AppBlocks(gr.Blocks):
    """A page whose events take files in file fields only, and only files that were uploaded.

    Gradio itself looks for files in the values of all fields, and fetches or copies what it finds.
    """

    def __init__(self, sessions: Sessions, **settings: Any) -> None:
        self.translations: dict[str, AppBlocks] = {}  # the same page in other languages
        # Values that a page without a task in its address begins with, by the fields' numbers.
        self.first_values: Callable[[], dict[int, Any]] = dict
        super().__init__(**settings)
        self.sessions = sessions
        self.health: Health | None = None  # for `build_ui` to set
        self.api_open = False  # what waits in the queue is not called past it

    @property
    def config(self) -> Any:
        """What a page is made of, in the language of who asks for it."""
        other = self.translations.get(language(), self)
        query = page_query.get()
        values = {} if query is None or "task" in query else self.first_values()
        components = [{**one, "props": {**one["props"], "value": values[one["id"]]}}
                      if one["id"] in values else one for one in other._config["components"]]
        return {**self._config, "title": other._config["title"], "components": components,
                "dependencies": other._config["dependencies"]}

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, iterator: Any = None,
                          session_hash: str | None = None, event_data: Any = None,
                          **settings: Any) -> dict[str, Any]:
        """As in `gr.Blocks`.

        Raises:
            gr.Error: the values are refused, or it failed; its text is one sentence.
        """
        headers: Any = getattr(settings.get("request"), "headers", {})
        with speaking(language_of(headers)):
            return await self._process(block_fn, inputs, *args, iterator=iterator,
                                       session_hash=session_hash, event_data=event_data,
                                       **settings)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """As in `gr.Blocks`, with each picture that an event gives wrapped in an update.

        Of what a handler gives after its first outputs Gradio sends the differences alone, and the
        page applies them to the objects that it has: a picture followed by nothing new would lose
        its file in the field itself, and the next event that reads the field would fail. Of a
        wrapped one the wrapping is lost.
        """
        if len(block_fn.outputs) > 1 and isinstance(predictions, list | tuple):
            predictions = [
                gr.update(value=given) if isinstance(field, PictureInput)
                and isinstance(given, str | None) else given
                for field, given in zip(block_fn.outputs, predictions, strict=True)]
        return await super().postprocess_data(block_fn, predictions, state)

    async def _process(self, block_fn: Any, inputs: list[Any], *args: Any, iterator: Any,
                       session_hash: str | None, event_data: Any, **settings: Any
                       ) -> dict[str, Any]:
        try:
            if iterator is None:  # and not the next step of what has begun
                check_inputs(block_fn.inputs, inputs)
                if block_fn.collects_event_data:
                    check_event(getattr(event_data, "_data", None))
                if session_hash:
                    self.sessions.keep(session_hash, paths_in(inputs))
                inputs = [plain_value(value, field.value) if type(field) is Api else value
                          for field, value in zip(block_fn.inputs, inputs, strict=True)]
            settings |= {"iterator": iterator, "session_hash": session_hash,
                         "event_data": event_data}
            return await super().process_api(block_fn, inputs, *args, **settings)
        except gr.Error as error:
            error.print_exception = False
            raise
        except VitDemoError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:  # the outermost place: a person is waiting for an answer
            log.exception("a fault in %s", getattr(block_fn, "name", block_fn))
            raise gr.Error(phrase("frame.fault"), print_exception=False) from error


def check_inputs(fields: Sequence[Any], values: Sequence[Any]) -> None:
    """See that each value is of the kind that its field takes.

    Raises:
        gr.Error: it is not; or there are too few or too many.
    """
    if len(fields) != len(values):
        raise _refusal(phrase("request.count", wanted=len(fields), given=len(values)))
    for field, value in zip(fields, values, strict=True):
        if field.stateful or value is None:
            continue
        name = getattr(field, "label", None) or field.get_block_name()
        if type(field) is Api:
            kind, want = SCHEMAS[str(field.api_info()["type"])]
            value = plain_value(value)
        else:
            kind, want = KINDS.get(type(field), (_is_scalar, "request.value"))
        if not kind(value):
            raise _refusal(phrase(want, name=name))


def check_event(data: Any) -> None:
    """What comes with a click says by name what was clicked, and names no files.

    Raises:
        gr.Error: it is something else.
    """
    place = data.get("index", 0) if isinstance(data, dict) else None
    places = place if isinstance(place, list) else [place]  # of a table's cell: row and column
    if paths_in(data) or not all(type(one) is int and one >= 0 for one in places):
        raise _refusal(phrase("request.click"))


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


def _are(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MAX_NUMBER and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return type(value) is int and _is_number(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and _are(_are(lambda cell: cell is None or _is_scalar(cell)))(
        value.get("data"))


KINDS: dict[type, tuple[Check, str]] = {
    PictureInput: (is_uploaded_file, "request.picture"),
    FilesInput: (_are(is_uploaded_file), "request.pictures"),
    gr.Textbox: (_is_text, "request.text"), gr.Number: (_is_number, "request.number"),
    gr.Slider: (_is_number, "request.number"), gr.Checkbox: (_is_switch, "request.switch"),
    gr.Dataframe: (_is_table, "request.value"),
}
# What the endpoints for programs take, by the type in their JSON schema.
SCHEMAS: dict[str, tuple[Check, str]] = {
    "string": (_is_text, "request.text"), "integer": (_is_whole, "request.whole_number"),
    "number": (_is_number, "request.number"), "boolean": (_is_switch, "request.switch"),
    "array": (_are(_is_text), "request.texts"),
}
