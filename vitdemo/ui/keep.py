"""To keep: buttons that save what is on screen as a report, or its numbers."""

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
from vitdemo.ui.desk import Desk, Result
from vitdemo.ui.parts import Context, guarded, read_picture

KINDS = {"html": "Save a report", "csv": "Save the numbers (CSV)",
         "json": "Save the numbers (JSON)"}
NOTHING = "There is nothing to save yet. Run the model on a picture first."
# Tells of the file and starts its download; the link stays for those whose browser asks first.
SAVE = """
const line = element.querySelector(".vt-kept");
const show = () => {
  const { url, name, error, busy, note } = props.value || {};
  line.replaceChildren();
  line.classList.toggle("vt-error", Boolean(error));
  line.setAttribute("role", error ? "alert" : "status");
  if (error || busy) line.textContent = error || busy;
  if (!url) return;
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.textContent = name;
  line.append("Saved as ", link, ". ",
    note || "It holds your picture: pass it on only if you want to.");
  link.click();
};
watch("value", show);
"""


def build_downloads(context: Context, desk: gr.State, picture: Any, name: str) -> None:
    """Three buttons for the result on ``desk``; ``picture`` is the field its picture stands in,
    ``name`` the tab's, for the ids of the elements."""
    if not context.can("explain"):
        return
    with gr.Accordion("To keep", open=False, elem_id=f"{name}-keep"):
        gr.HTML('<p class="vt-hint">The report is one file with the picture and all maps. It opens '
                "in any browser, without this app and without a network. The numbers are the "
                "weights of every word, with each region’s place in your picture.</p>",
                apply_default_css=False)
        with gr.Row():
            buttons = {kind: gr.Button(label, size="sm", elem_id=f"{name}-keep-{kind}")
                       for kind, label in KINDS.items()}
        kept = gr.HTML(value={}, html_template='<p class="vt-kept" role="status"></p>',
                       js_on_load=SAVE, apply_default_css=False, elem_id=f"{name}-kept")
    for kind, button in buttons.items():
        button.click(_saver(context, kind), [desk, picture], kept, api_visibility="private",
                     show_progress="hidden")


def _saver(context: Context, kind: str) -> Any:
    @guarded(lambda error, inputs: {"error": str(error)})
    def save(request: gr.Request, desk: Desk, path: str | None) -> Iterator[dict[str, str]]:
        if desk.result is None:
            raise PictureError(NOTHING)
        yield {"busy": "Writing the file …"}
        photo = read_picture(path)
        result = desk.fitting("", photo)
        name = Path(str(path)).stem
        file = context.sessions.folder(request) / f"{file_name(name)}.{kind}"
        write(file, context.engine, photo, result, Path(str(path)).name)
        yield {"url": f"gradio_api/file={quote(str(file))}", "name": file.name}

    return save


def write(file: Path, engine: Engine, photo: Picture, result: Result, name: str) -> None:
    """Write a result as the file's ending says: .html, .csv or .json.

    Raises:
        PictureError: the file cannot be written.
    """
    others, shares = list(result.others.values()), list(result.shares.values())
    evidence = list(result.evidence.values())
    if file.suffix == ".csv":
        report.write_csv(file, result.maps, others)
    elif file.suffix == ".json":
        report.write_json(file, result.maps, engine.info, others=others, evidence=evidence,
                          shares=shares, settings=result.settings, name=name)
    else:
        answers = result.said.runners_up if isinstance(result.said, Answer) else ()
        report.write_html(file, photo, result.maps, engine.info, others=others,
                          evidence=evidence, shares=shares, settings=result.settings,
                          answers=answers, name=name)


def file_name(stem: str) -> str:
    """A file name, without its ending, out of a picture's: "vitdemo-cat"."""
    plain = re.sub(r"[^\w-]+", "-", stem).strip("-")[:60]
    return f"vitdemo-{plain}" if plain else "vitdemo"
