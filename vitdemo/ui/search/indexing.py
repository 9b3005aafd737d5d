"""Where to search: the examples, uploads, folders of this computer, or what an owner shows, and
making them ready."""

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError, StoreError, TextError
from vitdemo.folder_descriptions import DescribeReport
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, Progress
from vitdemo.retrieval.vanished import Vanished
from vitdemo.retrieval.walk import passed_over_lines
from vitdemo.texts import Message, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    PRIVATE,
    QUIET,
    Context,
    FilesInput,
    clickable_html,
    guarded,
    html_output,
    place_of,
)
from vitdemo.ui.jobs import Cancelled, Job, duration, followed
from vitdemo.ui.search.galleries import (
    EXAMPLES,
    FOLDER,
    OWNERS,
    UPLOADS,
    Album,
    Galleries,
    album_of_files,
    allowed_folder,
    folders_in,
    ready_html,
)
from vitdemo.ui.search.state import Search
from vitdemo.ui.turns import AT_ONCE, Panel, Turn, Turns
from vitdemo.wanted import NotWanted

# A group of its own: it takes long, and those who search must not wait for it. The engine's lock
# gives the device from one to the other after every batch.
INDEXING: dict[str, Any] = {"concurrency_id": "index", "concurrency_limit": 2}
FOLDERS_TOLD = 5  # folders whose pictures vanished


@dataclass(frozen=True)
class Sources:
    """The galleries of the app and the fields that choose between them."""

    context: Context
    galleries: Galleries
    choice: gr.Radio
    files: Any
    folder_part: Any
    folder: gr.Textbox
    read: gr.Button
    nearby: gr.HTML
    status: gr.HTML
    cancel: gr.Button
    prune: gr.Button

    def gallery(self, chosen: str, album: Album | None) -> Gallery:
        """What is to be searched.

        Raises:
            PictureError, StoreError: there is nothing to search yet, or it is not offered.
        """
        if chosen != UPLOADS:
            return self.galleries.gallery(chosen)
        if album is None:
            raise PictureError("reading.no_pictures")
        return album.opened()


class Uploads(Turns):
    """The reading of one page's uploads; another choice, or other files, end it."""

    def __init__(self) -> None:
        super().__init__()
        self.job: Job[tuple[int, int]] = Job()

    def clear(self) -> None:
        """What is being read is not wanted any more."""
        self.job.stop()


def source_fields(context: Context, galleries: Galleries) -> Sources:
    """Lay out the choice."""
    choices = galleries.choices
    how = None if context.settings.folders or context.settings.shared else phrase(
        "reading.allow_folder")
    choice = gr.Radio([(phrase(f"reading.where.{name}"), name) for name in choices],
                      value=choices[0], label=phrase("reading.where.label"), info=how,
                      elem_id="search-source")
    files = FilesInput(label=phrase("reading.files"), file_count="multiple",
                       file_types=["image", "video"], visible=choices[0] == UPLOADS, height=160,
                       elem_id="search-files")
    with gr.Column(visible=False) as folder_part:
        with gr.Row(equal_height=True):
            folder = gr.Textbox(label=phrase("reading.folder"), placeholder="~/Pictures", scale=4,
                                min_width=180, elem_id="search-folder")
            read = gr.Button(phrase("reading.read"), scale=1, min_width=140,
                             elem_id="search-index")
        nearby = clickable_html(folder_chips(folders_in(context, "")), elem_id="search-folders")
    status = html_output(start_text(context, galleries, choices[0]), "search-status")
    cancel = gr.Button(phrase("reading.cancel"), size="sm", visible=False,
                       elem_id="search-cancel")
    prune = gr.Button(phrase("reading.take_out"), size="sm", visible=False,
                      elem_id="search-prune")
    return Sources(context, galleries, choice, files, folder_part, folder, read, nearby, status,
                   cancel, prune)


def tie_sources(sources: Sources, search: gr.State, search_in: gr.Textbox) -> None:
    """Tie its handlers. A folder that was read is put into ``search_in``."""
    context = sources.context
    job: gr.State = gr.State(Job())

    panel = Panel.of(Uploads())

    def choose(uploads: Uploads, turn: Turn, chosen: str, held: Search, running: Job[Any]
               ) -> Iterator[tuple[Any, ...]]:
        held.drop_album()
        yield (gr.update(visible=chosen == UPLOADS, value=None),
               gr.update(visible=chosen == FOLDER),
               start_text(context, sources.galleries, chosen),
               gr.update(visible=running.running), gr.update(visible=False))

    panel.act(sources.choice.change, choose, [sources.choice, search, job],
              [sources.files, sources.folder_part, sources.status, sources.cancel, sources.prune],
              lambda *_: gr.skip(), **AT_ONCE)
    _tie_folders(context, sources.folder, sources.nearby)
    _tie_uploads(sources, panel, search, job)
    _tie_folder(sources, job, search_in)
    _tie_cancel(sources, panel, job)


