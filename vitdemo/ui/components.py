"""Components and handler helpers that all tabs use."""

import functools
import html
import logging
import os
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.components.api_component import Api
from gradio.data_classes import FileData, ImageData, ListFiles

from vitdemo import viewer
from vitdemo.engine import Engine
from vitdemo.errors import BusyError, PictureError, TextError, VitDemoError
from vitdemo.preprocess import Picture, open_picture, open_small
from vitdemo.retrieval.read_only import OwnersPictures
from vitdemo.texts import phrase
from vitdemo.ui.session import Sessions
from vitdemo.video import file_of
from vitdemo.wanted import NotWanted

log = logging.getLogger(__name__)

# Every handler that a person waits for, and that uses the model, is in this group; what takes long
# is in `line.LONG`. So many texts at most are written as one batch.
MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 8}
# Of all handlers of the page itself. A quiet one waits for no one.
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
QUIET: dict[str, Any] = {**PRIVATE, "queue": False}
Failed = Callable[[Exception, tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Settings:
    """What the person who starts the app decides."""

    examples: Path | None = None  # a folder of example photographs
    folders: tuple[Path, ...] = ()  # Search may index what lies in these; none: not offered
    store: str = ""  # where indexes of folders are kept; empty: in memory
    shared: bool = False  # the app runs on a server for others, not for its owner alone
    owners: OwnersPictures | None = None  # that such an app lets them search
    addresses: bool = False  # programs may name a picture by its address on the internet
    check_at_once: bool = True  # compute the chosen map's evidence unasked: where that is quick
    open_with_result: bool = False  # the page begins with an example that is described
    # By name, for Compare and for another model; None: not offered.
    load_model: Callable[[str], Engine] | None = None
    model: str = ""  # the name by which the engine's model was loaded, where that is known
    choose_model: bool = False  # visitors may change the model, for all of them, by `load_model`

    @property
    def own_folders(self) -> bool:
        """Whether pictures of this computer are searched: of allowed folders, or of the store."""
        return bool(self.folders or self.store) and not self.shared


@dataclass(frozen=True)
class Context:
    """What every tab is built from."""

    engine: Engine
    settings: Settings
    sessions: Sessions
    examples: tuple[Path, ...]

    def can(self, *tasks: str) -> bool:
        return all(task in self.engine.info.tasks for task in tasks)


class _QuietMeta(ComponentMeta):
    """Makes a component class as Gradio does, but writes no .pyi file beside this one."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> type:
        return ABCMeta.__new__(cls, name, bases, attrs)


class Uploaded:
    """A field that hands on uploaded files as they are: Gradio's own opens a picture itself, and
    fails with a stack trace where it is broken or very large; `open_picture` says what is wrong.
    Nothing is fetched from an address."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None
                                                 ) -> str | None:
        """As Gradio's, for files alone."""
        if str(url_or_file_path or "").lower().startswith(("http://", "https://")):
            raise gr.Error(phrase("picture.no_address"), print_exception=False)
        return await super().async_move_resource_to_block_cache(  # type: ignore[misc,no-any-return]
            url_or_file_path)


class PictureInput(Uploaded, gr.Image, metaclass=_QuietMeta):
    """An image field; its value is a path."""

    def get_block_name(self) -> str:
        """The frontend's component: a plain image."""
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        """The path of the uploaded file."""
        return payload.path if payload is not None else None


class FilesInput(Uploaded, gr.File, metaclass=_QuietMeta):
    """Several files: their contents are checked one by one."""

    def get_block_name(self) -> str:
        """The frontend's component: a plain file field."""
        return "file"

    def preprocess(self, payload: ListFiles | FileData | None) -> list[str] | None:
        """The paths of the uploaded files."""
        if payload is None:
            return None
        return [file.path for file in (payload.root if isinstance(payload, ListFiles)
                                       else [payload])]


class PageValue(Api, metaclass=_QuietMeta):
    """A value that the page holds and no field shows. To users of the API it is not there, as a
    `gr.State` is not; unlike that one's, it is the browser's own."""

    def __init__(self, value: Any = None, **_: Any) -> None:  # Gradio copies it with more
        super().__init__(value, {"type": ""})

    def get_block_name(self) -> str:
        """The frontend shows nothing for it."""
        return "state"

    @property
    def skip_api(self) -> bool:
        """It is no part of the API."""
        return True


def picture_input(label: str = "", **settings: Any) -> PictureInput:
    """The field for one picture: upload, drag, paste or webcam."""
    settings = {"height": 300, **settings}
    return PictureInput(label=label or phrase("picture.label"), type="filepath",
                        sources=["upload", "webcam", "clipboard"],
                        image_mode=None, buttons=["fullscreen"], interactive=True,
                        placeholder=phrase("picture.drop"),
                        webcam_options=gr.WebcamOptions(mirror=False), **settings)


def save_panel(name: str) -> gr.Column:
    """The place of the ways to save a result, which the viewer "NAME-view" opens."""
    return gr.Column(elem_classes="vt-save", elem_id=f"{name}-save", min_width=0)


@contextmanager
def expert_panel(name: str, heading: str) -> Iterator[None]:
    """The place of fields for experts, which stand in the drawer of the viewer "NAME-view"."""
    with gr.Column(elem_classes="vt-own", elem_id=f"{name}-experts", min_width=0):
        text_output(heading, "vt-heading")
        yield


def html_output(value: Any = "", elem_id: str | None = None, **settings: Any) -> gr.HTML:
    """A place for HTML of our own."""
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id, **settings)


