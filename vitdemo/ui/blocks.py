"""The app's `gr.Blocks`: what an event is given is looked at before Gradio touches it, and what
goes wrong in one is a sentence."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from vitdemo.errors import VitDemoError
from vitdemo.ui.gate import paths_in
from vitdemo.ui.given import is_uploaded_file, plain_value
from vitdemo.ui.parts import SORRY, FilesInput, PictureInput
from vitdemo.ui.session import Sessions

log = logging.getLogger(__name__)

MAX_NUMBER = 2.0**63


class AppBlocks(gr.Blocks):
    """A page whose events take files in file fields only, and only files that were uploaded.

    Gradio itself looks for files in the values of all fields, and fetches or copies what it finds.
    """

    def __init__(self, sessions: Sessions, **settings: Any) -> None:
        super().__init__(**settings)
        self.sessions = sessions
        self.api_open = False  # what waits in the queue is not called past it

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, iterator: Any = None,
                          session_hash: str | None = None, event_data: Any = None,
                          **settings: Any) -> dict[str, Any]:
        """As in `gr.Blocks`.

        Raises:
            gr.Error: the values are refused, or it failed; its text is one sentence.
        """
        try:
            if iterator is None:  # and not the next step of what has begun
                check_inputs(block_fn.inputs, inputs)
                if block_fn.collects_event_data:
                    check_event(getattr(event_data, "_data", None))
                if session_hash:
                    self.sessions.keep(session_hash, paths_in(inputs))
                inputs = [plain_value(value, field.value) if isinstance(field, Api) else value
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
            raise gr.Error(SORRY, print_exception=False) from error


def check_inputs(fields: Sequence[Any], values: Sequence[Any]) -> None:
    """See that each value is of the kind that its field takes.

    Raises:
        gr.Error: it is not; or there are too few or too many.
    """
    if len(fields) != len(values):
        raise _refusal(f"This takes {len(fields)} values, and {len(values)} came.")
    for field, value in zip(fields, values, strict=True):
        if field.stateful or value is None:
            continue
        name = f"“{getattr(field, 'label', None) or field.get_block_name()}”"
        if isinstance(field, Api):
            kind, want = SCHEMAS[str(field.api_info()["type"])]
            value = plain_value(value)
        else:
            kind, want = KINDS.get(type(field), (_is_scalar, "one value"))
        if not kind(value):
            raise _refusal(f"{name} takes {want}, and something else came.")


def check_event(data: Any) -> None:
    """What comes with a click says by name what was clicked, and names no files.

    Raises:
        gr.Error: it is something else.
    """
    place = data.get("index", 0) if isinstance(data, dict) else None
    if paths_in(data) or not isinstance(place, int) or isinstance(place, bool) or place < 0:
        raise _refusal("This click says nothing that can be understood. Reload the page.")


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MAX_NUMBER and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_uploads(value: Any) -> bool:
    return isinstance(value, list) and all(is_uploaded_file(one) for one in value)


KINDS: dict[type, tuple[Callable[[Any], bool], str]] = {
    PictureInput: (is_uploaded_file,
                   "one picture that was uploaded here (addresses are not fetched)"),
    FilesInput: (_are_uploads, "pictures that were uploaded here (addresses are not fetched)"),
    gr.Textbox: (_is_text, "text"), gr.Number: (_is_number, "a number"),
    gr.Slider: (_is_number, "a number"), gr.Checkbox: (_is_switch, "yes or no"),
}
# What the endpoints for programs take, by the type in their JSON schema.
SCHEMAS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (_is_text, "text"), "integer": (_is_whole, "a whole number"),
    "number": (_is_number, "a number"), "boolean": (_is_switch, "true or false"),
    "array": (_are_texts, "a list of texts"),
}
