"""The outermost layer of the server: it refuses, before anything reads them, requests by foreign
names or pages, for routes of Gradio that this app does not use, and that no page of it makes."""

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitdemo.config import LIMITS
from vitdemo.texts import phrase, speaking
from vitdemo.ui.health import PATHS
from vitdemo.ui.language import in_language, language_of
from vitdemo.ui.server_rules import ServerRules
from vitdemo.ui.videos import ROUTE as VIDEO

API = "/gradio_api"
# What a page, or a client over the API, asks for; an ending slash allows what lies below. All else
# is off: Gradio's deep links (which write a visitor's picture to the disk), its proxy, recordings,
# editors, monitoring, histories of runs.
READ = ("", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/static/",
        "/assets/", "/svelte/", VIDEO, *PATHS, *(API + path for path in (
            "/info", "/openapi.json", "/startup-events", "/app_id", "/theme.css", "/queue/data",
            "/queue/status", "/upload_progress", "/heartbeat/", "/call/", "/file=")))
WRITE = tuple(API + path for path in ("/upload", "/queue/join", "/cancel", "/reset", "/call/",
                                      "/run/"))
TOOLS = API + "/mcp"  # where the app serves tools (`ui/tools.py`)
DEPTH = 16  # lists and objects in one another, in a request
# Of the page that is being sent; None where something else is.
page_query: ContextVar[QueryParams | None] = ContextVar("page_query", default=None)