def _tie_folders(context: Context, folder: gr.Textbox, nearby: gr.HTML) -> None:
    def pick(event: gr.EventData, typed: str) -> tuple[str, str]:
        choices = folders_in(context, typed or "")
        try:
            chosen = choices[place_of(event, len(choices))]
        except TextError:  # the page is out of date
            chosen = typed
        return chosen, folder_chips(folders_in(context, chosen))

    nearby.click(pick, folder, [folder, nearby], **QUIET)
    folder.blur(lambda typed: folder_chips(folders_in(context, typed or "")), folder, nearby,
                **QUIET)


def _tie_uploads(sources: Sources, panel: Panel, search: gr.State, job: gr.State) -> None:
    context, status, cancel = sources.context, sources.status, sources.cancel

    def upload(uploads: Uploads, turn: Turn, request: gr.Request, paths: list[str] | None,
               held: Search, reading: Job[Any]) -> Iterator[tuple[Any, ...]]:
        refuse_second(reading)
        held.drop_album()
        running: Job[tuple[int, int]] = Job()
        with uploads.writing():
            uploads.job = running
        context.sessions.on_leave(request, running.stop)
        yield (markup.progress(phrase("reading.reading"), 0, len(paths or [])),
               gr.update(visible=True))

        def work() -> Album:
            return album_of_files(context.engine, paths or [], Message("reading.upload"),
                                  running.count)

        try:
            made = yield from followed(running, work, lambda far: (markup.progress(
                phrase("reading.far", done=f"{far[0]:,}", total=f"{far[1]:,}"), *far), gr.skip()))
        except Cancelled:
            yield markup.report([phrase("reading.none_kept")]), gr.update(visible=False)
            return
        context.sessions.on_leave(request, made.close)
        try:
            with uploads.writing():
                held.album = made
        except NotWanted:
            made.close()
            raise
        yield made.report(), gr.update(visible=False)

    def emptied(uploads: Uploads, turn: Turn, held: Search, reading: Job[Any]
                ) -> Iterator[tuple[Any, ...]]:
        held.drop_album()
        yield (start_text(context, sources.galleries, UPLOADS),
               gr.update(visible=reading.running))

    panel.act(sources.files.upload, upload, [sources.files, search, job], [status, cancel],
              lambda error, given: (markup.notice(error), gr.update(visible=given[-1].running)),
              **INDEXING)
    panel.act(sources.files.clear, emptied, [search, job], [status, cancel],
              lambda *_: gr.skip(), **AT_ONCE)


def _tie_cancel(sources: Sources, panel: Panel, job: gr.State) -> None:
    def stop(running: Job[Any], uploads: Uploads) -> str | dict[str, Any]:
        under_way = [one for one in (running, uploads.job) if one.running]
        for one in under_way:
            one.stop()
        return (markup.progress(phrase("reading.cancelling"), 0, 0) if under_way
                else markup.report([phrase("reading.no_job")]))

    sources.cancel.click(stop, [job, panel.state], sources.status, **QUIET)


def _tie_folder(sources: Sources, job: gr.State, search_in: gr.Textbox) -> None:
    """Reading a folder, and the question whether what vanished from it is to be taken out."""
    context, galleries = sources.context, sources.galleries
    asked: gr.State = gr.State(())  # folders that the question is about
    outputs = [sources.status, sources.cancel, search_in, sources.prune, asked]

    def read(request: gr.Request, places: Sequence[Path], running: Job[Progress],
             prune: bool) -> Iterator[tuple[Any, ...]]:
        context.sessions.on_leave(request, running.stop)
        yield (markup.progress(phrase("reading.looking", name=", ".join(map(str, places)),
                                    count=0), 0, 0),
               gr.update(visible=True), gr.skip(), gr.update(visible=False), ())
        report, count = yield from followed(running, lambda: galleries.index(
            places, lambda now: setattr(running, "now", now), lambda: running.stopped, prune),
            lambda now: (reading_html(now), *[gr.skip()] * 4))
        yield (indexed_html(report, count, galleries.lasting), gr.update(visible=False),
               gr.skip() if prune else str(places[0]), gr.update(visible=bool(report.vanished)),
               tuple(one.folder for one in report.vanished))

    failed = guarded(lambda error, given: (
        markup.notice(error), gr.update(visible=given[-1].running), *[gr.skip()] * 3))

    @failed
    def read_folder(request: gr.Request, typed: str, running: Job[Progress]
                    ) -> Iterator[tuple[Any, ...]]:
        refuse_second(running)
        yield from read(request, [allowed_folder(context, typed or "")], running, False)

    @failed
    def take_out(request: gr.Request, folders: tuple[str, ...], running: Job[Progress]
                 ) -> Iterator[tuple[Any, ...]]:
        refuse_second(running)
        yield from read(request, [Path(one) for one in folders], running, True)

    gr.on([sources.read.click, sources.folder.submit], read_folder, [sources.folder, job],
          outputs, **PRIVATE, **INDEXING)
    sources.prune.click(take_out, [asked, job], outputs, **PRIVATE, **INDEXING)


