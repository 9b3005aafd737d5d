"""The ways to save a result: the picture with its map, a report, the numbers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from vitdemo import report
from vitdemo.engine import Engine
from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture
from vitdemo.records import Answer
from vitdemo.texts import phrase
from vitdemo.ui.components import PRIVATE, Context, guarded, html_output, read_picture, text_output
from vitdemo.ui.shown_result import Desk, Result

KINDS = ("html", "csv", "json")
# The viewer draws the picture by itself.
DRAW = """() => document.querySelector("#%s-view .vd-viewer").dispatchEvent(new Event("vd-save"))"""
# Tells of the file and starts its download; the link stays for those whose browser asks first.
SAVE = """
const line = element.querySelector(".vt-kept");
const show = () => {
  const { url, name, error, busy, before, after, note } = props.value || {};
  line.replaceChildren();
  line.classList.toggle("vt-error", Boolean(error));
  line.setAttribute("role", error ? "alert" : "status");
  if (error || busy) line.textContent = error || busy;
  if (!url) return;
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.textContent = name;
  line.append(before, link, after, " ", note);
  link.click();
};
watch("value", show);
"""


def build_downloads(context: Context, desk: gr.State, picture: Any, name: str) -> None:
    """Buttons for the result on ``desk``, within `save_panel`; ``picture`` is the field its picture
    stands in, ``name`` the tab's, for the ids of the elements."""
    if not context.can("explain"):
        return
    with gr.Row(elem_classes="vt-ways"):
        gr.Button(phrase("save.png"), size="sm", elem_id=f"{name}-keep-png").click(
            None, None, None, js=DRAW % name)
        buttons = {kind: gr.Button(phrase(f"save.{kind}"), size="sm",
                                   elem_id=f"{name}-keep-{kind}") for kind in KINDS}
    text_output(phrase("save.hint"))
    kept = saved_output(f"{name}-kept")
    for kind, button in buttons.items():
        button.click(_saver(context, kind), [desk, picture], kept, **PRIVATE)


def _saver(context: Context, kind: str) -> Any:
    @guarded(lambda error, inputs: {"error": str(error)})
    def save(request: gr.Request, desk: Desk, path: str | None) -> Iterator[dict[str, str]]:
        if desk.result is None:
            raise PictureError("save.nothing")
        yield {"busy": phrase("save.writing")}
        photo = read_picture(path)
        result = desk.fitting("", photo)
        name = Path(str(path)).stem
        file = context.sessions.folder(request) / f"{file_name(name)}.{kind}"
        write(file, context.engine, photo, result, Path(str(path)).name)
        yield saved(file, phrase("save.private"))

    return save


def saved_output(elem_id: str) -> gr.HTML:
    """Where a page is told of a file; its value is that of `saved`, or {"error"} or {"busy"}."""
    return html_output({}, elem_id, html_template='<p class="vt-kept" role="status"></p>',
                       js_on_load=SAVE)


def saved(file: Path, note: str = "") -> dict[str, str]:
    """What tells of a file that a page is given; ``note`` is a sentence on what is in it."""
    before, after = phrase("save.saved", file="\n").split("\n")
    return {"url": f"gradio_api/file={quote(str(file))}", "name": file.name, "before": before,
            "after": after, "note": note}


def write(file: Path, engine: Engine, photo: Picture, result: Result, name: str) -> None:
    """Write a result as the file's ending says: .html, .csv or .json.

    Raises:
        PictureError: the file cannot be written.
    """
    info = engine.info.behind(result.maps[-1])
    answer = result.said if isinstance(result.said, Answer) else None
    told: dict[str, Any] = {
        "others": list(result.others.values()), "evidence": list(result.evidence.values()),
        "shares": list(result.shares.values()), "settings": result.settings, "name": name,
        "probability": answer.probability if answer else None}
    if file.suffix == ".csv":
        report.write_csv(file, result.maps, told["others"])
    elif file.suffix == ".json":
        report.write_json(file, result.maps, info, **told)
    else:
        report.write_html(file, photo, result.maps, info, **told,
                          answers=answer.runners_up if answer else ())


def file_name(stem: str) -> str:
    """A file name, without its ending, out of a picture's: "vitdemo-cat"."""
    plain = re.sub(r"[^\w-]+", "-", stem).strip("-")[:60]
    return f"vitdemo-{plain}" if plain else "vitdemo"
