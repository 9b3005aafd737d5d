"""Captions for all pictures that are searched, in a table where a person corrects them.

They are kept as rows of `metadata.jsonl`, which training reads: those of a folder beside its
pictures, those of uploads in a file to download.
"""

import html
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.description_files import JsonLines, Output
from vitdemo.errors import PictureError, StoreError
from vitdemo.file_names import as_text, on_disk
from vitdemo.folder_descriptions import DescribeReport, describe_folders
from vitdemo.preprocess import open_small
from vitdemo.records import Wishes
from vitdemo.retrieval.beside import ROWS
from vitdemo.retrieval.indexer import Progress
from vitdemo.retrieval.walk import look_through
from vitdemo.sidecars import Row
from vitdemo.texts import phrase
from vitdemo.ui.components import Context, guarded, notice
from vitdemo.ui.downloads import SAVE, saved
from vitdemo.ui.jobs import Cancelled, Job, followed, said_of
from vitdemo.ui.search.galleries import (
    EXAMPLES,
    FOLDER,
    OWNERS,
    allowed_folder,
    may_read,
    report_html,
)
from vitdemo.ui.search.indexing import (
    INDEXING,
    Sources,
    progress_html,
    reading_html,
    refuse_second,
)
from vitdemo.ui.tabs.describe import first_language
from vitdemo.video import file_of

PREVIEW = 480  # pixels
BETWEEN = " | "  # several captions in one cell
Tell = Callable[[Progress], None]


class Kept(Output):
    """Rows that are kept in memory alone."""

    existing = "skip"

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def row(self, path: str) -> Row | None:
        return self.rows.get(path)

    def write(self, rows: Sequence[tuple[str, Row]]) -> list[tuple[str, str]]:
        self.rows |= dict(rows)
        return []

    def close(self) -> None:
        """Nothing is left to be done."""


@dataclass
class Described:
    """What one page has in its table: rows by the names that stand there, in which files the
    pictures lie, the key of the captions that are shown, and the folder they are kept in; None
    where they are uploads."""

    rows: dict[str, Row] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    key: str = "captions"
    folder: Path | None = None

    def table(self) -> list[list[str]]:
        """A line for each picture: its name, and its captions."""
        return [[name, BETWEEN.join(row.get(self.key, []))] for name, row in self.rows.items()]

    def correct(self, table: Sequence[Sequence[Any]]) -> dict[str, Row]:
        """The rows whose captions a person changed, by name; lines of other names count for
        nothing."""
        texts = {str(line[0]): str(line[1] or "") for line in table if len(line) > 1}
        changed = {}
        for name, row in self.rows.items():
            captions = [one.strip() for one in texts.get(name, "").split(BETWEEN.strip())]
            captions = [" ".join(one.split()) for one in captions if one]
            if name in texts and captions != row.get(self.key, []):
                changed[name] = {**row, self.key: captions}
        return changed


def describe_folder(context: Context, folder: Path, wishes: Wishes, tell: Tell) -> DescribeReport:
    """Describe what is new or changed in an allowed folder, into its `metadata.jsonl`.

    Raises:
        PictureError: that file is a link that leads out of the allowed folders.
        DiskError: it cannot be written.
    """
    return describe_folders(context.engine, [(str(folder), _rows_of(context, folder, "skip"))],
                            wishes, progress=tell, inside=context.settings.folders)


def _rows_of(context: Context, folder: Path, existing: str) -> JsonLines:
    file = Path(on_disk(str(folder / ROWS)))
    if not may_read(context, file):
        raise PictureError("captions.leads_out", file=file)
    return JsonLines(file, existing)


def described_folder(context: Context, folder: Path, key: str) -> Described:
    """What stands in a folder's `metadata.jsonl`, at most `LIMITS.max_hits` of its pictures."""
    output = _rows_of(context, folder, "skip")
    shown = Described(key=key, folder=folder)
    for path in (picture for file in look_through([folder], inside=context.settings.folders).files
                 for picture in output.frames(file) or [file]):
        row = output.row(path)
        if row is not None and len(shown.rows) < LIMITS.max_hits:
            name = os.path.relpath(path, folder)
            shown.rows[name], shown.files[name] = row, path
    return shown


def save_folder(context: Context, shown: Described, table: Sequence[Sequence[Any]]) -> int:
    """Write corrected captions into the folder's `metadata.jsonl`; gives how many rows changed.

    Raises:
        PictureError, DiskError: see `describe_folder`.
    """
    assert shown.folder is not None
    changed = shown.correct(table)
    output = _rows_of(context, shown.folder, "overwrite")
    output.write([(shown.files[name], {**(output.row(shown.files[name]) or {}), **row})
                  for name, row in changed.items()])
    output.close()
    shown.rows |= changed
    return len(changed)


def save_uploads(shown: Described, table: Sequence[Sequence[Any]], file: Path) -> int:
    """Write all rows, corrected, to a new file; gives how many changed.

    Raises:
        DiskError: it cannot be written.
    """
    changed = shown.correct(table)
    shown.rows |= changed
    file.unlink(missing_ok=True)
    output = JsonLines(file, "overwrite")
    output.write([(str(file.with_name(name)), row) for name, row in shown.rows.items()])
    return len(changed)


@dataclass(frozen=True)
class _Parts:
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    preview: gr.Image
    table: gr.Dataframe
    save: gr.Button
    kept: gr.HTML