class Refused(Exception):
    """A request that is not answered, with its status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Gate:
    """The outermost layer of the server: refuses, and tells `Sessions` which pages are open and
    which uploads they name."""

    def __init__(self, app: ASGIApp, rules: ServerRules, served: Callable[[], Any]) -> None:
        self.app, self.rules, self.served = app, rules, served

    @property
    def blocks(self) -> Any:
        """The pages that are served now."""
        return self.served()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            headers = Headers(scope=scope)
            with speaking(language_of(headers)):
                if scope["method"] == "GET" and scope["path"] == "/":
                    page_query.set(QueryParams(scope["query_string"]))
                    send = in_language(send, headers)
                await self._answer(scope, receive, self._with_headers(send))
        else:  # the app has no web sockets
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_head(scope)
            scope = {**scope, "headers": self._believed(scope)}
            path = scope["path"].rstrip("/")
            if scope["method"] == "POST" and path != f"{API}/upload":
                body = await _body(Request(scope, receive))
                if path == TOOLS:
                    read_json(body)  # the calls that it leads to are looked at one by one
                else:
                    self._check_call(path, body)
                receive = _again(body, receive)
            elif lost := self._lost(path, QueryParams(scope["query_string"])):
                await PlainTextResponse(lost, media_type="text/event-stream")(scope, receive, send)
                return
        except Refused as error:
            answer = JSONResponse({"detail": str(error), "error": str(error)}, error.status)
            await answer(scope, receive, send)
            return
        except ClientDisconnect:
            return
        page = path.removeprefix(f"{API}/heartbeat/")
        if page == path:
            await self.app(scope, receive, send)
            return
        sessions = self.blocks.sessions
        sessions.enter(page)
        try:
            await self.app(scope, receive, send)
        finally:
            if sessions.exit(page):
                forget(self.blocks, page)

    def _check_head(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        shared = urlsplit(getattr(self.blocks, "share_url", None) or "").hostname
        if len(hosts) != 1 or not (self.rules.answers_to(hosts[0]) or hosts[0] == shared):
            raise Refused(400, "This server does not go by the name in the header Host. Open it by "
                          "its own address, or start it with --allow-host NAME.")
        if any(not self.rules.own_page(origin, hosts[0]) for origin in origins):
            raise Refused(403, "The page that asks is not one of this server's. If it should be, "
                          "start the server with --allow-host and the page's name.")
        known = {"GET": READ, "HEAD": READ, "POST": WRITE}.get(scope["method"], ())
        path = scope["path"]
        if self.blocks.mcp_server_obj is not None:
            known += {"GET": (f"{TOOLS}/schema",), "POST": (TOOLS,)}.get(scope["method"], ())
        if not any(path.startswith(one) if one.endswith(("/", "=")) else path.rstrip("/") == one
                   for one in known):
            raise Refused(404, "There is nothing here.")
        if path.startswith(f"{API}/file=") and "://" in path:
            raise Refused(403, "Addresses are not fetched.")

    def _lost(self, path: str, query: QueryParams) -> str:
        """What is told to who listens to a page, or a call, that is not there (any more)."""
        queue, kind = self.blocks._queue, path.removeprefix(f"{API}/")
        if kind == "queue/data":
            if query.get("session_hash") in queue.pending_messages_per_session:
                return ""
            told = {"msg": "unexpected_error", "message": phrase("frame.lost"),
                    "session_not_found": True, "success": False}
            return f"data: {json.dumps(told)}\n\n"
        if not kind.startswith("call/"):
            return ""
        event = kind.rpartition("/")[2]
        known = (event in queue.event_ids_to_events or event in queue.pending_messages_per_session
                 or any(event in one for one in list(queue.pending_event_ids_session.values())))
        return "" if known else f"event: error\ndata: {json.dumps(phrase('frame.lost'))}\n\n"

    def _check_call(self, path: str, raw: bytes) -> None:
        """What asks for an event must be able to be one; the uploads that it names are noted."""
        body = read_json(raw)
        page = body.get("session_hash")
        if page is not None and not (isinstance(page, str) and 0 < len(page) <= 100):
            raise Refused(400, "“session_hash” must be a text of at most 100 characters.")
        kind, _, name = path.removeprefix(f"{API}/").partition("/")
        if kind in ("cancel", "reset"):
            self._check_own(body.get("event_id"), page)
            return
        named = name.removeprefix("v2/") if kind != "queue" else ""
        function = self._function(body.get("fn_index"), named)
        if function is None or function.fn is None:
            raise Refused(404, "The app has no such function; those that it has are listed at "
                          f"{API}/info.")
        if body.get("batched"):
            raise Refused(400, "Calls are not taken in batches.")
        if kind == "run" and page is None:
            raise Refused(400, "“session_hash” is missing.")
        if name.startswith("v2/"):
            self._check_names(named, body)
        if page:
            self.blocks.sessions.keep(page, paths_in(body))

    def _believed(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """The headers without what would let Gradio tell everybody of another address, and without
        parts of files, of which it makes little; but players need parts of a video."""
        parts = scope["path"].startswith(VIDEO)

        def believed(name: bytes, value: bytes) -> bool:
            if name == b"x-forwarded-host":
                return self.rules.answers_to(value.split(b",")[0].strip().decode("latin-1"))
            return name != b"x-gradio-server" and (name != b"range" or parts)

        return [(name, value) for name, value in scope["headers"] if believed(name, value)]

    def _check_own(self, event: Any, page: Any) -> None:
        """Only the page that began something ends it."""
        begun = self.blocks._queue.event_ids_to_events.get(str(event))
        if begun is not None and begun.session_hash != page:
            raise Refused(403, "Another page began this.")

    def _function(self, index: Any, name: str) -> Any:
        if isinstance(index, int):
            return self.blocks.fns.get(index)
        return next((one for one in self.blocks.fns.values() if name and one.api_name == name
                     and one.api_visibility == "public"), None)

    def _check_names(self, name: str, body: Mapping[str, Any]) -> None:
        """The values of a call are given by name: all that are needed, and no others."""
        known = self.blocks.get_api_info()["named_endpoints"].get(f"/{name}")
        if known is None:
            raise Refused(404, f"The app has no function {name[:40]}.")
        defaults = {one["parameter_name"]: one.get("parameter_has_default", False)
                    for one in known["parameters"]}
        for given in body:
            if given not in defaults:
                raise Refused(400, f"{name} takes no value called {given[:40]!r}, but "
                              f"{', '.join(defaults)}.")
        for wanted, optional in defaults.items():
            if not optional and wanted not in body:
                raise Refused(400, f"{name} needs a value for {wanted!r}.")

    def _with_headers(self, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(self.rules.headers())
            await send(message)

        return told


def read_json(raw: bytes) -> dict[str, Any]:
    """The object that a request holds.

    Raises:
        Refused: it holds none, or a number that is none, or is nested too deep.
    """
    try:
        body = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "The request holds no JSON that can be read.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The request must be a JSON object.")
    level: list[Any] = [body]
    for _ in range(DEPTH):
        level = [value for one in level if isinstance(one, dict | list)
                 for value in (one.values() if isinstance(one, dict) else one)]
    if level:
        raise Refused(400, f"The request is nested more than {DEPTH} deep.")
    return body


def _no_number(text: str) -> None:
    raise ValueError(text)


def paths_in(value: Any) -> list[str]:
    """All texts called "path" in what a request holds."""
    if isinstance(value, dict):
        own = [value["path"]] if isinstance(value.get("path"), str) else []
        return own + [path for one in value.values() for path in paths_in(one)]
    if isinstance(value, list):
        return [path for one in value for path in paths_in(one)]
    return []


async def _body(request: Request) -> bytes:
    limit, parts, size = LIMITS.max_request_megabytes * 2**20, [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Refused(413, f"The request is larger than {LIMITS.max_request_megabytes} MB.")
        parts.append(part)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for whoever reads it next."""
    given = False

    async def first_the_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first_the_body


def forget(blocks: gr.Blocks, page: str) -> None:
    """Drop what Gradio remembers of a page: it would for an hour, its picture included."""
    holder = blocks.state_holder
    holder.delete_state(page)
    with holder.lock:
        holder.session_data.pop(page, None)
        holder.time_last_used.pop(page, None)
