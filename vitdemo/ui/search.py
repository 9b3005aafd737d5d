"""The tab Search: find pictures by words or by a picture (and `fits`: sentences by a picture)."""

import html
import os
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.errors import PictureError
from vitdemo.records import Hit
from vitdemo.ui.albums import Album, ExampleAlbum, album_of_files, album_of_folder
from vitdemo.ui.checks import check_after, tie_requests
from vitdemo.ui.desk import Desk
from vitdemo.ui.fits import build_fits
from vitdemo.ui.keep import build_downloads
from vitdemo.ui.parts import (
    MODEL,
    QUIET,
    Context,
    FilesInput,
    clickable_html,
    drop_refused,
    empty,
    guarded,
    notice,
    picture_input,
    read_picture,
    refusal,
    thumbnail,
    viewer_output,
)
from vitdemo.ui.places import Place, copy_button

HITS = 12
EXAMPLES = "The example photographs"
UPLOADS = "My own pictures"
FOLDER = "A folder on this computer"
FIND_HINT = "Pictures that fit appear here, the best one first."
WHY = "Choose a picture to see where it fits your words."
BUSY = {"show_progress": "minimal", **MODEL}


def build_search(context: Context) -> tuple[gr.Tabs, tuple[Place, ...]]:
    """Lay out the tab and tie its handlers; gives the tabs in it, and what a link sets there."""
    examples = ExampleAlbum(context)
    album = gr.State(None, delete_callback=_close)
    found = gr.State(None)  # (words searched for or "", hits) of the last search
    desk = gr.State(Desk())
    path = gr.State("")  # of the picture whose maps are on screen
    with gr.Tabs(overflow_behavior="wrap") as inner:
        with gr.Tab("Find pictures", interactive=context.can("embed"), id="find"):
            with gr.Row(elem_classes="vt-columns"):
                with gr.Column(scale=5, min_width=300):
                    _gallery_choice(context, album)
                    words, by_words, query = _query()
                with gr.Column(scale=7, min_width=300):
                    hits = clickable_html(empty(FIND_HINT), elem_id="search-hits")
                    why = viewer_output("", "search-view")
                    place = Place("find", "search-view", words, desk)
                    copy_button(place)
                    build_downloads(context, desk, path, "search")
        with gr.Tab("Which sentence fits?", interactive=context.can("match"), id="fits"):
            fits = build_fits(context)
    _tie_search(context, examples, (album, found), (words, by_words, query),
                (hits, why, desk, path))
    return inner, (place, fits)


def _query() -> tuple[gr.Textbox, gr.Button, gr.Image]:
    words = gr.Textbox(label="Find by words", placeholder="a dog on the beach",
                       elem_id="search-words")
    run = gr.Button("Search", variant="primary", elem_id="search-run")
    with gr.Accordion("Find by picture: what looks like this one?", open=False,
                      elem_id="search-by-picture"):
        query = picture_input("A picture to compare with", height=220, elem_id="search-picture")
    return words, run, query


def _gallery_choice(context: Context, album: gr.State) -> None:
    """Where to search: the examples, uploads or a folder, and a line that reports on it."""
    choices = ([EXAMPLES] if context.examples else []) + [UPLOADS]
    choices += [FOLDER] if context.settings.folders else []
    source = gr.Radio(choices, value=choices[0], label="Where to search", elem_id="search-source")
    files = FilesInput(label="Your pictures, several at once", file_count="multiple",
                       file_types=["image"], visible=choices[0] == UPLOADS, height=160,
                       elem_id="search-files")
    with gr.Row(visible=False, equal_height=True) as folder_row:
        folder = gr.Textbox(label="Folder", placeholder="~/Pictures", scale=4, min_width=180,
                            elem_id="search-folder")
        index = gr.Button("Read folder", scale=1, min_width=110, elem_id="search-index")
    status = gr.HTML(_start_text(context, choices[0]), apply_default_css=False,
                     elem_id="search-status")

    def choose(chosen: str, held: Album | None) -> tuple[Any, Any, str, None]:
        _close(held)
        return (gr.update(visible=chosen == UPLOADS, value=None),
                gr.update(visible=chosen == FOLDER), _start_text(context, chosen), None)

    failed = guarded(lambda error, _: (notice(str(error)), None))

    @failed
    def upload(request: gr.Request, paths: list[str] | None, held: Album | None,
               progress: gr.Progress = gr.Progress()) -> Iterator[tuple[str, Album]]:
        _close(held)
        context.sessions.keep(request, paths or [])
        made = album_of_files(context.engine, paths or [], "your upload",
                              lambda done, total, _: progress((done, total), unit="pictures"))
        context.sessions.on_leave(request, made.close)
        yield made.report(), made

    @failed
    def read_folder(request: gr.Request, typed: str, held: Album | None,
                    progress: gr.Progress = gr.Progress()) -> Iterator[tuple[str, Album]]:
        _close(held)
        made = album_of_folder(context, typed,
                               lambda done, total, _: progress((done, total), unit="pictures"))
        context.sessions.on_leave(request, made.close)
        yield made.report(), made

    source.change(choose, [source, album], [files, folder_row, status, album], **QUIET)
    files.upload(upload, [files, album], [status, album], api_visibility="private", **MODEL)
    gr.on([index.click, folder.submit], read_folder, [folder, album], [status, album],
          api_visibility="private", **MODEL)


