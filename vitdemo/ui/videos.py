"""Plays the video of a hit, from the hit's second on: the page is given a name for the file that
tells nothing of it, and nothing but files that have such a name is served."""

import html
import mimetypes
import os
import secrets
import threading

from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from vitdemo.file_names import on_disk
from vitdemo.texts import phrase
from vitdemo.video import clock, file_of, second_of

ROUTE = "/video/"
MOST = 10_000  # files that have a name at once


class Videos:
    """Names for video files, until the app ends or others took their places."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: LRUCache[str, str] = LRUCache(MOST)
        self._names: LRUCache[str, str] = LRUCache(MOST)

    def player(self, path: str) -> str:
        """HTML that plays the video of a frame, which begins there; "" for another picture."""
        second, file = second_of(path), file_of(path)
        if second is None:
            return ""
        with self._lock:
            name = self._names.setdefault(file, secrets.token_urlsafe(16))
            self._files[name] = file
        about = html.escape(phrase("video.player", time=clock(second),
                                   name=os.path.basename(file)))
        return (f'<figure class="vt-video"><video controls preload="metadata" '
                f'src="{ROUTE}{name}#t={second:g}" aria-label="{about}"></video>'
                f'<figcaption class="vt-hint">{about}</figcaption></figure>')

    def file(self, name: str) -> str | None:
        """The file that has a name."""
        with self._lock:
            return self._files.get(name)


async def play(request: Request) -> Response:
    """A video, or the part of it that a player asks for."""
    file = request.app.get_blocks().sessions.videos.file(request.path_params["name"])
    if file is None or not os.path.isfile(on_disk(file)):
        return PlainTextResponse(phrase("folder.picture_gone", name=""), 404)
    kind = mimetypes.guess_type(file)[0] or ""
    return FileResponse(on_disk(file),
                        media_type=kind if kind.startswith("video/") else "video/mp4")


def video_route() -> Route:
    """The route that `Videos.player` names."""
    return Route(ROUTE + "{name}", play, methods=["GET"])
