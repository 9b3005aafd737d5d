"""The app's pages, on Gradio: `build_ui` lays them out over an engine."""

from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.context import Context as ids

from vitdemo.engine import Engine
from vitdemo.retrieval.read_only import OwnersPictures
from vitdemo.texts import DEFAULT, LANGUAGES, phrase, speaking
from vitdemo.ui import markup
from vitdemo.ui.api import build_api
from vitdemo.ui.blocks import AppBlocks
from vitdemo.ui.camera_notice import camera_notice
from vitdemo.ui.components import (
    QUIET,
    Context,
    FilesInput,
    PictureInput,
    Settings,
    drop_refused,
    html_output,
    readable_examples,
    text_output,
)
from vitdemo.ui.deep_links import open_links
from vitdemo.ui.health import Health
from vitdemo.ui.language import CHOOSE, switch
from vitdemo.ui.launching import launch_settings
from vitdemo.ui.line import use_visitor_line
from vitdemo.ui.model_panel import build_model_panel
from vitdemo.ui.search.galleries import Galleries
from vitdemo.ui.search.tab import build_search
from vitdemo.ui.server_rules import ServerRules
from vitdemo.ui.session import Sessions
from vitdemo.ui.stream import watch_stream
from vitdemo.ui.switching import Switch
from vitdemo.ui.tabs.ask import build_ask
from vitdemo.ui.tabs.compare import build_compare
from vitdemo.ui.tabs.describe import build_describe
from vitdemo.ui.tabs.opening import Opening, open_with_result
from vitdemo.ui.tabs.picture_tab import share_picture
from vitdemo.ui.tour.steps import Guide
from vitdemo.ui.tour.tab import build_invitation, build_tour
from vitdemo.ui.turns import Turns

TRIES = 20  # at laying the pages out

__all__ = ["OwnersPictures", "ServerRules", "Settings", "build_ui", "launch_settings"]


def build_ui(engine: Engine, settings: Settings = Settings()) -> gr.Blocks:
    """The whole app; launch it with `launch_settings`."""
    examples, sessions = readable_examples(settings.examples), Sessions()
    load, switch = settings.load_model, None

    def build(engine: Engine, model: str) -> AppBlocks:
        return _build(Context(engine, replace(settings, model=model), sessions, examples), switch)

    if settings.choose_model and load is not None:
        switch = Switch(load, build)
    blocks = build(engine, settings.model)
    if switch is not None:
        switch.serve(blocks)
    return blocks


def _build(context: Context, switch: Switch | None) -> AppBlocks:
    """The pages of one engine, in every language."""
    engine, settings = context.engine, context.settings
    opening, guide = Opening(context), Guide(engine)
    for _ in range(TRIES):
        pages, alike = _in_every_language(context, Galleries(context), opening, guide, switch)
        if alike:
            break
    assert alike, "the page has other parts in another language"
    blocks = pages.pop(DEFAULT)
    blocks.translations.update(pages)
    use_visitor_line(blocks)
    blocks.health = Health(blocks, engine)
    opening.start()
    if opening.possible and settings.check_at_once:
        guide.start(context.examples[0])
    return blocks


def _in_every_language(context: Context, *rest: Any) -> tuple[dict[str, AppBlocks], bool]:
    """The page in each language, and whether its parts have the same numbers in all, by which
    events name them. They have not where the server made parts of its own meanwhile, for an event
    of another page."""
    first, ends, pages = ids.id, set(), {}
    for code in LANGUAGES:
        ids.id = first
        with speaking(code):
            pages[code] = _page(context, *rest)
        ends.add((ids.id, tuple(pages[code].blocks)))
    return pages, len(ends) == 1


def _page(context: Context, galleries: Galleries, opening: Opening, guide: Guide,
          switch: Switch | None) -> AppBlocks:
    """The page in the current language."""
    with AppBlocks(context.sessions, title="vitdemo", analytics_enabled=False) as blocks:
        build_api(context, blocks, galleries)  # first, so that the names are its own
        html_output(_header(context), js_on_load=CHOOSE)
        linked = html_output(elem_id="linked")
        camera_notice()
        watch_stream()
        invitation = build_invitation(context)
        can = {"describe": context.can("caption"), "ask": context.can("ask"),
               "search": context.can("embed") or context.can("match"),
               "compare": context.can("explain")
               and (context.can("caption") or context.can("match")), "tour": True}
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap",
                     selected=next(name for name, there in can.items() if there)) as tabs:
            with gr.Tab(phrase("tab.describe"), id="describe", interactive=can["describe"]):
                describe = build_describe(context)
            # Its field is there from the start: a picture that comes while it is made gets lost.
            with gr.Tab(phrase("tab.ask"), id="ask", interactive=can["ask"],
                        render_children=True):
                ask = build_ask(context)
            with gr.Tab(phrase("tab.search"), id="search", interactive=can["search"]):
                inner, places = build_search(context, galleries)
            with gr.Tab(phrase("tab.compare"), id="compare",
                        interactive=can["compare"]) as compare:
                build_compare(context, compare, describe.picture)
            with gr.Tab(phrase("tab.tour"), id="tour") as tour:
                build_tour(context, guide, invitation, tour, tabs)
        privacy = "frame.privacy_server" if context.settings.shared else "frame.privacy_here"
        text_output(phrase(privacy, model=context.engine.info.name))
        build_model_panel(context, switch)
        assert describe.place is not None and ask.place is not None
        open_links(context, blocks, (describe.place, ask.place, *places), tabs, inner, linked)
        open_with_result(opening, blocks, describe)
        for here, there in ((describe, ask), (ask, describe)):
            share_picture(here, there)  # both tabs are about the same one
            for event in here.refusing:
                drop_refused(event, here.refused, here.picture, there.picture)
        _tell_of_uploads(blocks)
        _end_when_left(blocks, context.sessions)
    return blocks


def _end_when_left(blocks: gr.Blocks, sessions: Sessions) -> None:
    """Whatever a page is still waiting for ends when it is closed, reloaded or led elsewhere."""
    states = [block for block in blocks.blocks.values()
              if isinstance(block, gr.State) and isinstance(block.value, Turns)]

    def opened(request: gr.Request, *panels: Turns) -> None:
        for panel in panels:
            sessions.on_leave(request, panel.end)

    blocks.load(opened, states, None, **QUIET)


def _tell_of_uploads(blocks: gr.Blocks) -> None:
    """Each upload that a page puts into a field is named to the server at once, so that it goes
    with the page, whatever is done with it: an event that takes it is enough."""
    for field in list(blocks.blocks.values()):
        if isinstance(field, PictureInput | FilesInput):
            given = field.input if isinstance(field, PictureInput) else field.upload
            given(lambda _: None, field, None, **QUIET)


def _header(context: Context) -> str:
    info = context.engine.info
    lacking = [(key, task) for key, task in (
        ("tab.describe", "caption"), ("tab.ask", "ask"), ("frame.find", "embed"),
        ("frame.fits", "match"), ("frame.maps", "explain")) if task not in info.tasks]
    if context.can("explain") and not info.tasks & {"caption", "match"}:
        lacking.append(("tab.compare", "caption"))
    off = markup.items(phrase("frame.off", what=phrase(key), model=info.name,
                              why=info.why_not(task)) for key, task in lacking)
    buttons = switch(phrase("chooser.title", name=info.name))
    return (
        f'<header class="vt-header">{buttons}<h1>vitdemo</h1>'
        f'<p>{markup.said("frame.purpose")}</p>'
        f'{f"""<ul class="vt-off">{off}</ul>""" if off else ""}</header>')