def build_captions(context: Context, sources: Sources) -> None:
    """Lay it out under the choice of what is searched, and tie its handlers."""
    with gr.Accordion(phrase("captions.head"), open=False, visible=context.can("caption"),
                      elem_id="search-captions"):
        with gr.Row():
            run = gr.Button(phrase("captions.run"), size="sm", elem_id="captions-run")
            stop = gr.Button(phrase("reading.cancel"), size="sm", visible=False,
                             elem_id="captions-stop")
        status = gr.HTML(report_html([phrase("captions.about")], []), apply_default_css=False,
                         elem_id="captions-status")
        preview = gr.Image(visible=False, interactive=False, show_label=False, height=200,
                           buttons=[], elem_id="captions-preview")
        table = gr.Dataframe(
            headers=[phrase("captions.file"), phrase("captions.caption")], type="array",
            datatype="str", column_count=2, static_columns=[0], wrap=True, buttons=[],
            column_widths=["30%", "70%"], max_height=420, interactive=True, visible=False,
            show_label=False, elem_id="captions-table")
        save = gr.Button(phrase("captions.save"), size="sm", visible=False,
                         elem_id="captions-save")
        kept = gr.HTML(value={}, html_template='<p class="vt-kept" role="status"></p>',
                       js_on_load=SAVE, apply_default_css=False, elem_id="captions-kept")
    _tie(context, sources, _Parts(run, stop, status, preview, table, save, kept))


def _tie(context: Context, sources: Sources, parts: _Parts) -> None:
    held: gr.State = gr.State(Described())
    job: gr.State = gr.State(Job())
    outputs = [parts.status, parts.stop, parts.table, parts.save, parts.preview, held, parts.kept]

    @guarded(lambda error, given: (notice(str(error)), gr.update(visible=given[-1].running),
                                   *[gr.skip()] * 5))
    def run(request: gr.Request, chosen: str, typed: str, files: list[str] | None,
            running: Job[Progress]) -> Iterator[tuple[Any, ...]]:
        refuse_second(running)
        work, result = captioning(context, chosen, typed, files, running.tell)
        context.sessions.on_leave(request, running.stop)
        yield (progress_html(phrase("captions.begin"), 0, 0), gr.update(visible=True),
               *[gr.skip()] * 4, {})
        report: DescribeReport | None = None
        with suppress(Cancelled):  # what was described before is kept
            report = yield from said_of(followed(running, work), lambda now: (
                reading_html(now, "captions.far"), *[gr.skip()] * 6))
        shown = result()
        yield (_told(report, shown), gr.update(visible=False),
               gr.update(value=shown.table(), visible=bool(shown.rows)),
               gr.update(visible=bool(shown.rows)), gr.update(visible=False), shown, {})

    @guarded(lambda error, _: {"error": str(error)})
    def save(request: gr.Request, shown: Described, table: list[list[Any]]
             ) -> Iterator[dict[str, str]]:
        if shown.folder is not None:
            count = save_folder(context, shown, table)
            yield {"busy": phrase("captions.saved", count=count, file=shown.folder / ROWS,
                                  folder=shown.folder)}
            return
        file = context.sessions.folder(request) / ROWS
        save_uploads(shown, table, file)
        yield saved(file, phrase("captions.download"))

    def look(shown: Described, event: gr.SelectData) -> dict[str, Any]:
        try:
            return gr.update(value=open_small(shown.files[str(event.row_value[0])], PREVIEW),
                             visible=True)
        except (LookupError, PictureError):  # gone or broken since
            return gr.update(value=None, visible=False)

    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    parts.run.click(run, [sources.choice, sources.folder, sources.files, job], outputs,
                    **settings, **INDEXING)
    parts.stop.click(lambda running: running.stop(), job, None, **settings, queue=False)
    parts.save.click(save, [held, parts.table], parts.kept, **settings)
    parts.table.select(look, held, parts.preview, **settings)


def captioning(context: Context, chosen: str, typed: str, files: list[str] | None, tell: Tell
          ) -> tuple[Callable[[], DescribeReport], Callable[[], Described]]:
    """What is to be done for a choice, and what there is of it, however far it came.

    Raises:
        PictureError: there are no pictures.
        StoreError: they are only shown.
    """
    if chosen == OWNERS:
        raise StoreError("store.only_searched")
    language = first_language(context.engine)
    wishes, key = Wishes((language,)), "captions_zh" if language == "zh" else "captions"
    if chosen == FOLDER:
        folder = allowed_folder(context, typed or "")
        return (lambda: describe_folder(context, folder, wishes, tell),
                lambda: described_folder(context, folder, key))
    paths = [str(path) for path in context.examples] if chosen == EXAMPLES else files
    if not paths:
        raise PictureError("reading.no_pictures")
    kept, wanted = Kept(), {as_text(os.path.abspath(path)) for path in paths}
    places = dict.fromkeys(os.path.dirname(path) for path in wanted)

    def result() -> Described:
        held = {os.path.basename(path): path for path in kept.rows if file_of(path) in wanted}
        return Described({name: kept.rows[path] for name, path in held.items()}, held, key)

    return (lambda: describe_folders(context.engine, [(place, kept) for place in places], wishes,
                                     progress=tell), result)


def _told(report: DescribeReport | None, shown: Described) -> str:
    """What came of it, as HTML."""
    if report is None:
        return report_html([phrase("captions.stopped", count=len(shown.rows))], [])
    lines = [phrase("captions.done", count=report.described, unchanged=report.unchanged)]
    if shown.folder is not None:
        lines.append(html.escape(phrase("captions.where", file=shown.folder / ROWS)))
    return report_html(lines, [f"{os.path.basename(one.path)}: {one.reason}"
                               for one in report.skipped],
                       notes=[one.reason for one in report.noted])