def _tie_search(context: Context, examples: ExampleAlbum, held: tuple[Any, ...],
                query: tuple[Any, ...], shown: tuple[Any, ...]) -> None:
    album, found = held
    words, run, picture = query
    hits, why, desk, path = shown
    engine = context.engine

    def gallery(chosen: Album | None) -> Album:
        if chosen is None and not context.examples:
            raise PictureError("Choose pictures to search first.")
        return chosen or examples.get()

    refused = gr.State("")  # the path of a picture that cannot be used
    failed = guarded(lambda error, inputs: (notice(str(error)), None, {}, refusal(error, inputs)))

    @failed
    def by_words(text: str, chosen: Album | None, desk: Desk) -> Iterator[tuple[Any, ...]]:
        desk.clear()
        listed = gallery(chosen).opened().search_text(text, HITS)
        hint = WHY if context.can("match", "explain") else ""
        yield hits_html(listed, hint), (text, listed), {}, ""

    @failed
    def by_picture(request: gr.Request, path: str | None, chosen: Album | None,
                   desk: Desk) -> Iterator[tuple[Any, ...]]:
        if not path:  # emptying the field is an input, too
            return
        desk.clear()
        context.sessions.keep(request, [path])
        photo = read_picture(path)
        listed = gallery(chosen).opened().search_picture(photo, HITS)
        yield hits_html(listed, ""), ("", listed), {}, ""

    @guarded(lambda error, _: ({"message": str(error)}, ""))
    def explain(event: gr.EventData, last: tuple[str, list[Hit]] | None, desk: Desk
                ) -> Iterator[Any]:
        text, listed = last or ("", [])
        if not text or not context.can("match", "explain") or event.index >= len(listed):
            return
        desk.clear()
        photo = read_picture(listed[event.index].path)
        shown = {"picture": viewer.display(photo)}
        yield {**shown, "writing": text}, ""
        yield desk.finish(engine, photo, shown, text, text, checking=context.settings.check_at_once
                          ), listed[event.index].path

    outputs = [hits, found, why, refused]
    gr.on([run.click, words.submit], by_words, [words, album, desk], outputs,
          api_name="search_words", **BUSY)
    given = picture.input(by_picture, [picture, album, desk], outputs, api_name="search_picture",
                          trigger_mode="always_last", **BUSY)
    drop_refused(given, refused, picture)
    explained = hits.click(explain, [found, desk], [why, path], api_visibility="private",
                           show_progress="hidden", **MODEL)
    check_after(context, explained, why, desk, path)
    tie_requests(context, why, desk, path)


def hits_html(hits: Sequence[Hit], hint: str) -> str:
    """Found pictures with their score, as HTML; each is a button where ``hint`` says what for."""
    items = []
    for place, hit in enumerate(hits):
        name = html.escape(os.path.basename(hit.path))
        try:
            image = f'<img src="{thumbnail(hit.path, 320)}" alt="{name}">'
        except PictureError:  # deleted or changed since it was indexed
            image = '<span class="vt-gone">no longer there</span>'
        caption = (f'<span class="vt-name">{name}</span><span class="vt-score" title="How well '
                   f'it fits, from -1 to 1">{hit.score:.3f}</span>')
        tag = "button" if hint else "div"
        items.append(f'<li><{tag} class="vt-hit" data-index="{place}">{image}{caption}'
                     f'</{tag}></li>')
    text = (f"The best {len(hits)}, each with how well it fits (1 is best)."
            if len(hits) > 1 else "The only picture there.") + (f" {hint}" if hint else "")
    return f'<p class="vt-hint">{text}</p><ol class="vt-hits">{"".join(items)}</ol>'


def _start_text(context: Context, chosen: str) -> str:
    text = {EXAMPLES: f"{len(context.examples)} photographs that come with the app.",
            UPLOADS: f"Up to {LIMITS.max_uploads} pictures; they are deleted when you close the "
                     "page.",
            FOLDER: "All pictures in the folder and in the folders below it; they stay where "
                    "they are."}[chosen]
    return f'<div class="vt-report"><p>{text}</p></div>'


def _close(album: Album | None) -> None:
    if album is not None:
        album.close()
