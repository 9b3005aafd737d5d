"""What the viewer asks of the server about a result on screen: other methods, and evidence.

The viewer triggers the event "ask", or "look" for a check that nobody asked for, with {name, id,
source, word, method, regions}. Each answer is a patch for the payload on screen
(`vitdemo.viewer.patch`); answers to one request add up: losing one on the way costs nothing.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

from vitdemo.attention.dependence import first_word
from vitdemo.attention.methods import label_of
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.texts import phrase
from vitdemo.trials import Progress
from vitdemo.ui.components import Context, carried, read_picture
from vitdemo.ui.jobs import Job, followed
from vitdemo.ui.line import CHECKS, LONG
from vitdemo.ui.shown_result import Desk, Result, add_method
from vitdemo.ui.turns import Panel, Turn

Patch = dict[str, Any]
T = TypeVar("T")

PACE = 3.0  # seconds between two sentences about how far a check is
# Evidence that nobody asked for waits in a group of its own, so that it never takes the place of
# somebody who did ask. The engine's lock lets both have the device in turn.
BACKGROUND: dict[str, Any] = {"concurrency_id": CHECKS, "concurrency_limit": 2}


def follow_up(engine: Engine, desk: Desk, photo: Picture) -> Iterator[Patch]:
    """How much the picture counted, then the evidence of the word that is shown first, as patches.
    Further words are checked when they are chosen."""
    result = desk.result
    if result is None:
        return
    for share in engine.picture_share(photo, result.said):
        result.shares[share.source] = share
    yield {**result.evidence_patch(busy=True), "unasked": True}
    shown = result.maps[-1]
    if (word := first_word(shown)) >= 0:
        yield from _check(engine, photo, result, shown.source, shown.method, word, unasked=True)
    else:
        yield {**result.evidence_patch(), "unasked": True}


def _check(engine: Engine, photo: Picture, result: Result, source: str, method: str, word: int,
           unasked: bool) -> Iterator[Patch]:
    """Compute the evidence of one word where it is missing; patches say how far it is every few
    seconds, the last one holds it."""
    if (source, method, word) not in result.evidence:
        found, = yield from _told(result, lambda progress: engine.evidence(
            photo, result.said, method=method, source=source, words=[word], progress=progress),
            unasked)
        result.evidence[source, method, word] = found
    yield {**result.evidence_patch(), "unasked": unasked}


def _told(result: Result, call: Callable[[Progress], T],
          unasked: bool = False) -> Generator[Patch, None, T]:
    """What a call that blurs pictures gives; patches say how far it is."""
    job: Job[tuple[int, int]] = Job()
    return (yield from followed(job, lambda: call(job.count), lambda far: {**result.patch(
        phrase("checking.blurred", done=far[0], total=far[1]), busy=True), "unasked": unasked},
        PACE))


def serve(engine: Engine, desk: Desk, photo: Picture,
          detail: Mapping[str, Any]) -> Iterator[Patch]:
    """Answer one request of the viewer.

    Raises:
        PictureError: what is meant is no longer on screen, or the picture was changed.
        TextError: the request makes no sense.
    """
    result = desk.fitting(detail.get("id"), photo)
    source = str(detail.get("source") or result.maps[-1].source)
    method = str(detail.get("method") or result.maps[0].method)
    if source not in [one.source for one in result.maps]:
        raise TextError("checking.unknown")
    name = detail.get("name")
    if name in ("check", "look"):
        yield from _check(engine, photo, result, source, method, _whole(detail.get("word")),
                          unasked=name == "look")
    elif name == "matter":
        yield _matter(engine, photo, result, source, method, detail)
    elif name == "smallest":
        part = yield from _told(result, lambda progress: engine.smallest_part(
            photo, result.said, _whole(detail.get("word")), source, progress))
        yield result.patch(smallest=part)
    elif name == "methods":
        yield from _methods(engine, photo, result, str(detail.get("method") or ""))
    else:
        raise TextError("checking.unknown")


def _matter(engine: Engine, photo: Picture, result: Result, source: str, method: str,
            detail: Mapping[str, Any]) -> Patch:
    """Does it matter? Blur what the map marks, and look what changes."""
    regions = detail.get("regions")
    if regions is not None:
        if not isinstance(regions, Sequence) or isinstance(regions, str):
            raise TextError("checking.unknown")
        regions = [_whole(region) for region in regions]
    found = engine.what_if(photo, result.said, _whole(detail.get("word")), method=method,
                           source=source, regions=regions, decoding=result.decoding)
    return result.patch(matter=found)


def _methods(engine: Engine, photo: Picture, result: Result, only: str) -> Iterator[Patch]:
    """The other methods' maps, one method after the other: the slow one comes last."""
    source = result.maps[-1].source
    wanted = [only] if only else [name for name in engine.methods if name != result.maps[0].method]
    for name in wanted:
        if (source, name) in result.others:
            continue
        yield result.patch(message=phrase("checking.method", method=label_of(name)), busy=True,
                           others=list(result.others.values()))
        add_method(engine, photo, result, name)
    yield result.patch(others=list(result.others.values()))


def _whole(value: object) -> int:
    """A place that came from the browser.

    Raises:
        TextError: it is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TextError("checking.unknown")
    return value


def _refused(error: Exception, result_id: Any) -> Patch:
    return {"id": result_id, "patch_message": str(error), "patch_busy": False}


def tie_requests(context: Context, view: gr.HTML, panel: Panel, picture: Any) -> None:
    """Tie the viewer's requests to their answers.

    ``picture`` is the field that the result's picture stands in, or a state with its path.
    """

    def request(desk: Desk, turn: Turn, event: gr.EventData, path: str | None) -> Iterator[Patch]:
        desk.fitting(carried(event).get("id"))  # before the picture: it may be gone, too
        yield from serve(context.engine, desk, read_picture(path), carried(event))

    def failed(error: Exception, given: tuple[Any, ...]) -> Patch:
        return _refused(error, carried(given[2]).get("id"))

    panel.join(view.ask, request, [picture], [view], failed, **LONG)
    if context.settings.check_at_once and context.can("explain"):
        panel.join(view.look, request, [picture], [view], failed, **BACKGROUND)


def check_after(context: Context, event: Any, view: gr.HTML, panel: Panel, picture: Any) -> None:
    """After an event that shows a result: the evidence of its words, where that is quick."""
    if not (context.settings.check_at_once and context.can("explain")):
        return

    def follow(desk: Desk, turn: Turn, path: str | None) -> Iterator[Patch]:
        if desk.result is not None:
            yield from follow_up(context.engine, desk, read_picture(path))

    def failed(error: Exception, given: tuple[Any, ...]) -> Patch:
        return _refused(error, given[0].result.id if given[0].result else "")

    panel.follow(event, follow, [picture], [view], failed, **BACKGROUND)
