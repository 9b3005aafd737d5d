"""A page of the app without a browser: joins its line and reads what it is told, as the browser's
own client does, so that hundreds of pages cost next to nothing."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

API = "gradio_api"


class PageError(Exception):
    """The app answered something else than asked for; the text says what."""


class Busy(Exception):
    """The app sent a request away politely; the text is its sentence."""


def app_client(address: str) -> httpx.AsyncClient:
    """For all pages of one app; no proxy, no bound on how long a line is waited in."""
    return httpx.AsyncClient(base_url=address, trust_env=False, timeout=None,
                             limits=httpx.Limits(max_connections=None))


class Functions:
    """What the app can be asked for, by the names of its API or by a part of the page."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._parts = {part["id"]: part for part in config["components"]}
        self._all = config["dependencies"]

    def named(self, name: str) -> dict[str, Any]:
        """The one of this name."""
        return next(one for one in self._all if one["api_name"] == name)

    def of(self, elem_id: str, event: str) -> dict[str, Any]:
        """The one that an event of a part of the page asks for."""
        ids = [key for key, part in self._parts.items()
               if part["props"].get("elem_id") == elem_id]
        return next(one for one in self._all if any(list(target) == [key, event]
                    for key in ids for target in one["targets"]))

    def inputs(self, function: Mapping[str, Any], **given: Any) -> list[Any]:
        """What a page sends on which nothing but these fields were touched: by their elem_id,
        "_" for "-"."""
        values = {name.replace("_", "-"): value for name, value in given.items()}
        props = [self._parts[key]["props"] for key in function["inputs"]]
        return [values.get(one.get("elem_id"), one.get("value")) for one in props]


class Page:
    """One open page. ``places`` are the places in line that it was told."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.session = uuid.uuid4().hex
        self.places: list[int] = []
        self._waiting: dict[str, asyncio.Future[list[Any]]] = {}
        self._early: dict[str, dict[str, Any]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def upload(self, file: Path) -> dict[str, Any]:
        """Give the app a picture; what a field then sends."""
        answer = await self._client.post(f"{API}/upload", files={"files": (
            file.name, file.read_bytes())})
        answer.raise_for_status()
        return {"path": answer.json()[0], "orig_name": file.name,
                "meta": {"_type": "gradio.FileData"}}

    async def call(self, function: Mapping[str, Any], data: list[Any],
                   event: Mapping[str, Any] | None = None) -> list[Any]:
        """The last outputs of one request.

        Raises:
            Busy: it was sent away.
            PageError: it failed.
        """
        body = {"data": data, "fn_index": function["id"], "session_hash": self.session,
                "event_data": event, "trigger_id": None}
        answer = await self._client.post(f"{API}/queue/join", json=body)
        if answer.status_code == 503:
            raise Busy(answer.text)
        if answer.status_code != 200:
            raise PageError(f"{answer.status_code}: {answer.text[:200]}")
        key = answer.json()["event_id"]
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        if key in self._early:
            self._take(self._early.pop(key))
        elif self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        return await future

    async def close(self) -> None:
        """As a browser that leaves: what still stands in line is given up."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        """Read on until the app has told what came of everything."""
        try:
            while self._waiting:
                async with self._client.stream("GET", f"{API}/queue/data", params={
                        "session_hash": self.session}) as stream:
                    async for line in stream.aiter_lines():
                        if line.startswith("data:"):
                            self._take(json.loads(line[5:]))
        except (httpx.HTTPError, PageError) as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(PageError(f"the connection broke: {error!r}"))
            self._waiting.clear()

    def _take(self, message: dict[str, Any]) -> None:
        kind, key = message["msg"], str(message.get("event_id"))
        if kind == "unexpected_error":
            raise PageError(str(message.get("message")))
        if kind == "estimation" and message.get("rank") is not None:
            self.places.append(message["rank"] + 1)
        if kind != "process_completed":
            return
        future = self._waiting.pop(key, None)
        if future is None:
            self._early[key] = message
        elif future.done():
            return
        elif message["success"]:
            future.set_result(message["output"]["data"])
        else:
            said = str(message["output"].get("error"))
            future.set_exception(Busy(said) if message.get("title") == "The app is busy"
                                 else PageError(said))
