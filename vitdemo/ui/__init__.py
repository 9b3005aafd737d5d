"""The app's pages, on Gradio: `build_ui` lays them out over an engine."""

import html

import gradio as gr

from vitdemo.engine import Engine
from vitdemo.ui.albums import ExampleAlbum, Library
from vitdemo.ui.api import build_api
from vitdemo.ui.ask import build_ask
from vitdemo.ui.blocks import AppBlocks
from vitdemo.ui.compare import build_compare
from vitdemo.ui.describe import build_describe, share_picture
from vitdemo.ui.launching import launch_settings
from vitdemo.ui.line import use_visitor_line
from vitdemo.ui.parts import (
    QUIET,
    Context,
    FilesInput,
    PictureInput,
    Settings,
    drop_refused,
    readable_examples,
)
from vitdemo.ui.places import open_links
from vitdemo.ui.search import build_search
from vitdemo.ui.server_rules import ServerRules
from vitdemo.ui.session import Sessions
from vitdemo.ui.tour import build_tour
from vitdemo.ui.turns import Turns

__all__ = ["ServerRules", "Settings", "build_ui", "launch_settings"]


def build_ui(engine: Engine, settings: Settings = Settings()) -> gr.Blocks:
    """The whole app; launch it with `launch_settings`."""
    sessions = Sessions()
    context = Context(engine, settings, sessions, readable_examples(settings.examples))
    examples, library = ExampleAlbum(context), Library(context)
    with AppBlocks(sessions, title="vitdemo", analytics_enabled=False) as blocks:
        build_api(context, blocks, examples, library)  # first, so that the names are its own
        gr.HTML(_header(context), apply_default_css=False)
        linked = gr.HTML("", apply_default_css=False, elem_id="linked")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Describe", id="describe", interactive=context.can("caption")):
                describe = build_describe(context)
            with gr.Tab("Ask", id="ask", interactive=context.can("ask")):
                ask = build_ask(context)
            with gr.Tab("Search", id="search",
                        interactive=context.can("embed") or context.can("match")):
                inner, places = build_search(context, examples, library)
            with gr.Tab("Compare", id="compare", interactive=context.can("explain")
                        and (context.can("caption") or context.can("match"))):
                build_compare(context)
            with gr.Tab("Tour", id="tour"):
                build_tour(context)
        open_links(context, blocks, (describe.place, ask.place, *places), tabs, inner, linked)
        for here, there in ((describe, ask), (ask, describe)):
            share_picture(here, there)  # both tabs are about the same one
            for event in here.refusing:
                drop_refused(event, here.refused, here.picture, there.picture)
        _tell_of_uploads(blocks)
        _end_when_left(blocks, sessions)
    use_visitor_line(blocks)
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
    where = "the server" if context.settings.shared else "this computer"
    off = [f"<li>{html.escape(_missing(info.name, name, info.missing.get(task, '')))}</li>"
           for name, task in (("Describe", "caption"), ("Ask", "ask"), ("Find pictures", "embed"),
                              ("Which sentence fits?", "match"), ("Maps and “Compare”", "explain"))
           if task not in info.tasks]
    missing = f'<ul class="vt-off">{"".join(off)}</ul>' if off else ""
    return (
        '<header class="vt-header"><h1>vitdemo</h1>'
        "<p>Give it a picture. It tells you in words what it sees, and for each word it shows you "
        "where in the picture it looked.</p>"
        f'<p class="vt-small">Model: {html.escape(info.name)}. Your pictures stay on {where} and '
        f"are deleted when you close the page.</p>{missing}</header>")


def _missing(model: str, what: str, reason: str) -> str:
    why = reason or "it was not made for it"
    return f"“{what}” is off: with {model}, {why[:1].lower()}{why[1:].rstrip('.')}."