def refuse_second(running: Job[Any]) -> None:
    """Raise `PictureError` where something is being read already."""
    if running.running:
        raise PictureError("reading.under_way")


def reading_html(now: Progress, far: str = "reading.far") -> str:
    """How far the reading of a folder is; ``far`` is the text that says it."""
    if not now.total:
        return markup.progress(phrase("reading.looking", name=now.name, count=f"{now.done:,}"),
                               0, 0)
    told = [phrase(far, done=f"{now.done:,}", total=f"{now.total:,}")]
    if now.per_second:
        told.append(phrase("reading.speed", speed=f"{now.per_second:.3g}"))
    if now.seconds_left:
        told.append(phrase("reading.left", time=duration(now.seconds_left)))
    return markup.progress(" · ".join([*told, now.name]), now.done, now.total)


def indexed_html(report: IndexReport, count: int, lasting: bool) -> str:
    """What came of reading a folder."""
    place = ", ".join(report.folders)
    ready = (report.added + report.changed + report.moved + report.reworded
             + report.unchanged)
    lines = [ready_html(ready, place)]
    if report.cancelled:
        lines = [phrase("reading.cancelled", number=f"{ready:,}", place=html.escape(place))]
    if report.vanished:
        lines.append(vanished_html(report.vanished))
    parts = [phrase(f"reading.changes.{what}", number=f"{getattr(report, what):,}")
             for what in ("added", "changed", "moved", "deleted", "reworded", "unchanged")
             if getattr(report, what)]
    lines.append(phrase("reading.took", changes=", ".join(parts) or "–",
                        seconds=f"{report.seconds:.1f}"))
    lines += map(html.escape, passed_over_lines(report.passed_over))
    if count > ready + sum(one.gone for one in report.vanished):
        lines.append(phrase("reading.with_others", number=f"{count:,}"))
    if not lasting:
        lines.append(phrase("reading.until_closed"))
    return markup.report(lines, *left_out(report))


def left_out(report: IndexReport | DescribeReport) -> tuple[list[str], list[str]]:
    """What was left out and why, and notes on what was read though it is damaged."""
    return ([f"{os.path.basename(one.path)}: {one.reason}" for one in report.skipped],
            [one.reason for one in report.noted])


def vanished_html(vanished: Sequence[Vanished]) -> str:
    """The question what is to become of pictures that are not there any more."""
    places = "; ".join(one.told() for one in vanished[:FOLDERS_TOLD])
    more = len(vanished) - FOLDERS_TOLD
    if more > 0:
        places += "; " + phrase("gallery.more", count=more)
    return phrase("reading.vanished", number=f"{sum(one.gone for one in vanished):,}",
                  places=html.escape(places))


def folder_chips(paths: Sequence[str]) -> str:
    """Folders to choose from, as buttons in HTML."""
    names = [html.escape(os.path.basename(path) or path) for path in paths]
    return markup.choices(names, phrase("reading.folders"), "vt-chips vt-folders",
                   titles=list(map(html.escape, paths))) if names else ""


def start_text(context: Context, galleries: Galleries, chosen: str) -> str:
    """What stands under a choice before anything was read."""
    lasting = chosen == OWNERS or (chosen == FOLDER and galleries.lasting)
    try:
        count = galleries.shared[chosen].gallery().count() if lasting else 0
    except StoreError as error:
        return markup.notice(error)
    if chosen == FOLDER:
        held = [phrase("reading.held", number=f"{count:,}")] if count else []
        return markup.report([*held, phrase("reading.about.folder")])
    count = len(context.examples) if chosen == EXAMPLES else LIMITS.max_uploads
    return markup.report([phrase(f"reading.about.{chosen}", count=count, videos=LIMITS.max_videos,
                                 minutes=LIMITS.max_video_minutes)])
