"""The tab Search: find pictures by words or by a picture (and `fits`: sentences by a picture)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo.preprocess import open_picture
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST, Reranker
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.ui.desk import Desk
from vitdemo.ui.finding import Finding
from vitdemo.ui.fits import build_fits
from vitdemo.ui.indexing import Sources, source_fields, tie_sources
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.keep import build_downloads
from vitdemo.ui.parts import (
    MODEL,
    Context,
    drop_refused,
    empty,
    guarded,
    notice,
    read_picture,
    refusal,
    viewer_output,
)
from vitdemo.ui.places import Place, copy_button
from vitdemo.ui.search_fields import Fields, filters_of, query_fields
from vitdemo.ui.search_hits import FIRST, hits_output, page_html, pager_text
from vitdemo.ui.search_keep import build_duplicates, build_hit_files
from vitdemo.ui.search_why import Views, build_why, tie_why

FIND_HINT = "Pictures that fit appear here, the best one first."
BUSY = {"show_progress": "minimal", **MODEL}


@dataclass(frozen=True)
class Results:
    """Where hits are shown, and what one person searched for."""

    finding: gr.State
    hits: gr.HTML
    note: gr.HTML
    pages: tuple[Any, ...]  # earlier, which, later


def build_search(context: Context) -> tuple[gr.Tabs, tuple[Place, ...]]:
    """Lay out the tab and tie its handlers; gives the tabs in it, and what a link sets there."""
    finding = gr.State(Finding(), delete_callback=_close)
    desk = gr.State(Desk())
    path = gr.State("")  # of the picture whose maps are on screen
    thumbnails = Thumbnails()
    with gr.Tabs(overflow_behavior="wrap") as inner:
        with gr.Tab("Find pictures", interactive=context.can("embed"), id="find"):
            with gr.Row(elem_classes="vt-columns"):
                with gr.Column(scale=5, min_width=300):
                    sources = source_fields(context)
                    fields = query_fields(context)
                with gr.Column(scale=7, min_width=300):
                    results = _results(finding)
                    views = build_why(context, viewer_output("", "search-view"), desk, path)
                    place = Place("find", "search-view", fields.words, desk,
                                  settings=(sources.choice, *fields.settings), go=gr.State(0))
                    copy_button(place)
                    build_downloads(context, desk, path, "search")
                    build_hit_files(context, finding)
                    build_duplicates(context, sources, finding, fields, thumbnails)
        with gr.Tab("Which sentence fits?", interactive=context.can("match"), id="fits"):
            fits = build_fits(context)
    tie_sources(sources, finding, fields.folder)
    search = _Search(context, sources, fields, results, views, thumbnails)
    search.tie(place)
    tie_why(context, finding, results.hits, views, search.page)
    return inner, (place, fits)


def _results(finding: gr.State) -> Results:
    note = gr.HTML("", apply_default_css=False, elem_id="search-note")
    hits = hits_output(empty(FIND_HINT), elem_id="search-hits")
    with gr.Row(elem_classes="vt-pager"):
        earlier = gr.Button("Earlier", size="sm", visible=False, min_width=80,
                            elem_id="search-earlier")
        which = gr.HTML("", apply_default_css=False, elem_id="search-page")
        later = gr.Button("Later", size="sm", visible=False, min_width=80, elem_id="search-later")
    return Results(finding, hits, note, (earlier, which, later))


@dataclass(frozen=True)
class _Search:
    """Ties what is looked for to what is shown."""

    context: Context
    sources: Sources
    fields: Fields
    results: Results
    views: Views
    thumbnails: Thumbnails

    def page(self, finding: Finding, only: int = 0) -> str:
        """One page of hits as HTML."""
        can = self.context.can
        return page_html(finding, self.thumbnails, can("match", "explain"), can("embed"), only)

    def _shown(self, finding: Finding, only: int = 0) -> tuple[Any, ...]:
        """The values of hits, note and pages."""
        return (self.page(finding, only), "", gr.update(visible=finding.page > 1),
                pager_text(finding), gr.update(visible=finding.more()))

    def tie(self, place: Place) -> None:
        """Tie every field that starts a search or changes what is shown."""
        fields, results = self.fields, self.results
        finding, desk = results.finding, self.views.desk
        screen = [results.hits, results.note, *results.pages]
        refused = gr.State("")  # the path of a picture that cannot be used
        outputs = [*screen, *self.views.cleared, refused]
        inputs = [fields.picture, fields.words, fields.weight, self.sources.choice, finding, desk,
                  *fields.settings]

        def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (notice(str(error)), "", gr.update(visible=False), "", gr.update(visible=False),
                    *self.views.empty(), refusal(error, given))

        search = guarded(failed)(self._search)
        assert place.go is not None
        words = gr.on([fields.run.click, fields.words.submit], search, inputs, outputs,
                      api_name="search_words", **BUSY)
        linked = place.go.change(guarded(failed)(self._by_link), inputs, outputs,
                                 api_visibility="private", **BUSY)
        # A picture that is chosen is searched for at once; emptying the field searches nothing.
        given = fields.picture.input(guarded(failed)(self._by_picture), inputs, outputs,
                                     api_name="search_picture", trigger_mode="always_last", **BUSY)
        drop_refused(given, refused, fields.picture)
        alike = guarded(lambda error, _: failed(error, ("", "")))(self._like)
        like = results.hits.click(alike, [finding, desk], outputs, api_visibility="private", **BUSY)
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **MODEL}
        kept = guarded(lambda error, _: (gr.skip(), notice(str(error)), *[gr.skip()] * 3))
        turned = [
            results.pages[0].click(kept(self._turn(-1)), finding, screen, **quiet),
            results.pages[2].click(kept(self._turn(1)), finding, screen, **quiet),
            fields.size.input(kept(self._resize), [fields.size, finding], screen, **quiet),
            fields.second.input(kept(self._switch), [fields.second, finding], screen, **quiet)]
        reranker = Reranker(self.context.engine)
        for event in (words, linked, given, like, *turned):
            event.then(kept(self._second_look(reranker)), finding, screen,
                       trigger_mode="multiple", **quiet)  # that of an older search is dropped

    def _search(self, request: gr.Request, path: str | None, text: str, weight: float,
                chosen: str, finding: Finding, desk: Desk, *settings: Any
                ) -> Iterator[tuple[Any, ...]]:
        desk.clear()
        self.context.sessions.keep(request, [path])
        photo = read_picture(path) if path else None
        query = Query.of(text or "", photo, float(weight or 1))
        finding.begin(self.sources.gallery(chosen, finding), query, filters_of(settings),
                      settings[9], bool(settings[10]))
        yield from self._both(finding)

    def _by_picture(self, request: gr.Request, path: str | None, *rest: Any
                    ) -> Iterator[tuple[Any, ...]]:
        if path:  # emptying the field is an input, too
            yield from self._search(request, path, *rest)

    def _by_link(self, request: gr.Request, path: str | None, text: str, *rest: Any
                 ) -> Iterator[tuple[Any, ...]]:
        if text:  # a page that is opened without a link may count as a change, too
            yield from self._search(request, path, text, *rest)

    def _both(self, finding: Finding) -> Iterator[tuple[Any, ...]]:
        """The first row of hits as soon as it is there, then the rest of a long page."""
        rest = (*self.views.empty(), "")
        if len(finding.shown()) > FIRST:
            yield *self._shown(finding, FIRST), *rest
        yield *self._shown(finding), *rest

    def _like(self, event: gr.EventData, finding: Finding, desk: Desk
              ) -> Iterator[tuple[Any, ...]]:
        if event._data.get("act") != "like":
            return
        hit = finding.hit(event._data.get("id"))
        photo = open_picture(hit.path)
        desk.clear()
        finding.like(Query.of(picture=photo, picture_label=f"the picture “{photo.name}”"))
        yield from self._both(finding)

    def _turn(self, step: int) -> Any:
        def turn(finding: Finding) -> Iterator[tuple[Any, ...]]:
            finding.turn(finding.page + step)
            yield self._shown(finding)

        return turn

    def _resize(self, size: object, finding: Finding) -> Iterator[tuple[Any, ...]]:
        if finding.hits:
            finding.resize(int(str(size)))
            yield self._shown(finding)

    def _switch(self, second: bool, finding: Finding) -> Iterator[tuple[Any, ...]]:
        finding.second = bool(second)
        if finding.hits:
            yield self._shown(finding)

    def _second_look(self, reranker: Reranker) -> Any:
        """Ask the match head about the best hits, and show the new order."""
        def look(finding: Finding) -> Iterator[tuple[Any, ...]]:
            if not (finding.wants_second_look() and self.context.can("match")):
                return
            run, best, query = finding.run, finding.hits[:BEST], finding.query
            job: Job[tuple[int, int]] = Job()

            def tell(done: int, total: int) -> None:
                if finding.run != run or not finding.second:
                    job.stop()
                job.tell((done, total))

            try:
                steps = followed(job, lambda: reranker.order(best, query, progress=tell))
                try:
                    while True:
                        done, total = next(steps)
                        yield gr.skip(), _looking(done, total), *[gr.skip()] * 3
                except StopIteration as end:
                    if finding.take(run, end.value):
                        yield self._shown(finding)
            except Cancelled:  # another search was begun: nobody waits for this one
                return

        return look


def _looking(done: int, total: int) -> str:
    return (f'<p class="vt-hint" role="status">Looking again at the best {total}: {done} done. '
            "The order may change.</p>")


def _close(finding: Finding) -> None:
    if finding.album is not None:
        finding.album.close()
