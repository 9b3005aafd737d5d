"""The tab Search: find pictures by words or by a picture (and which sentence fits a picture)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from vitdemo.preprocess import Picture, open_picture, squeezed
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST, Reranker
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    MODEL,
    Context,
    PageValue,
    carried,
    drop_refused,
    html_output,
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
from vitdemo.ui.search.export import build_hit_files
from vitdemo.ui.search.fields import (
    SETTINGS,
    Fields,
    expert_fields,
    filter_fields,
    filters_of,
    query_fields,
    samples_of,
    wish_of,
)
from vitdemo.ui.search.galleries import Galleries
from vitdemo.ui.search.hits import (
    FIRST,
    hits_output,
    page_html,
    pager_text,
    verdict_html,
)
from vitdemo.ui.search.indexing import Sources, source_fields, tie_sources
from vitdemo.ui.search.rank_sentences import build_fits
from vitdemo.ui.search.state import HitList, Search
from vitdemo.ui.search.why import Views, build_why, tie_why
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.turns import FIRST as BEFORE_ALL
from vitdemo.ui.turns import Panel, Turn, Turns
from vitdemo.video import called

BUSY = {"show_progress": "minimal", **MODEL}


@dataclass(frozen=True)
class Results:
    """Where hits are shown."""

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
                        expected = picture_input(phrase("search.expected"), height=200,
                                                 elem_id="search-other")
                with gr.Column(scale=8, min_width=300):
                    results, newest = _lay_out_results()
                    settings |= {**how, "newest": newest}
                    fields = Fields(words, run, samples, picture, weight,
                                    {name: settings[name] for name in SETTINGS})
                    sheet = Panel.of(Desk())
                    place = _place(context, sources, fields, sheet)
                    with gr.Accordion(phrase("search.save.menu"), open=False,
                                      elem_id="search-save-hits"):
                        build_hit_files(context, panel.state)
                        copy_button(place)
            with gr.Column(elem_classes="vt-sheet", elem_id="search-sheet"):
                views = build_why(context, sheet)
                with save_panel("search"):
                    build_downloads(context, views.desk.state, views.path, "search")
        with gr.Tab(phrase("frame.fits"), interactive=context.can("match"), id="fits"):
            fits = build_fits(context)
    tie_sources(sources, panel.state, fields.settings["folder"])
    search = _Search(context, panel, sources, fields, results, views, Thumbnails(),
                     Reranker(context.engine))
    search.tie_searches(place)
    search.tie_changes()
    tie_why(context, panel.state, results.hits, expected, views, search.page)
    return inner, (place, fits)


def _lay_out_results() -> tuple[Results, gr.Checkbox]:
    """The hits, and the field for their order."""
    with gr.Row(elem_id="search-bar"):
        note = hits_output("", elem_id="search-note")
        newest = gr.Checkbox(label=phrase("search.newest"), container=False, min_width=130,
                             elem_id="search-newest")
    hits = hits_output(markup.empty(phrase("search.start")), elem_id="search-hits")
    with gr.Row(elem_classes="vt-pager"):
        earlier = gr.Button(phrase("search.earlier"), size="sm", visible=False, min_width=80,
                            elem_id="search-earlier")
        which = html_output(elem_id="search-page")
        later = gr.Button(phrase("search.later"), size="sm", visible=False, min_width=80,
                          elem_id="search-later")
    return Results(hits, note, earlier, which, later), newest


def _place(context: Context, sources: Sources, fields: Fields, sheet: Panel) -> Place:
    """What a link sets; no folder, where none is searched."""
    names = {"newest": "sort", "second": "order"}  # in a link
    own = context.settings.own_folders
    return Place("find", "search-view", sheet, {
        "text": fields.words, "in": sources.choice,
        **{names.get(name, name): field for name, field in fields.settings.items()
           if own or name != "folder"}}, go=gr.State(0))


@dataclass(frozen=True)
class _Search:
    """Ties what is looked for to what is shown; ``panel`` keeps a `Search`."""

    context: Context
    panel: Panel
    sources: Sources
    fields: Fields
    results: Results
    views: Views
    thumbnails: Thumbnails
    reranker: Reranker

    def page(self, hits: HitList, only: int = 0) -> str:
        """One page of hits as HTML."""
        can = self.context.can
        return page_html(hits, self.thumbnails, can("match", "explain"), can("embed"), only)

    def _shown(self, hits: HitList, only: int = 0) -> tuple[Any, ...]:
        """The values of hits, note and pages."""
        return (self.page(hits, only), verdict_html(hits), gr.update(visible=hits.page > 1),
                pager_text(hits), gr.update(visible=hits.more()))

    # Searches. Their outputs are the screen, what they clear, a refused picture, and the words.

    def tie_searches(self, place: Place) -> None:
        """Tie all that searches anew."""
        fields, refused = self.fields, PageValue("")
        outputs = [*self.results.screen, *self.views.cleared, refused, fields.words]
        others = [self.views.desk.state, self.views.versus_panel.state]
        inputs = [*others, fields.picture, fields.words, fields.weight, self.sources.choice,
                  *fields.settings.values()]
        off = gr.update(visible=False)

        def failed(error: Exception, given: tuple[Any, ...]) -> tuple[Any, ...]:
            path = given[4] if len(given) > 4 and isinstance(given[4], str) else ""
            return (markup.notice(error), "", off, "", off, *self.views.empty(),
                    refusal(error, path), gr.skip())

        def tie(trigger: Any, work: Any, given: list[Any] = inputs, **settings: Any) -> Any:
            event = self.panel.act(trigger, work, given, outputs, failed, **BUSY, **settings)
            self._tie_second_look(event)
            return event

        assert place.go is not None
        tie([fields.run.click, fields.words.submit], self._search, api_name="search_words")
        # A page that is opened without a link may count as a change, too.
        tie(place.go.change, self._by_link, js=BEFORE_ALL)
        # A picture that is chosen is searched for at once; emptying the field searches nothing.
        given = tie(fields.picture.input, self._by_picture, api_name="search_picture")
        drop_refused(given, refused, fields.picture)
        tie(fields.samples.click, self._by_sample)
        tie(self.results.hits.like, self._like, others)
        tie(self.results.hits.undate, self._undate, others)

    def _search(self, search: Search, turn: Turn, desk: Turns, versus: Turns, path: str | None,
                text: str, weight: float, chosen: str, *settings: Any
                ) -> Iterator[tuple[Any, ...]]:
        yield self._begun(turn, desk, versus)
        photo = self._kept(read_picture(path)) if path else None
        query = Query.of(text or "", photo, float(weight or 1))
        hits = HitList(self.thumbnails.hash_of)
        hits.begin(self.sources.gallery(chosen, search.album), query, filters_of(settings),
                   wish_of(settings))
        yield from self._found(search, hits)

    def _begun(self, turn: Turn, *others: Turns) -> tuple[Any, ...]:
        """What was shown of the hits before goes at once; they stay until others are found."""
        for other in others:
            other.begin(turn.number)
        return *[gr.skip()] * 5, *self.views.empty(), "", gr.skip()

    def _found(self, search: Search, hits: HitList, words: Any = None
               ) -> Iterator[tuple[Any, ...]]:
        """The first row of hits as soon as it is there, then the rest of a long page."""
        search.show(hits)
        rest = (*self.views.empty(), "", gr.skip() if words is None else words)
        if len(hits.shown()) > FIRST:
            yield *self._shown(hits, FIRST), *rest
        yield *self._shown(hits), *rest

    def _kept(self, photo: Picture) -> Picture:
        """A picture as small as the model sees it: it stays with the search."""
        return squeezed(photo, self.context.engine.picture_side)

    def _by_picture(self, search: Search, turn: Turn, desk: Turns, versus: Turns,
                    path: str | None, *rest: Any) -> Iterator[tuple[Any, ...]]:
        if path:  # emptying the field is an input, too
            yield from self._search(search, turn, desk, versus, path, *rest)

    def _by_link(self, search: Search, turn: Turn, desk: Turns, versus: Turns, path: str | None,
                 text: str, *rest: Any) -> Iterator[tuple[Any, ...]]:
        if text:
            yield from self._search(search, turn, desk, versus, path, text, *rest)

    def _by_sample(self, search: Search, turn: Turn, event: gr.EventData, desk: Turns,
                   versus: Turns, path: str | None, _: str, *rest: Any
                   ) -> Iterator[tuple[Any, ...]]:
        samples = samples_of(self.context)  # in the language of who looks
        chosen = samples[place_of(event, len(samples))]
        for shown in self._search(search, turn, desk, versus, path, chosen, *rest):
            yield *shown[:-1], chosen

    def _like(self, search: Search, turn: Turn, event: gr.EventData, desk: Turns, versus: Turns
              ) -> Iterator[tuple[Any, ...]]:
        yield self._begun(turn, desk, versus)
        hit = search.list.hit(carried(event).get("id"))
        photo = self._kept(open_picture(hit.path, name=called(hit.path)))
        label = phrase("query.the_picture", name=photo.name)
        yield from self._found(search, search.list.again(
            Query.of(picture=photo, picture_label=label)))

    def _undate(self, search: Search, turn: Turn, desk: Turns, versus: Turns
                ) -> Iterator[tuple[Any, ...]]:
        yield self._begun(turn, desk, versus)
        hits = search.list.again(replace(search.list.query, date=""))
        yield from self._found(search, hits, hits.query.text)

    # Changes of what is shown. Their outputs are the screen.

    def tie_changes(self) -> None:
        """Tie what shows the same hits otherwise."""
        fields, results = self.fields.settings, self.results
        for trigger, change, inputs in (
                (results.earlier.click, lambda hits: hits.turn(hits.page - 1), []),
                (results.later.click, lambda hits: hits.turn(hits.page + 1), []),
                ([fields[name].input for name in ("size", "second", "newest")],
                 lambda hits, *values: hits.change(wish_of(values)), list(fields.values())),
                (results.note.accept, HitList.accept, [])):
            self._tie_change(trigger, self._changed(change), inputs)
        self._tie_change(results.hits.unfold, self._unfold, [])

    def _tie_change(self, trigger: Any, handler: Any, inputs: list[Any]) -> None:
        self._tie_second_look(self.panel.act(
            trigger, handler, inputs, self.results.screen, _screen_kept, **MODEL))

    def _changed(self, change: Callable[..., None]) -> Any:
        """A handler of such a change."""
        def changed(search: Search, turn: Turn, *values: Any) -> Iterator[tuple[Any, ...]]:
            if search.list.hits:
                hits = replace(search.list)
                change(hits, *values)
                search.show(hits)
                yield self._shown(hits)

        return changed

    def _unfold(self, search: Search, turn: Turn, event: gr.EventData
                ) -> Iterator[tuple[Any, ...]]:
        hit = search.list.hit(carried(event).get("id"))
        yield from self._changed(HitList.unfold)(search, turn, hit.id)

    def _tie_second_look(self, event: Any) -> None:
        """After an event: ask the match head about the best hits; the order on screen stays."""
        def look(search: Search, turn: Turn) -> Iterator[tuple[Any, ...]]:
            found = search.list
            if not (found.wants_second_look() and self.context.can("match")):
                return
            best, query = found.hits[:BEST], found.query
            job: Job[tuple[int, int]] = Job()
            looked = yield from followed(
                job, lambda: self.reranker.order(best, query, progress=job.count),
                lambda far: (gr.skip(), markup.status(phrase("search.hits.looking", done=far[0],
                                                             total=far[1])), *[gr.skip()] * 3))
            hits = replace(found)
            hits.looked_at(list(looked))
            search.show(hits)
            yield self._shown(hits)

        self.panel.follow(event, look, [], self.results.screen, _screen_kept, **LONG)


def _screen_kept(error: Exception, _: tuple[Any, ...]) -> tuple[Any, ...]:
    """The hits as they are, and what went wrong."""
    return gr.skip(), markup.notice(error), *[gr.skip()] * 3