def text_output(text: str, css: str = "vt-hint", elem_id: str | None = None) -> gr.HTML:
    """A sentence or a heading."""
    return html_output(f'<p class="{css}">{html.escape(text)}</p>', elem_id)


def compare_output(elem_id: str, **settings: Any) -> gr.HTML:
    """The comparing viewer; its value is ``left`` and ``right``, payloads of two viewers."""
    return html_output({}, elem_id, html_template='<div class="vd-compare"></div>',
                       css_template=viewer.styles(), js_on_load=viewer.gradio_compare_script(),
                       **settings)


def viewer_output(hint: str, elem_id: str, **settings: Any) -> gr.HTML:
    """The attention viewer; its value is a payload of `vitdemo.viewer`."""
    return html_output({"hint": hint}, elem_id, html_template='<div class="vd-viewer"></div>',
                       css_template=viewer.styles(), js_on_load=viewer.gradio_script(),
                       **settings)


CLICKS = """
element.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-index]");
  if (!chosen) return;
  if (chosen.dataset.index === "other") trigger("other", {});
  else trigger("click", { index: Number(chosen.dataset.index) });
});
"""


def clickable_html(value: str = "", **settings: Any) -> gr.HTML:
    """HTML whose elements with ``data-index`` trigger ``click`` with that index; of `chips` the
    last may trigger ``other``."""
    return html_output(value, js_on_load=CLICKS, **settings)


def carried(event: gr.EventData) -> dict[str, Any]:
    """What an event of a page carries; nothing where that is not values by their names."""
    return event._data if isinstance(event._data, dict) else {}


def place_of(event: gr.EventData, count: int) -> int:
    """Which of ``count`` things was clicked, from 0.

    Raises:
        TextError: none of them, as where the page is out of date.
    """
    place = carried(event).get("index")
    if type(place) is not int or not 0 <= place < count:
        raise TextError("request.gone")
    return place


def at_fault(error: Exception) -> bool:
    """Whether it is the picture that cannot be used."""
    return isinstance(error, PictureError) and not isinstance(error, BusyError)


def refusal(error: Exception, path: Any) -> str:
    """The path of a picture that cannot be used; empty where the picture was not at fault."""
    return str(path or "") if at_fault(error) else ""


# In the browser: only there is it certain that no better picture was chosen meanwhile.
DROP = """(refused, ...fields) => {
  const bad = (one) => Boolean(refused) && one?.path === refused;
  const kept = globalThis.vtKept ??= {};
  if (!fields.some(bad)) kept.NAME = fields[0];
  else if (bad(kept.NAME)) kept.NAME = null;
  return fields.map((now) => (bad(now) ? kept.NAME ?? null : now));
}"""


def drop_refused(event: Any, refused: PageValue, *pictures: gr.Image) -> Any:
    """After an event, the picture before comes back in place of one whose path is ``refused``."""
    return event.then(None, [refused, *pictures], [*pictures],
                      js=DROP.replace("NAME", f"of{pictures[0]._id}"))


def read_picture(path: str | None) -> Picture:
    """Open a field's picture.

    Raises:
        PictureError: there is none, or it cannot be used.
    """
    return open_picture(uploaded(path), name=os.path.basename(path or ""))


def uploaded(path: str | None) -> str:
    """The path of a field's picture.

    Raises:
        PictureError: there is none, or it is gone.
    """
    if not path:
        raise PictureError("picture.choose")
    if not os.path.exists(file_of(path)):
        raise PictureError("picture.deleted")
    return path


def guarded(failed: Failed) -> Callable[..., Callable[..., Iterator[Any]]]:
    """Make a generator handler show an error as one sentence: ``failed(error, inputs)`` gives the
    outputs.

    The error's text is the sentence; a fault of the program is logged and becomes `frame.fault`.
    A handler that yields nothing leaves its outputs as they are: Gradio would empty them.
    """

    def decorate(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(handler)
        def run(*inputs: Any) -> Iterator[Any]:
            silent = True
            try:
                for outputs in handler(*inputs):
                    silent = False
                    yield outputs
                if silent:
                    yield gr.skip()
            except VitDemoError as error:
                yield failed(error, inputs)
            except (gr.Error, NotWanted):
                raise
            except Exception:  # the outermost place: a person is waiting for an answer
                log.exception("a fault in %s", handler.__name__)
                yield failed(RuntimeError(phrase("frame.fault")), inputs)

        return run

    return decorate


def readable_examples(folder: Path | None) -> tuple[Path, ...]:
    """The pictures of a folder in the order of their names; one that cannot be read is left out."""
    found = []
    names = sorted(folder.glob("*")) if folder is not None and folder.is_dir() else []
    for path in names:
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
            continue
        try:
            open_small(path, 1)  # to see that it can be read
            found.append(path)
        except PictureError as error:
            log.warning("an example picture is left out: %s", error)
    return tuple(found)
