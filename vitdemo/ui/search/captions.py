"""Captions for all pictures that are searched, in a table where a person corrects them.

They are kept as rows of `metadata.jsonl`, which training reads: those of a folder beside its
pictures, those of uploads in a file to download.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from vitdemo.ui import markup
from vitdemo.ui.components import PRIVATE, QUIET, Context, guarded, html_output
from vitdemo.ui.downloads import saved, saved_output
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.search.galleries import EXAMPLES, FOLDER, OWNERS, allowed_folder, may_read
from vitdemo.ui.search.indexing import INDEXING, Sources, left_out, reading_html, refuse_second
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


def rows_of(context: Context, folder: Path, existing: str = "skip") -> JsonLines:
    """What stands in an allowed folder's `metadata.jsonl`.

    Raises:
        PictureError: that file is a link that leads out of the allowed folders.
        DiskError: it cannot be read.
    """
    file = Path(on_disk(str(folder / ROWS)))
    if not may_read(context, file):
        raise PictureError("captions.leads_out", file=file)
    return JsonLines(file, existing)


def described(output: Output, paths: Iterable[tuple[str, str]], key: str,
              folder: Path | None = None) -> Described:
    """The rows that there are of pictures by their names, at most `LIMITS.max_hits`."""
    shown = Described(key=key, folder=folder)
    for name, path in paths:
        row = output.row(path)
        if row is not None and len(shown.rows) < LIMITS.max_hits:
            shown.rows[name], shown.files[name] = row, path
    return shown


def described_folder(context: Context, folder: Path, key: str) -> Described:
    """What was written of the pictures of an allowed folder."""
    output = rows_of(context, folder)
    files = look_through([folder], inside=context.settings.folders).files
    return described(output, ((os.path.relpath(path, folder), path) for file in files
                              for path in output.frames(file) or [file]), key, folder)


def save(context: Context, shown: Described, table: Sequence[Sequence[Any]], file: Path) -> int:
    """Write corrected captions into their folder's `metadata.jsonl`; of uploads all rows, into a
    new ``file``. Gives how many rows changed.

    Raises:
        PictureError, DiskError: see `rows_of`; or it cannot be written.
    """
    changed = shown.correct(table)
    shown.rows |= changed
    if shown.folder is None:
        file.unlink(missing_ok=True)
        output = JsonLines(file, "overwrite")
        rows = [(str(file.with_name(name)), row) for name, row in shown.rows.items()]
    else:
        output = rows_of(context, shown.folder, "overwrite")
        rows = [(shown.files[name], {**(output.row(shown.files[name]) or {}), **row})
                for name, row in changed.items()]
    output.write(rows)
    output.close()
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
        status = html_output(markup.report([phrase("captions.about")]), "captions-status")
        preview = gr.Image(visible=False, interactive=False, show_label=False, height=200,
                           buttons=[], elem_id="captions-preview")
        table = gr.Dataframe(
            headers=[phrase("captions.file"), phrase("captions.caption")], type="array",
            datatype="str", column_count=2, static_columns=[0], wrap=True, buttons=[],
            column_widths=["30%", "70%"], max_height=420, interactive=True, visible=False,
            show_label=False, elem_id="captions-table")
        save = gr.Button(phrase("captions.save"), size="sm", visible=False,
                         elem_id="captions-save")
        kept = saved_output("captions-kept")
    _tie(context, sources, _Parts(run, stop, status, preview, table, save, kept))


def _tie(context: Context, sources: Sources, parts: _Parts) -> None:
    held: gr.State = gr.State(Described())
    job: gr.State = gr.State(Job())
    outputs = [parts.status, parts.stop, parts.table, parts.save, parts.preview, held, parts.kept]

    @guarded(lambda error, given: (markup.notice(error), gr.update(visible=given[-1].running),
                                   *[gr.skip()] * 5))
    def run(request: gr.Request, chosen: str, typed: str, files: list[str] | None,
            running: Job[Progress]) -> Iterator[tuple[Any, ...]]:
        refuse_second(running)
        work, result = captioning(context, chosen, typed, files, running.tell)
        context.sessions.on_leave(request, running.stop)
        yield (markup.progress(phrase("captions.begin"), 0, 0), gr.update(visible=True),
               *[gr.skip()] * 4, {})
        report: DescribeReport | None = None
        with suppress(Cancelled):  # what was described before is kept
            report = yield from followed(running, work, lambda now: (
                reading_html(now, "captions.far"), *[gr.skip()] * 6))
        shown = result()
        yield (_told(report, shown), gr.update(visible=False),
               gr.update(value=shown.table(), visible=bool(shown.rows)),
               gr.update(visible=bool(shown.rows)), gr.update(visible=False), shown, {})

    @guarded(lambda error, _: {"error": str(error)})
    def keep(request: gr.Request, shown: Described, table: list[list[Any]]
             ) -> Iterator[dict[str, str]]:
        file = context.sessions.folder(request) / ROWS
        count = save(context, shown, table, file)
        if shown.folder is None:
            yield saved(file, phrase("captions.download"))
        else:
            yield {"busy": phrase("captions.saved", count=count, file=shown.folder / ROWS,
                                  folder=shown.folder)}

    def look(shown: Described, event: gr.SelectData) -> dict[str, Any]:
        try:
            return gr.update(value=open_small(shown.files[str(event.row_value[0])], PREVIEW),
                             visible=True)
        except (LookupError, PictureError):  # gone or broken since
            return gr.update(value=None, visible=False)

    parts.run.click(run, [sources.choice, sources.folder, sources.files, job], outputs,
                    **PRIVATE, **INDEXING)
    parts.stop.click(lambda running: running.stop(), job, None, **QUIET)
    parts.save.click(keep, [held, parts.table], parts.kept, **PRIVATE)
    parts.table.select(look, held, parts.preview, **PRIVATE)


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
        return (lambda: describe_folders(
                    context.engine, [(str(folder), rows_of(context, folder))], wishes,
                    progress=tell, inside=context.settings.folders),
                lambda: described_folder(context, folder, key))
    paths = [str(path) for path in context.examples] if chosen == EXAMPLES else files
    if not paths:
        raise PictureError("reading.no_pictures")
    kept, wanted = Kept(), {as_text(os.path.abspath(path)) for path in paths}
    places = dict.fromkeys(map(os.path.dirname, wanted))
    return (lambda: describe_folders(context.engine, [(place, kept) for place in places], wishes,
                                     progress=tell),
            lambda: described(kept, ((os.path.basename(path), path) for path in kept.rows
                                     if file_of(path) in wanted), key))


def _told(report: DescribeReport | None, shown: Described) -> str:
    """What came of it, as HTML."""
    if report is None:
        return markup.report([phrase("captions.stopped", count=len(shown.rows))])
    lines = [phrase("captions.done", count=report.described, unchanged=report.unchanged)]
    if shown.folder is not None:
        lines.append(markup.said("captions.where", file=shown.folder / ROWS))
    return markup.report(lines, *left_out(report))
