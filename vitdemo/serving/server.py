"""The model's side: answers what pages on other machines ask of one engine.

Stateless but for caches: any replica with the same model may be asked anything at any time.
"""

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vitdemo import __version__
from vitdemo.borrowed import needs_gpu, streams
from vitdemo.cache import LRU
from vitdemo.engine import Engine
from vitdemo.errors import VitDemoError
from vitdemo.preprocess import Picture
from vitdemo.serving.wire import MOST_BYTES, WireError, fingerprint, framed, pack, unpack
from vitdemo.texts import speaking
from vitdemo.wanted import NotWanted, while_wanted

BEAT = 0.5  # seconds: so often an answer that takes longer says that it is on its way
THREADS = 64  # requests that are worked on at a time; the engine makes batches of them
PICTURES = 64  # that are kept, so that each comes over the network once
PICTURE_MEGABYTES = 512  # of those, at most
VERSION = "vitdemo-version"  # header

_log = logging.getLogger(__name__)

# What may be asked: every public method that uses the model, and what a text is to it.
METHODS: dict[str, Callable[..., Any]] = {
    **dict(inspect.getmembers(Engine, needs_gpu)), "unread": Engine.unread}


class _Lacking(Exception):
    """A picture whose pixels did not come along and are not known here."""


class EngineServer:
    """Answers requests for one engine, each in a thread of its own.

    ``GET`` tells what the model is. ``POST`` takes a call of one of `METHODS` and answers with a
    row of messages (`wire`): ``["wait"]`` now and then, ``["begun"]`` once the arguments are good
    for a row of values, ``["progress", done, all]``, ``["value", value]``, ``["end"]``. Or it ends
    with ``["error", error]``; ``["pictures"]``: send the pixels along; ``["model"]``: this
    is another one; ``["fault", kind]``: a fault of the program.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = fingerprint(engine.info)
        self._threads = ThreadPoolExecutor(THREADS, "request")
        self._pictures: LRU[Picture] = LRU(PICTURES)
        self._guard = threading.Lock()  # of the pictures

    async def __call__(self, request: Request) -> Response:
        """The answer to a request, whatever its path but for ``…/healthz``."""
        headers = {VERSION: __version__}
        if request.method == "GET":
            users, checks = self.engine.waiting()
            if request.url.path.endswith("/healthz"):
                return JSONResponse({"status": "ok", "version": __version__,
                                     "model": self.engine.info.name,
                                     "device": {"waiting": users, "checks": checks}})
            return Response(pack({"info": self.engine.info, "methods": self.engine.methods,
                                  "picture_side": self.engine.picture_side}), headers=headers)
        if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
            return Response(status_code=413, headers=headers)
        return StreamingResponse(self.answer(await request.body()), headers=headers)

    async def answer(self, body: bytes) -> AsyncIterator[bytes]:
        """The row of messages that answers a call. The work ends at its next slice where nobody
        reads on."""
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[list[Any]] = asyncio.Queue()
        left = threading.Event()

        def tell(*message: Any) -> None:
            if not left.is_set():
                loop.call_soon_threadsafe(messages.put_nowait, list(message))

        context = while_wanted(lambda: not left.is_set())
        loop.run_in_executor(self._threads, context.run, self._work, body, tell)
        try:
            yield framed(pack(["wait"]))
            while True:
                try:
                    message = await asyncio.wait_for(messages.get(), BEAT)
                except asyncio.TimeoutError:
                    message = ["wait"]
                yield framed(pack(message))
                if message[0] not in ("wait", "begun", "progress", "value"):
                    return
        finally:
            left.set()

    def _work(self, body: bytes, tell: Callable[..., None]) -> None:
        try:
            tell(*self._called(body, tell))
        except NotWanted:
            pass
        except _Lacking:
            tell("pictures")
        except VitDemoError as error:
            tell("error", error)
        except Exception as error:
            _log.exception("a request failed")
            tell("fault", type(error).__name__)

    def _called(self, body: bytes, tell: Callable[..., None]) -> tuple[Any, ...]:
        """Work on a call; gives the last message."""
        call = unpack(body, self._known)
        if call["model"] != self.model:
            return ("model",)
        if call["method"] not in METHODS:
            raise WireError("no such method")
        method, settings = getattr(self.engine, call["method"]), call["settings"]
        for value in (*call["arguments"], *settings.values()):
            if isinstance(value, Picture):
                self._keep(value)
        if settings.pop("progress", None):
            settings["progress"] = lambda done, whole: tell("progress", done, whole)
        with speaking(call["language"]):  # what is worded here is for a visitor there
            found = method(*call["arguments"], **settings)
            if not streams(METHODS[call["method"]]):
                found = [found]
            tell("begun")
            for value in found:
                tell("value", value)
        return ("end",)

    def _known(self, digest: str) -> Picture:
        with self._guard:
            picture = self._pictures.get(digest)
        if picture is None:
            raise _Lacking
        return picture

    def _keep(self, picture: Picture) -> None:
        with self._guard:
            self._pictures.put(picture.digest, picture)
            while len(self._pictures) > 1 and sum(
                    one.image.width * one.image.height * 3 for one in self._pictures.values()
                    ) > PICTURE_MEGABYTES * 2**20:
                self._pictures.drop()


def application(engine: Engine) -> Starlette:
    """One engine as an ASGI application."""
    return Starlette(routes=[Route("/{path:path}", EngineServer(engine).__call__,
                                   methods=["GET", "POST"])])
