"""What the viewer asks of the server about a result on screen: other methods, and evidence.

The viewer triggers one event, "ask", with {name, id, source, word, method, regions}. Each answer is
a patch for the payload on screen (`vitdemo.viewer.patch`); answers to one request add up, so that
losing one on the way costs nothing.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from vitdemo.attention.methods import METHODS
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture
from vitdemo.records import Evidence
from vitdemo.ui.desk import Desk, Result, add_method
from vitdemo.ui.line import CHECKS, LONG
from vitdemo.ui.parts import Context, carried, read_picture
from vitdemo.ui.turns import Panel, Turn
from vitdemo.ui.watch import Tell, watched

Patch = dict[str, Any]

CHUNK = 4  # words whose evidence is computed before it is shown
# Evidence that nobody asked for waits in a group of its own, so that it never takes the place of
# somebody who did ask. The engine's lock lets both have the device in turn.
BACKGROUND: dict[str, Any] = {"concurrency_id": CHECKS, "concurrency_limit": 2}
UNKNOWN = "This page asked for something that the app does not know. Reload the page."


def follow_up(engine: Engine, desk: Desk, photo: Picture) -> Iterator[Patch]:
    """How much the picture counted, then the evidence of every word, as patches."""
    result = desk.result
    if result is None:
        return
    for share in engine.picture_share(photo, result.said):
        result.shares[share.source] = share
    yield result.evidence_patch(busy=True)
    for one in reversed(result.maps):  # the answer before its question
        for message in _chunks(engine, photo, result, one.source, one.method):
            yield result.evidence_patch(message, busy=True)
    yield result.evidence_patch()


def _chunks(engine: Engine, photo: Picture, result: Result, source: str, method: str,
            words: Sequence[int] | None = None) -> Iterator[str]:
    """Compute the evidence that is missing of one text, a few words at a time; yields how far it
    is after each part and, in a slow one, every few seconds."""
    count = next(len(one.words) for one in result.maps if one.source == source)
    missing = [word for word in (range(count) if words is None else words)
               if (source, method, word) not in result.evidence]
    for first in range(0, len(missing), CHUNK):
        part = missing[first:first + CHUNK]
        compute = functools.partial(_evidence, engine, photo, result, source, method, part)
        for found in (yield from watched(compute)):
            result.evidence[source, method, found.word] = found
        yield f"Checked {first + len(part)} of {len(missing)} maps …"


def _evidence(engine: Engine, photo: Picture, result: Result, source: str, method: str,
              words: Sequence[int], tell: Tell) -> tuple[Evidence, ...]:
    return engine.evidence(photo, result.said, method=method, source=source, words=words,
                           progress=tell)


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
        raise TextError(UNKNOWN)
    name = detail.get("name")
    if name == "check":
        for message in _chunks(engine, photo, result, source, method, [_whole(detail.get("word"))]):
            yield result.evidence_patch(message, busy=True)
        yield result.evidence_patch()
    elif name == "check_all":
        for message in _chunks(engine, photo, result, source, method):
            yield result.evidence_patch(message, busy=True)
        yield result.evidence_patch()
    elif name == "matter":
        yield _matter(engine, photo, result, source, method, detail)
    elif name == "methods":
        yield from _methods(engine, photo, result, str(detail.get("method") or ""))
    else:
        raise TextError(UNKNOWN)


def _matter(engine: Engine, photo: Picture, result: Result, source: str, method: str,
            detail: Mapping[str, Any]) -> Patch:
    """Does it matter? Blur what the map marks, and look what changes."""
    regions = detail.get("regions")
    if regions is not None:
        if not isinstance(regions, Sequence) or isinstance(regions, str):
            raise TextError(UNKNOWN)
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
        yield result.patch(message=f"Computing: {METHODS.get(name, name)} …", busy=True,
                           others=list(result.others.values()))
        add_method(engine, photo, result, name)
    yield result.patch(others=list(result.others.values()))


def _whole(value: object) -> int:
    """A place that came from the browser.

    Raises:
        TextError: it is no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TextError(UNKNOWN)
    return value


def tie_requests(context: Context, view: gr.HTML, panel: Panel, picture: Any) -> None:
    """Tie the viewer's requests to their answers.

    ``picture`` is the field that the result's picture stands in, or a state with its path.
    """

    def request(desk: Desk, turn: Turn, event: gr.EventData, path: str | None) -> Iterator[Patch]:
        desk.fitting(carried(event).get("id"))  # before the picture: it may be gone, too
        yield from serve(context.engine, desk, read_picture(path), carried(event))

    def failed(error: Exception, given: tuple[Any, ...]) -> Patch:
        return {"id": carried(given[2]).get("id"), "patch_message": str(error), "patch_busy": False}

    panel.join(view.ask, request, [picture], [view], failed, **LONG)


def check_after(context: Context, event: Any, view: gr.HTML, panel: Panel, picture: Any) -> None:
    """After an event that shows a result: the evidence of its words, where that is quick."""
    if not (context.settings.check_at_once and context.can("explain")):
        return

    def follow(desk: Desk, turn: Turn, path: str | None) -> Iterator[Patch]:
        if desk.result is not None:
            yield from follow_up(context.engine, desk, read_picture(path))

    def failed(error: Exception, given: tuple[Any, ...]) -> Patch:
        result = given[0].result
        return {"id": result.id if result else "", "patch_message": str(error),
                "patch_busy": False}

    panel.follow(event, follow, [picture], [view], failed, **BACKGROUND)
