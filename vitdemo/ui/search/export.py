"""Hits as files."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError, StoreError
from vitdemo.retrieval.export import write_hits
from vitdemo.texts import phrase
from vitdemo.ui.components import PRIVATE, Context, guarded
from vitdemo.ui.downloads import saved, saved_output
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.search.state import Search

KINDS = ("csv", "json", "zip")
FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 4}


def build_hit_files(context: Context, search: gr.State) -> None:
    """Buttons that save the hits of the last search."""
    count = gr.Number(100, label=phrase("search.save.count", most=f"{LIMITS.max_hits:,}"),
                      precision=0, elem_id="search-save-count")
    with gr.Row():
        buttons = {kind: gr.Button(phrase(f"search.save.{kind}"), size="sm",
                                   elem_id=f"search-save-{kind}") for kind in KINDS}
    kept = saved_output("search-saved")
    for kind, button in buttons.items():
        button.click(_saver(context, kind), [search, count], kept, **PRIVATE, **FILES)


def _saver(context: Context, kind: str) -> Any:
    @guarded(lambda error, _: {"error": str(error)})
    def save(request: gr.Request, search: Search, count: float | None
             ) -> Iterator[dict[str, str]]:
        found = search.list
        if not found.hits:
            raise PictureError("search.save.nothing")
        if not count or not 1 <= count <= LIMITS.max_hits:
            raise PictureError("search.save.how_many", most=f"{LIMITS.max_hits:,}")
        if kind == "zip" and found.gallery is not None and found.gallery.index.read_only:
            raise StoreError("store.only_searched")
        yield {"busy": phrase("save.writing")}
        hits = found.first(int(count))
        file = context.sessions.folder(request) / f"vitdemo-hits.{kind}"
        job: Job[tuple[int, int]] = Job()
        context.sessions.on_leave(request, job.stop)
        try:
            missing = yield from followed(job, lambda: write_hits(
                file, hits, found.query.understood(), paths=not context.settings.shared,
                progress=job.count), lambda far: {"busy": phrase(
                    "search.save.copied", done=f"{far[0]:,}", total=f"{far[1]:,}")})
        except Cancelled:  # the page was left
            return
        note = phrase("save.private" if kind == "zip" else "search.save.no_picture")
        if missing:
            note = phrase("search.save.missing", note=note, count=len(missing))
        yield saved(file, note)

    return save
