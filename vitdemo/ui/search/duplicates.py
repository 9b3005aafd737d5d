"""Groups of almost the same pictures among those that are searched, for whoever tidies up."""

import html
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.disk import replacing
from vitdemo.errors import PictureError, StoreError
from vitdemo.retrieval.duplicates import BY, Groups, Twin, find_duplicates
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.tables import write_table
from vitdemo.texts import joined, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import PRIVATE, QUIET, Context, guarded, html_output
from vitdemo.ui.downloads import saved, saved_output
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.search.export import FILES
from vitdemo.ui.search.fields import filters_of
from vitdemo.ui.search.hits import image_html
from vitdemo.ui.search.indexing import Sources
from vitdemo.ui.search.state import Search

COMPARING: dict[str, Any] = {"concurrency_id": "compare-all", "concurrency_limit": 1}
GROUPS_SHOWN = 40


def build_duplicates(context: Context, search: gr.State, thumbnails: Thumbnails
                     ) -> Callable[[Sources, list[Any]], None]:
    """Lay them out; gives what ties them to where and by which conditions is searched."""
    job: gr.State = gr.State(Job())
    groups = gr.State(None)  # what was found last
    html_output(markup.heading(phrase("search.twins.title"))
                + markup.hints([phrase("search.twins.about")]))
    keep = gr.Dropdown([(phrase(f"search.twins.by.{name}"), name) for name in BY],
                       value="largest", label=phrase("search.twins.keep"), filterable=False,
                       elem_id="search-twins-keep")
    with gr.Row():
        run, cancel, save = (
            gr.Button(phrase(f"search.twins.{name}"), size="sm", visible=name == "run",
                      elem_id=f"search-twins-{name}") for name in ("run", "cancel", "save"))
    found = html_output(elem_id="search-twins-found")
    kept = saved_output("search-twins-saved")

    def tie(sources: Sources, settings: list[Any]) -> None:
        run.click(_looker(context, sources, thumbnails),
                  [sources.choice, keep, search, job, *settings], [found, cancel, save, groups],
                  **PRIVATE, **COMPARING)
        cancel.click(lambda running: running.stop(), job, None, **QUIET)
        save.click(_table(context), groups, kept, **PRIVATE, **FILES)

    return tie


def _looker(context: Context, sources: Sources, thumbnails: Thumbnails) -> Any:
    @guarded(lambda error, _: (markup.notice(error), gr.update(visible=False), gr.skip(), None))
    def look(request: gr.Request, chosen: str, by: str, search: Search,
             running: Job[tuple[int, int]], *settings: Any) -> Iterator[tuple[Any, ...]]:
        if running.running:
            raise PictureError("search.twins.under_way")
        gallery = sources.gallery(chosen, search.album)
        if gallery.index.read_only:
            raise StoreError("store.only_searched")
        where = filters_of(settings).conditions()
        context.sessions.on_leave(request, running.stop)
        yield (markup.progress(phrase("search.twins.comparing"), 0, 0), gr.update(visible=True),
               gr.update(visible=False), None)
        try:
            result = yield from followed(running, lambda: find_duplicates(
                gallery.index, where, by, progress=running.count), lambda far: (
                    markup.progress(phrase("search.twins.compared", done=f"{far[0]:,}",
                                         total=f"{far[1]:,}"), *far), gr.skip(), gr.skip(), None))
        except Cancelled:
            yield phrase("search.twins.cancelled"), gr.update(visible=False), gr.skip(), None
        else:
            yield (groups_html(result, thumbnails, not context.settings.shared),
                   gr.update(visible=False), gr.update(visible=bool(result.groups)), result)

    return look


def _table(context: Context) -> Any:
    @guarded(lambda error, _: {"error": str(error)})
    def table(request: gr.Request, result: Groups | None) -> Iterator[dict[str, str]]:
        if result is None:
            raise PictureError("search.twins.no_list")
        file = context.sessions.folder(request) / "vitdemo-almost-the-same.csv"
        write_groups(file, result, paths=not context.settings.shared)
        yield saved(file, phrase("search.save.no_picture"))

    return table


def groups_html(found: Groups, thumbnails: Thumbnails, paths: bool = True) -> str:
    """Groups of almost the same pictures, the one to keep first. Without ``paths`` only the names
    of the files are told."""
    copies = sum(len(group.pictures) - 1 for group in found.groups)
    compared = f"{found.compared:,}"
    said = [phrase("search.twins.found", count=len(found.groups), compared=compared,
                   copies=f"{copies:,}") if found.groups
            else phrase("search.twins.none", compared=compared)]
    if found.more:
        said.append(phrase("search.twins.more"))
    if found.gone:
        said.append(phrase("search.twins.gone", count=found.gone))
    if found.groups:
        said.append(phrase("search.twins.nothing_deleted"))
    parts = [markup.status(joined(said))]
    for group in found.groups[:GROUPS_SHOWN]:
        images = thumbnails.many([twin.path for twin in group.pictures])
        keep = phrase("search.twins.kept", reason=group.reason)
        items = []
        for place, (twin, image) in enumerate(zip(group.pictures, images, strict=True)):
            mark = phrase("search.twins.alike", cosine=f"{twin.cosine:.3f}",
                          bits=twin.distance) if place else keep
            items.append(_twin_html(twin, image_html(image, html.escape(
                os.path.basename(twin.path))), mark, paths))
        parts.append(f'<ul class="vt-hits vt-twins">{"".join(items)}</ul>')
    if len(found.groups) > GROUPS_SHOWN:
        largest = html.escape(phrase("search.twins.largest", count=GROUPS_SHOWN))
        parts.append(f'<p class="vt-hint">{largest}</p>')
    return "".join(parts)


def _twin_html(twin: Twin, image: str, mark: str, paths: bool) -> str:
    name = html.escape(os.path.basename(twin.path))
    title = html.escape(twin.path) if paths else name
    day = f", {twin.day}" if twin.day else ""
    return (f'<li class="vt-twin">{image}<span class="vt-name" title="{title}">{name}</span>'
            f'<span class="vt-small">{twin.width} x {twin.height}, {twin.bytes / 1e6:.1f} MB{day}'
            f"<br>{html.escape(mark)}</span></li>")


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
