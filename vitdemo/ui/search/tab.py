"""The tab Search: find pictures by words or by a picture (and which sentence fits a picture)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from vitdemo.preprocess import Picture, open_picture, squeezed
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST, Reranker
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.texts import phrase
from vitdemo.ui.components import (
    MODEL,
    Context,
    PageValue,
    carried,
    drop_refused,
    empty,
    notice,
    picture_input,
    place_of,
    read_picture,
    refusal,
    save_panel,
)
from vitdemo.ui.deep_links import Place, copy_button
from vitdemo.ui.downloads import build_downloads
from vitdemo.ui.jobs import Job, followed
from vitdemo.ui.line import LONG
from vitdemo.ui.search.captions import build_captions
from vitdemo.ui.search.duplicates import build_duplicates
from vitdemo.ui.search.export import build_hit_files
from vitdemo.ui.search.fields import (
    Fields,
    expert_fields,
    filter_fields,
    filters_of,
    order_field,
    query_fields,
    samples_of,
    wish_of,
)
from vitdemo.ui.search.galleries import Galleries
from vitdemo.ui.search.hits import (
    FIRST,
    hits_output,
    looking_html,
    page_html,
    pager_text,
    verdict_html,
)
from vitdemo.ui.search.indexing import Sources, source_fields, tie_sources
from vitdemo.ui.search.link import SEARCH
from vitdemo.ui.search.rank_sentences import build_fits
from vitdemo.ui.search.state import HitList, Search
from vitdemo.ui.search.why import Views, build_why, tie_why
from vitdemo.ui.turns import FIRST as BEFORE_ALL
from vitdemo.ui.turns import Panel, Turn, Turns
from vitdemo.video import called

BUSY = {"show_progress": "minimal", **MODEL}


@dataclass(frozen=True)
class Results:
    """Where hits are shown, and what one person searched for: a `Search`."""

    panel: Panel
    hits: gr.HTML
    note: gr.HTML
    earlier: gr.Button
    which: gr.HTML
    later: gr.Button

    @property
    def screen(self) -> list[Any]:
        """What a search writes on."""
        return [self.hits, self.note, self.earlier, self.which, self.later]


def build_search(context: Context, galleries: Galleries) -> tuple[gr.Tabs, tuple[Place, ...]]:
    """Lay out the tab and tie its handlers; gives the tabs in it, and what a link sets there."""
    panel = Panel.of(Search())
    panel.state.delete_callback = Search.drop_album
    thumbnails = Thumbnails()
    first = "find" if context.can("embed") else "fits"
    with gr.Tabs(overflow_behavior="wrap", selected=first) as inner:
        with gr.Tab(phrase("frame.find"), interactive=context.can("embed"), id="find"):
            with gr.Row(elem_classes="vt-columns"):
                with gr.Column(scale=4, min_width=300, elem_classes="vt-asks"):
                    words, run, samples, picture = query_fields(context)
                    sources = source_fields(context, galleries)
                    build_captions(context, sources)
                    settings = filter_fields(context)
                    with gr.Accordion(phrase("search.experts"), open=False,
                                      elem_id="search-experts"):
                        weight, how = expert_fields(context)
                        settings |= how
                        expected = picture_input(phrase("search.expected"), height=200,
                                                 elem_id="search-other")
                        duplicates = build_duplicates(context, panel.state, thumbnails)
                with gr.Column(scale=8, min_width=300):
                    with gr.Row(elem_id="search-bar"):
                        note = hits_output("", elem_id="search-note")
                        settings["newest"] = order_field()
                    results = _results(panel, note)
                    with gr.Accordion(phrase("search.save.menu"), open=False,
                                      elem_id="search-save-hits"):
                        build_hit_files(context, panel.state)
                        fields = Fields(words, run, samples, picture, weight,
                                        {name: settings[name] for name in SEARCH})
                        place = Place("find", "search-view", words, Panel.of(Turns()),
                                      settings=(sources.choice, *fields.settings.values()),
                                      go=gr.State(0))
                        copy_button(place)
            with gr.Column(elem_classes="vt-sheet", elem_id="search-sheet"):
                views = build_why(context)
                with save_panel("search"):
                    build_downloads(context, views.desk.state, views.path, "search")
        with gr.Tab(phrase("frame.fits"), interactive=context.can("match"), id="fits"):
            fits = build_fits(context)
    place = replace(place, panel=views.desk)
    tie_sources(sources, panel.state, fields.settings["folder"])
    duplicates(sources, list(fields.settings.values()))
    search = _Search(context, sources, fields, results, views, thumbnails)
    search.tie(place)
    tie_why(context, panel.state, results.hits, expected, views, search.page)
    return inner, (place, fits)


def _results(panel: Panel, note: gr.HTML) -> Results:
    hits = hits_output(empty(phrase("search.start")), elem_id="search-hits")
    with gr.Row(elem_classes="vt-pager"):
        earlier = gr.Button(phrase("search.earlier"), size="sm", visible=False, min_width=80,
                            elem_id="search-earlier")
        which = gr.HTML("", apply_default_css=False, elem_id="search-page")
        later = gr.Button(phrase("search.later"), size="sm", visible=False, min_width=80,
                          elem_id="search-later")
    return Results(panel, hits, note, earlier, which, later)


@dataclass(frozen=True)
class _Search:
    """Ties what is looked for to what is shown."""

    context: Context
    sources: Sources
    fields: Fields
    results: Results
    views: Views
    thumbnails: Thumbnails

    def page(self, hits: HitList, only: int = 0) -> str:
        """One page of hits as HTML."""
        can = self.context.can
        return page_html(hits, self.thumbnails, can("match", "explain"), can("embed"), only)

    def _shown(self, hits: HitList, only: int = 0) -> tuple[Any, ...]:
        """The values of hits, note and pages."""
        return (self.page(hits, only), verdict_html(hits), gr.update(visible=hits.page > 1),
                pager_text(hits), gr.update(visible=hits.more()))

    def tie(self, place: Place) -> None:
        """Tie every field that starts a search or changes what is shown."""
        fields, results, panel = self.fields, self.results, self.results.panel
        screen, settings = results.screen, list(fields.settings.values())
        refused = PageValue("")
        outputs = [*screen, *self.views.cleared, refused]
        others = [self.views.desk.state, self.views.versus_panel.state]
        inputs = [fields.picture, *others, fields.words, fields.weight, self.sources.choice,
                  *settings]

        def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            path = given[2] if len(given) > 2 else ""
            return (notice(str(error)), "", gr.update(visible=False), "", gr.update(visible=False),
                    *self.views.empty(), refusal(error, path))

        def failed_like(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return failed(error, given[:2])

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
        sampled = panel.act(fields.samples.click, self._by_sample, inputs,
                            [*outputs, fields.words],
                            lambda error, given: (*failed_like(error, given), gr.skip()),
                            api_visibility="private", **BUSY)
        like = panel.act(results.hits.like, self._like, others, outputs, failed_like,
                         api_visibility="private", **BUSY)
        undated = panel.act(results.hits.undate, self._undate, others, [*outputs, fields.words],
                            lambda error, given: (*failed_like(error, given), gr.skip()),
                            api_visibility="private", **BUSY)
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **MODEL}
        changed = [
            panel.act(results.earlier.click, self._turn(-1), [], screen, kept, **quiet),
            panel.act(results.later.click, self._turn(1), [], screen, kept, **quiet),
            *(panel.act(fields.settings[name].input, self._change, settings, screen, kept, **quiet)
              for name in ("size", "second", "newest")),
            panel.act(results.hits.unfold, self._unfold, [], screen, kept, **quiet),
            panel.act(results.note.accept, self._accept, [], screen, kept, **quiet)]
        look = self._second_look(Reranker(self.context.engine))
        for event in (words, sampled, linked, given, like, undated, *changed):
            panel.follow(event, look, [], screen, kept, **LONG)

    def _search(self, search: Search, turn: Turn, path: str | None,
                desk: Turns, versus: Turns, text: str, weight: float, chosen: str, *settings: Any
                ) -> Iterator[tuple[Any, ...]]:
        yield from self._begin(turn, desk, versus)
        photo = self._kept(read_picture(path)) if path else None
        query = Query.of(text or "", photo, float(weight or 1))
        hits = HitList(self.thumbnails.hash_of)
        hits.begin(self.sources.gallery(chosen, search.album), query, filters_of(settings),
                   wish_of(settings))
        search.show(hits)
        yield from self._both(hits)

    def _begin(self, turn: Turn, *others: Turns) -> Iterator[tuple[Any, ...]]:
        """What was shown of the hits before goes at once; they stay until others are found."""
        for other in others:
            other.begin(turn.number)
        yield *[gr.skip()] * 5, *self.views.empty(), ""

    def _kept(self, photo: Picture) -> Picture:
        """A picture as small as the model sees it: it stays with the search."""
        return squeezed(photo, self.context.engine.picture_side)

    def _by_picture(self, search: Search, turn: Turn, path: str | None,
                    *rest: Any) -> Iterator[tuple[Any, ...]]:
        if path:  # emptying the field is an input, too
            yield from self._search(search, turn, path, *rest)

    def _by_sample(self, search: Search, turn: Turn, event: gr.EventData, path: str | None,
                   desk: Turns, versus: Turns, text: str, *rest: Any
                   ) -> Iterator[tuple[Any, ...]]:
        samples = samples_of(self.context)  # in the language of who looks
        chosen = samples[place_of(event, len(samples))]
        for shown in self._search(search, turn, path, desk, versus, chosen, *rest):
            yield *shown, chosen

    def _by_link(self, search: Search, turn: Turn, path: str | None,
                 desk: Turns, versus: Turns, text: str, *rest: Any) -> Iterator[tuple[Any, ...]]:
        if text:
            yield from self._search(search, turn, path, desk, versus, text, *rest)

    def _both(self, hits: HitList) -> Iterator[tuple[Any, ...]]:
        """The first row of hits as soon as it is there, then the rest of a long page."""
        rest = (*self.views.empty(), "")
        if len(hits.shown()) > FIRST:
            yield *self._shown(hits, FIRST), *rest
        yield *self._shown(hits), *rest

    def _like(self, search: Search, turn: Turn, event: gr.EventData, desk: Turns, versus: Turns
              ) -> Iterator[tuple[Any, ...]]:
        yield from self._begin(turn, desk, versus)
        hit = search.list.hit(carried(event).get("id"))
        photo = self._kept(open_picture(hit.path, name=called(hit.path)))
        hits = replace(search.list)
        hits.like(Query.of(picture=photo,
                           picture_label=phrase("query.the_picture", name=photo.name)))
        search.show(hits)
        yield from self._both(hits)

    def _undate(self, search: Search, turn: Turn, desk: Turns, versus: Turns
                ) -> Iterator[tuple[Any, ...]]:
        for begun in self._begin(turn, desk, versus):
            yield *begun, gr.skip()
        hits = search.list.undated()
        search.show(hits)
        for shown in self._both(hits):
            yield *shown, hits.query.text

    def _changed(self, search: Search, hits: HitList) -> Iterator[tuple[Any, ...]]:
        search.show(hits)
        yield self._shown(hits)

    def _turn(self, step: int) -> Any:
        def turn_page(search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
            hits = replace(search.list)
            hits.turn(hits.page + step)
            yield from self._changed(search, hits)

        return turn_page

    def _change(self, search: Search, turn: Turn, *settings: Any) -> Iterator[tuple[Any, ...]]:
        if search.list.hits:
            hits = replace(search.list)
            hits.change(wish_of(settings))
            yield from self._changed(search, hits)

    def _accept(self, search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
        hits = replace(search.list)
        hits.accept()
        yield from self._changed(search, hits)

    def _unfold(self, search: Search, turn: Turn, event: gr.EventData
                ) -> Iterator[tuple[Any, ...]]:
        hits = replace(search.list)
        hits.unfold(hits.hit(carried(event).get("id")).id)
        yield from self._changed(search, hits)

    def _second_look(self, reranker: Reranker) -> Any:
        """Ask the match head about the best hits; the order on screen stays."""
        def look(search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
            found = search.list
            if not (found.wants_second_look() and self.context.can("match")):
                return
            best, query = found.hits[:BEST], found.query
            job: Job[tuple[int, int]] = Job()
            steps = followed(job, lambda: reranker.order(
                best, query, progress=lambda *far: job.tell(far)))
            try:
                while True:
                    yield gr.skip(), looking_html(*next(steps)), *[gr.skip()] * 3
            except StopIteration as end:
                hits = replace(found)
                hits.looked_at(list(end.value))
                search.show(hits)
                yield self._shown(hits)

        return look
