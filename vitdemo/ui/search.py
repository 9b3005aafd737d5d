"""The tab Search: find pictures by words or by a picture (and `fits`: sentences by a picture)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from vitdemo.preprocess import Picture, open_picture, squeezed
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST, Reranker
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.ui.albums import ExampleAlbum, Library
from vitdemo.ui.desk import Desk
from vitdemo.ui.finding import Finding, Search
from vitdemo.ui.fits import build_fits
from vitdemo.ui.indexing import Sources, source_fields, tie_sources
from vitdemo.ui.jobs import Job, followed
from vitdemo.ui.keep import build_downloads
from vitdemo.ui.line import LONG
from vitdemo.ui.parts import (
    MODEL,
    Context,
    PageValue,
    carried,
    drop_refused,
    empty,
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
from vitdemo.ui.turns import FIRST as BEFORE_ALL
from vitdemo.ui.turns import Panel, Turn, Turns

FIND_HINT = "Pictures that fit appear here, the best one first."
BUSY = {"show_progress": "minimal", **MODEL}


@dataclass(frozen=True)
class Results:
    """Where hits are shown, and what one person searched for: a `Search`."""

    panel: Panel
    hits: gr.HTML
    note: gr.HTML
    pages: tuple[Any, ...]  # earlier, which, later


def build_search(context: Context, examples: ExampleAlbum, library: Library
                 ) -> tuple[gr.Tabs, tuple[Place, ...]]:
    """Lay out the tab and tie its handlers; gives the tabs in it, and what a link sets there."""
    panel, desk = Panel.of(Search()), Panel.of(Desk())
    panel.state.delete_callback = Search.drop_album
    path = gr.State("")  # of the picture whose maps are on screen
    thumbnails = Thumbnails()
    with gr.Tabs(overflow_behavior="wrap") as inner:
        with gr.Tab("Find pictures", interactive=context.can("embed"), id="find"):
            with gr.Row(elem_classes="vt-columns"):
                with gr.Column(scale=5, min_width=300):
                    sources = source_fields(context, examples, library)
                    fields = query_fields(context)
                with gr.Column(scale=7, min_width=300):
                    results = _results(panel)
                    views = build_why(context, viewer_output("", "search-view"), desk, path)
                    place = Place("find", "search-view", fields.words, desk,
                                  settings=(sources.choice, *fields.settings), go=gr.State(0))
                    copy_button(place)
                    build_downloads(context, desk.state, path, "search")
                    build_hit_files(context, panel.state)
                    build_duplicates(context, sources, panel.state, fields, thumbnails)
        with gr.Tab("Which sentence fits?", interactive=context.can("match"), id="fits"):
            fits = build_fits(context)
    tie_sources(sources, panel.state, fields.folder)
    search = _Search(context, sources, fields, results, views, thumbnails)
    search.tie(place)
    tie_why(context, panel.state, results.hits, views, search.page)
    return inner, (place, fits)


def _results(panel: Panel) -> Results:
    note = gr.HTML("", apply_default_css=False, elem_id="search-note")
    hits = hits_output(empty(FIND_HINT), elem_id="search-hits")
    with gr.Row(elem_classes="vt-pager"):
        earlier = gr.Button("Earlier", size="sm", visible=False, min_width=80,
                            elem_id="search-earlier")
        which = gr.HTML("", apply_default_css=False, elem_id="search-page")
        later = gr.Button("Later", size="sm", visible=False, min_width=80, elem_id="search-later")
    return Results(panel, hits, note, (earlier, which, later))


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
        fields, results, panel = self.fields, self.results, self.results.panel
        screen = [results.hits, results.note, *results.pages]
        refused = PageValue("")
        outputs = [*screen, *self.views.cleared, refused]
        others = [self.views.desk.state, self.views.versus_panel.state]
        inputs = [fields.picture, *others, fields.words, fields.weight, self.sources.choice,
                  *fields.settings]

        def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (notice(str(error)), "", gr.update(visible=False), "", gr.update(visible=False),
                    *self.views.empty(), refusal(error, given[3]))

        def failed_like(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return failed(error, (*given[:3], ""))

        def kept(error: Exception, _: tuple[Any, ...]) -> tuple[Any, ...]:
            return gr.skip(), notice(str(error)), *[gr.skip()] * 3

        assert place.go is not None
        words = panel.act([fields.run.click, fields.words.submit], self._search, inputs, outputs,
                          failed, api_name="search_words", api_visibility="private", **BUSY)
        # A page that is opened without a link may count as a change, too.
        linked = panel.act(place.go.change, self._by_link, inputs, outputs, failed,
                           js=BEFORE_ALL, api_visibility="private", **BUSY)
        # A picture that is chosen is searched for at once; emptying the field searches nothing.
        given = panel.act(fields.picture.input, self._by_picture, inputs, outputs, failed,
                          api_name="search_picture", api_visibility="private", **BUSY)
        drop_refused(given, refused, fields.picture)
        like = panel.act(results.hits.like, self._like, others, outputs, failed_like,
                         api_visibility="private", **BUSY)
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **MODEL}
        turned = [
            panel.act(results.pages[0].click, self._turn(-1), [], screen, kept, **quiet),
            panel.act(results.pages[2].click, self._turn(1), [], screen, kept, **quiet),
            panel.act(fields.size.input, self._resize, [fields.size], screen, kept, **quiet),
            panel.act(fields.second.input, self._switch, [fields.second], screen, kept, **quiet)]
        look = self._second_look(Reranker(self.context.engine))
        for event in (words, linked, given, like, *turned):
            panel.follow(event, look, [], screen, kept, **LONG)

    def _search(self, search: Search, turn: Turn, request: gr.Request, path: str | None,
                desk: Desk, versus: Turns, text: str, weight: float, chosen: str, *settings: Any
                ) -> Iterator[tuple[Any, ...]]:
        yield from self._begin(turn, desk, versus)
        photo = self._kept(read_picture(path)) if path else None
        query = Query.of(text or "", photo, float(weight or 1))
        finding = Finding()
        finding.begin(self.sources.gallery(chosen, search.album), query, filters_of(settings),
                      settings[9], bool(settings[10]))
        search.show(finding)
        yield from self._both(finding)

    def _begin(self, turn: Turn, *others: Turns) -> Iterator[tuple[Any, ...]]:
        """What was shown of the hits before goes at once; they stay until others are found."""
        for other in others:
            other.begin(turn.number)
        yield *[gr.skip()] * 5, *self.views.empty(), ""

    def _kept(self, photo: Picture) -> Picture:
        """A picture as small as the model sees it: it stays with the search."""
        return squeezed(photo, self.context.engine.picture_side)

    def _by_picture(self, search: Search, turn: Turn, request: gr.Request, path: str | None,
                    *rest: Any) -> Iterator[tuple[Any, ...]]:
        if path:  # emptying the field is an input, too
            yield from self._search(search, turn, request, path, *rest)

    def _by_link(self, search: Search, turn: Turn, request: gr.Request, path: str | None,
                 desk: Desk, versus: Turns, text: str, *rest: Any) -> Iterator[tuple[Any, ...]]:
        if text:
            yield from self._search(search, turn, request, path, desk, versus, text, *rest)

    def _both(self, finding: Finding) -> Iterator[tuple[Any, ...]]:
        """The first row of hits as soon as it is there, then the rest of a long page."""
        rest = (*self.views.empty(), "")
        if len(finding.shown()) > FIRST:
            yield *self._shown(finding, FIRST), *rest
        yield *self._shown(finding), *rest

    def _like(self, search: Search, turn: Turn, event: gr.EventData, desk: Desk, versus: Turns
              ) -> Iterator[tuple[Any, ...]]:
        yield from self._begin(turn, desk, versus)
        hit = search.finding.hit(carried(event).get("id"))
        photo = self._kept(open_picture(hit.path))
        finding = replace(search.finding)
        finding.like(Query.of(picture=photo, picture_label=f"the picture “{photo.name}”"))
        search.show(finding)
        yield from self._both(finding)

    def _turn(self, step: int) -> Any:
        def turn_page(search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
            finding = replace(search.finding)
            finding.turn(finding.page + step)
            search.show(finding)
            yield self._shown(finding)

        return turn_page

    def _resize(self, search: Search, turn: Turn, size: object) -> Iterator[tuple[Any, ...]]:
        if search.finding.hits:
            finding = replace(search.finding)
            finding.resize(int(str(size)))
            search.show(finding)
            yield self._shown(finding)

    def _switch(self, search: Search, turn: Turn, second: bool) -> Iterator[tuple[Any, ...]]:
        finding = replace(search.finding, second=bool(second))
        search.show(finding)
        if finding.hits:
            yield self._shown(finding)

    def _second_look(self, reranker: Reranker) -> Any:
        """Ask the match head about the best hits, and show the new order."""
        def look(search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
            finding = search.finding
            if not (finding.wants_second_look() and self.context.can("match")):
                return
            best, query = finding.hits[:BEST], finding.query
            job: Job[tuple[int, int]] = Job()
            steps = followed(job, lambda: reranker.order(
                best, query, progress=lambda *far: job.tell(far)))
            try:
                while True:
                    done, total = next(steps)
                    yield gr.skip(), _looking(done, total), *[gr.skip()] * 3
            except StopIteration as end:
                search.show(replace(finding, head=list(end.value)))
                yield self._shown(search.finding)

        return look


def _looking(done: int, total: int) -> str:
    return (f'<p class="vt-hint" role="status">Looking again at the best {total}: {done} done. '
            "The order may change.</p>")

