"""The tab Search: find pictures by words or by a picture, and the sentence that fits a picture."""

import html
import os
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.errors import PictureError, TextError
from vitdemo.records import Hit, Match
from vitdemo.ui.albums import Album, ExampleAlbum, album_of_files, album_of_folder
from vitdemo.ui.describe import finished
from vitdemo.ui.parts import (
    MODEL,
    QUIET,
    Context,
    FilesInput,
    bars,
    clickable_html,
    drop_refused,
    guarded,
    notice,
    picture_input,
    read_picture,
    refusal,
    thumbnail,
    viewer_output,
)

HITS = 12
EXAMPLES = "The example photographs"
UPLOADS = "My own pictures"
FOLDER = "A folder on this computer"
FIND_HINT = "Pictures that fit appear here, the best one first."
WHY = "Choose a picture to see where it fits your words."
BUSY = {"show_progress": "minimal", **MODEL}


def build_search(context: Context) -> None:
    """Lay out the tab and tie its handlers."""
    examples = ExampleAlbum(context)
    album = gr.State(None, delete_callback=_close)
    found = gr.State(None)  # (words searched for or "", hits) of the last search
    with gr.Tabs():
        with gr.Tab("Find pictures", interactive=context.can("embed"), id="find"):
            with gr.Row(elem_classes="vt-columns"):
                with gr.Column(scale=5, min_width=300):
                    _gallery_choice(context, album)
                    words, by_words, query = _query()
                with gr.Column(scale=7, min_width=300):
                    hits = clickable_html(_empty(FIND_HINT), elem_id="search-hits")
                    why = viewer_output("", "search-view")
        with gr.Tab("Which sentence fits?", interactive=context.can("match"), id="fits"):
            _build_fits(context)
    _tie_search(context, examples, (album, found), (words, by_words, query), (hits, why))


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
    hits, why = shown
    engine = context.engine

    def gallery(chosen: Album | None) -> Album:
        if chosen is None and not context.examples:
            raise PictureError("Choose pictures to search first.")
        return chosen or examples.get()

    refused = gr.State("")  # the path of a picture that cannot be used
    failed = guarded(lambda error, inputs: (notice(str(error)), None, {}, refusal(error, inputs)))

    @failed
    def by_words(text: str, chosen: Album | None) -> Iterator[tuple[Any, ...]]:
        listed = gallery(chosen).opened().search_text(text, HITS)
        hint = WHY if context.can("match", "explain") else ""
        yield hits_html(listed, hint), (text, listed), {}, ""

    @failed
    def by_picture(request: gr.Request, path: str | None,
                   chosen: Album | None) -> Iterator[tuple[Any, ...]]:
        if not path:  # emptying the field is an input, too
            return
        context.sessions.keep(request, [path])
        photo = read_picture(path)
        listed = gallery(chosen).opened().search_picture(photo, HITS)
        yield hits_html(listed, ""), ("", listed), {}, ""

    @guarded(lambda error, _: {"message": str(error)})
    def explain(event: gr.EventData, last: tuple[str, list[Hit]] | None) -> Iterator[Any]:
        text, listed = last or ("", [])
        if not text or not context.can("match", "explain") or event.index >= len(listed):
            return
        photo = read_picture(listed[event.index].path)
        shown = {"picture": viewer.display(photo)}
        yield {**shown, "writing": text}
        yield finished(engine, shown, list(engine.explain(photo, text)), text)

    outputs = [hits, found, why, refused]
    gr.on([run.click, words.submit], by_words, [words, album], outputs, api_name="search_words",
          **BUSY)
    given = picture.input(by_picture, [picture, album], outputs, api_name="search_picture",
                          trigger_mode="always_last", **BUSY)
    drop_refused(given, refused, picture)
    hits.click(explain, found, why, api_visibility="private", show_progress="hidden", **MODEL)


def _build_fits(context: Context) -> None:
    """The other way round: which of several sentences fits one picture."""
    with gr.Row(elem_classes="vt-columns"):
        with gr.Column(scale=5, min_width=300):
            picture = picture_input(elem_id="fits-picture")
            sentences = gr.Textbox(
                label="Sentences, one on each line", lines=5, max_lines=12,
                placeholder="a dog on the beach\na man riding a bicycle\na plate of food",
                elem_id="fits-sentences")
            run = gr.Button("Compare", variant="primary", elem_id="fits-run")
        with gr.Column(scale=7, min_width=300):
            start = _empty("How well each sentence fits appears here, the best one first.")
            result = gr.HTML(start, apply_default_css=False, elem_id="fits-result")
            view = viewer_output("", "fits-view")

    refused = gr.State("")  # the path of a picture that cannot be used
    failed = guarded(lambda error, inputs: (notice(str(error)), {}, refusal(error, inputs)))

    @failed
    def fits(request: gr.Request, path: str | None, text: str
             ) -> Iterator[tuple[str, dict[str, Any], str]]:
        context.sessions.keep(request, [path])
        photo = read_picture(path)
        ranked = rank(context.engine.match(photo, lines_of(text)))
        table = match_bars(ranked)
        yield table, {}, ""
        if context.can("explain"):
            shown = {"picture": viewer.display(photo)}
            maps = list(context.engine.explain(photo, ranked[0].text))
            yield table, finished(context.engine, shown, maps, ranked[0].text), ""

    @failed
    def take(request: gr.Request, path: str | None) -> Iterator[tuple[str, dict[str, Any], str]]:
        if path:  # emptying the field is an input, too
            context.sessions.keep(request, [path])
            read_picture(path)
            yield start, {}, ""

    outputs = [result, view, refused]
    ran = run.click(fits, [picture, sentences], outputs, api_name="match", **BUSY)
    given = picture.input(take, picture, outputs, api_visibility="private",
                          show_progress="hidden", trigger_mode="always_last")
    picture.clear(lambda: (start, {}), None, [result, view], **QUIET)
    for event in (ran, given):
        drop_refused(event, refused, picture)


def lines_of(text: str) -> list[str]:
    """The sentences of a text, one on each line, empty lines left out.

    Raises:
        TextError: there is none, or there are too many.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise TextError("Write at least one sentence, each on a line of its own.")
    if len(lines) > LIMITS.max_sentences:
        raise TextError(f"{len(lines)} sentences are too many; the limit is "
                        f"{LIMITS.max_sentences}.")
    return lines


def rank(matches: Sequence[Match]) -> list[Match]:
    """Best first."""
    return sorted(matches, key=lambda match: match.score, reverse=True)


def match_bars(ranked: Sequence[Match]) -> str:
    """Sentences with how likely each one fits, as HTML."""
    rows = [(match.text, match.score) for match in ranked]
    return ('<h2 class="vt-heading">How likely each sentence fits the picture</h2>'
            f'{bars(rows, "Sentences and how likely they fit", best_large=True)}')


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


def _empty(text: str) -> str:
    return f'<p class="vt-empty">{html.escape(text)}</p>'


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
