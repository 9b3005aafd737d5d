"""Hits as files, and groups of almost the same pictures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.disk import replacing
from vitdemo.errors import PictureError
from vitdemo.retrieval.duplicates import BY, Groups, find_duplicates
from vitdemo.retrieval.export import write_hits
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.tables import write_table
from vitdemo.ui.finding import Search
from vitdemo.ui.indexing import Sources, progress_html
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.keep import SAVE
from vitdemo.ui.parts import QUIET, Context, guarded, notice
from vitdemo.ui.search_fields import Fields, filters_of
from vitdemo.ui.search_hits import groups_html

KINDS = {"csv": "Save a table (CSV)", "json": "Save for programs (JSON)",
         "zip": "Save copies of the pictures (ZIP)"}
NOTES = {"csv": "It has names, places and scores, no picture.",
         "json": "It has names, places and scores, no picture.",
         "zip": "It holds copies of your pictures: pass it on only if you want to."}
FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 4}
COMPARING: dict[str, Any] = {"concurrency_id": "compare-all", "concurrency_limit": 1}


def build_hit_files(context: Context, search: gr.State) -> None:
    """Buttons that save the hits of the last search."""
    with gr.Accordion("Save the hits", open=False, elem_id="search-save"):
        count = gr.Number(100, label=f"How many of the best, up to {LIMITS.max_hits:,}",
                          precision=0, elem_id="search-save-count")
        with gr.Row():
            buttons = {kind: gr.Button(label, size="sm", elem_id=f"search-save-{kind}")
                       for kind, label in KINDS.items()}
        kept = gr.HTML(value={}, html_template='<p class="vt-kept" role="status"></p>',
                       js_on_load=SAVE, apply_default_css=False, elem_id="search-saved")
    for kind, button in buttons.items():
        button.click(_saver(context, kind), [search, count], kept, api_visibility="private",
                     show_progress="hidden", **FILES)


def _saver(context: Context, kind: str) -> Any:
    @guarded(lambda error, _: {"error": str(error)})
    def save(request: gr.Request, search: Search, count: float | None
             ) -> Iterator[dict[str, str]]:
        finding = search.finding
        if not finding.hits:
            raise PictureError("There are no hits to save yet. Search for something first.")
        if not count or not 1 <= count <= LIMITS.max_hits:
            raise PictureError(f"Say how many hits to save, from 1 to {LIMITS.max_hits:,}.")
        yield {"busy": "Writing the file …"}
        hits = finding.first(int(count))
        file = context.sessions.folder(request) / f"vitdemo-hits.{kind}"
        job: Job[tuple[int, int]] = Job()
        context.sessions.on_leave(request, job.stop)
        steps = followed(job, lambda: write_hits(
            file, hits, finding.query.understood(), paths=not context.settings.shared,
            progress=lambda *far: job.tell(far)))
        try:
            while True:
                done, total = next(steps)
                yield {"busy": f"Copied {done:,} of {total:,} pictures …"}
        except StopIteration as end:
            missing: list[str] = end.value
        except Cancelled:  # the page was left
            return
        note = NOTES[kind]
        if missing:
            note += f" {len(missing)} could not be copied; “left out.txt” in it says why."
        yield {"url": f"gradio_api/file={quote(str(file))}", "name": file.name, "note": note}

    return save


def build_duplicates(context: Context, sources: Sources, search: gr.State, fields: Fields,
                     thumbnails: Thumbnails) -> None:
    """Find groups of almost the same pictures among those that are searched."""
    job: gr.State = gr.State(Job())
    groups = gr.State(None)  # what was found last
    with gr.Accordion("Almost the same pictures", open=False, elem_id="search-twins"):
        gr.HTML('<p class="vt-hint">Looks through all pictures that are searched, by the '
                "conditions under “Only pictures that …”. Two are almost the same where the model "
                "sees the same in them and light and dark lie in the same places.</p>",
                apply_default_css=False)
        keep = gr.Dropdown([(what[:1].upper() + what[1:], name) for name, what in BY.items()],
                           value="largest", label="Of each group, keep", filterable=False,
                           elem_id="search-twins-keep")
        with gr.Row():
            run = gr.Button("Look for them", size="sm", elem_id="search-twins-run")
            cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="search-twins-cancel")
            save = gr.Button("Save the list (CSV)", size="sm", visible=False,
                             elem_id="search-twins-save")
        found = gr.HTML("", apply_default_css=False, elem_id="search-twins-found")
        kept = gr.HTML(value={}, html_template='<p class="vt-kept" role="status"></p>',
                       js_on_load=SAVE, apply_default_css=False, elem_id="search-twins-saved")

    @guarded(lambda error, _: (notice(str(error)), gr.update(visible=False), gr.skip(), None))
    def look(request: gr.Request, chosen: str, by: str, search: Search,
             running: Job[tuple[int, int]], *settings: Any) -> Iterator[tuple[Any, ...]]:
        if running.running:
            raise PictureError("That is under way already. Cancel it first.")
        gallery = sources.gallery(chosen, search.album)
        where = filters_of(settings).conditions()
        context.sessions.on_leave(request, running.stop)
        yield (progress_html("Comparing …", 0, 0), gr.update(visible=True),
               gr.update(visible=False), None)
        steps = followed(running, lambda: find_duplicates(
            gallery.index, where, by, progress=lambda *far: running.tell(far)))
        try:
            while True:
                done, total = next(steps)
                yield (progress_html(f"Compared {done:,} of {total:,} …", done, total), gr.skip(),
                       gr.skip(), None)
        except StopIteration as end:
            result: Groups = end.value
            yield (groups_html(result, thumbnails, not context.settings.shared),
                   gr.update(visible=False), gr.update(visible=bool(result.groups)), result)
        except Cancelled:
            yield "Cancelled.", gr.update(visible=False), gr.skip(), None

    @guarded(lambda error, _: {"error": str(error)})
    def table(request: gr.Request, result: Groups | None) -> Iterator[dict[str, str]]:
        if result is None:
            raise PictureError("There is no list yet. Look for them first.")
        file = context.sessions.folder(request) / "vitdemo-almost-the-same.csv"
        write_groups(file, result, paths=not context.settings.shared)
        yield {"url": f"gradio_api/file={quote(str(file))}", "name": file.name,
               "note": NOTES["csv"]}

    run.click(look, [sources.choice, keep, search, job, *fields.settings],
              [found, cancel, save, groups], api_visibility="private", show_progress="hidden",
              **COMPARING)
    cancel.click(lambda running: running.stop(), job, None, **QUIET)
    save.click(table, groups, kept, api_visibility="private", show_progress="hidden", **FILES)


def write_groups(file: Path, found: Groups, paths: bool = True) -> None:
    """A table of groups: which picture of which group to keep, and how like it the others are.

    Raises:
        DiskError: the file cannot be written.
    """
    head = ["group", "keep", "name", *(["path"] if paths else []), "width", "height", "bytes",
            "day", "sharpness", "cosine", "distance", "reason"]
    rows = ([place, "yes" if n == 0 else "", os.path.basename(one.path),
             *([one.path] if paths else []), one.width, one.height, one.bytes, one.day,
             round(one.sharpness, 2), round(one.cosine, 4), one.distance,
             group.reason if n == 0 else ""]
            for place, group in enumerate(found.groups, 1) for n, one in enumerate(group.pictures))
    with replacing([file]) as (part,):
        with open(part, "w", encoding="utf-8-sig", newline="") as stream:
            write_table(stream, head, rows)
