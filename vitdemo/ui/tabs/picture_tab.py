"""What the tabs that take a picture have in common: one large picture, where a photograph is given
and where the map lies, the examples, and what follows when the picture changes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    MODEL,
    Context,
    Failed,
    PageValue,
    PictureInput,
    clickable_html,
    picture_input,
    place_of,
    read_picture,
    refusal,
    save_panel,
    viewer_output,
)
from vitdemo.ui.deep_links import Place, copy_button
from vitdemo.ui.downloads import build_downloads
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.turns import Panel, Turn
from vitdemo.ui.viewer_requests import check_after, tie_requests

Work = Callable[..., Iterator[Any]]


@dataclass
class PictureTab:
    """A tab about one picture, as it is laid out.

    ``result`` are the outputs that a result is in, the viewer first; ``given`` and ``emptied`` are
    the keys of what it says when a picture was just given or taken away. ``refused`` holds the path
    of a picture that cannot be used, after the events in ``refusing``; those in ``changes`` set the
    picture.
    """

    name: str
    panel: Panel
    picture: PictureInput
    view: gr.HTML
    refused: PageValue
    examples: gr.HTML | None = None
    place: Place | None = None
    result: tuple[Any, ...] = ()
    given: str = ""
    emptied: str = ""
    changes: list[Any] = field(default_factory=list)
    refusing: list[Any] = field(default_factory=list)

    @classmethod
    def lay_out(cls, name: str, hint: str) -> "PictureTab":
        """The large picture: to be called within a column of the class "vt-tab"."""
        return cls(name, Panel.of(Desk()),
                   picture_input(elem_id=f"{name}-picture", elem_classes="vt-field", height=400),
                   viewer_output(hint, f"{name}-view", elem_classes="vt-view"), PageValue(""))

    def lay_out_examples(self, context: Context) -> None:
        """The photographs to begin with."""
        self.examples = clickable_html(
            markup.thumbnails(context.examples, phrase("picture.examples"), True),
            visible=bool(context.examples), elem_id=f"{self.name}-examples")

    def lay_out_saving(self, context: Context, **fields: Any) -> None:
        """The ways to save a result, which the viewer's button opens; ``fields`` are those that a
        link sets."""
        self.place = Place(self.name, f"{self.name}-view", self.panel, fields,
                           picture=self.picture)
        with save_panel(self.name):
            build_downloads(context, self.panel.state, self.picture, self.name)
            copy_button(self.place, context.examples)

    def act(self, trigger: Any, work: Work, inputs: list[Any], outputs: list[Any], failed: Failed,
            **settings: Any) -> Any:
        """Tie a person's act that asks something of the model about the picture."""
        return self._asks(self.panel.act(trigger, work, inputs, outputs, failed, **MODEL,
                                         **settings))

    def go_on(self, event: Any, work: Work, inputs: list[Any], outputs: list[Any],
              failed: Failed) -> Any:
        """Tie the model's work for an act that began at once."""
        return self._asks(self.panel.go_on(event, work, inputs, outputs, failed, **MODEL))

    def _asks(self, event: Any) -> Any:
        self.refusing.append(event)
        return event

    def tie_pictures(self, context: Context, take: Work, outputs: list[Any], failed: Failed
                     ) -> list[Any]:
        """Tie what gives a picture or takes it away: ``take(desk, turn, path)`` gives the
        ``outputs`` at once. Its events, for the work that follows."""

        def taken(desk: Desk, turn: Turn, path: str | None) -> Iterator[tuple[Any, ...]]:
            for shown in take(desk, turn, path):
                yield turn.number, *shown

        def example(desk: Desk, turn: Turn, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
            path = str(context.examples[place_of(event, len(context.examples))])
            for shown in take(desk, turn, path):
                yield turn.number, *shown, path

        given = self.panel.open(
            [self.picture.input, self.picture.clear], taken, [self.picture], outputs,
            lambda error, inputs: (inputs[1].number, *failed(error, inputs)))
        assert self.examples is not None
        chosen = self.panel.open(self.examples.click, example, [], [*outputs, self.picture],
                                 lambda *_: gr.skip())
        self.changes += [given, chosen]
        return [given, chosen]

    def tie_checks(self, context: Context, *events: Any) -> None:
        """Tie what the viewer asks for, and the evidence that follows a result."""
        for event in events:
            check_after(context, event, self.view, self.panel, self.picture)
        tie_requests(context, self.view, self.panel, self.picture)


def refused_path(error: Exception, inputs: tuple[Any, ...]) -> str:
    """That of the picture, the first of a handler's inputs, where it is at fault."""
    return refusal(error, inputs[2])


def share_picture(here: PictureTab, there: PictureTab) -> None:
    """What is given or taken away in one tab is so in the other, whose result goes with it."""

    def take_over(desk: Desk, turn: Turn, path: str | None) -> Iterator[tuple[Any, ...]]:
        hint = {"hint": phrase(there.given if path else there.emptied)}
        shown = {"picture": viewer.display(read_picture(path)), **hint} if path else hint
        yield path, shown, *[""] * (len(there.result) - 1)

    def failed(error: Exception, given: tuple[Any, ...]) -> Any:
        given[0].put_back(error)  # it is on the screen still
        return gr.skip()

    for event in here.changes:
        there.panel.take_over(event, here.panel.number, take_over, [here.picture],
                              [there.picture, *there.result], failed)
