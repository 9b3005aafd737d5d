"""Takes in what visitors upload: each upload into a folder of its own, bounded, and nothing of one
that was broken off stays. In the place of Gradio's own route, which keeps such pieces."""

import asyncio
from pathlib import Path

from gradio.route_utils import upload_fn
from gradio.routes import file_upload_statuses
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive

from vitdemo.config import LIMITS
from vitdemo.texts import phrase
from vitdemo.ui.session import Sessions

SILENCE = 60.0  # seconds without a byte, after which an upload counts as broken off
TOLD = 10.0  # seconds for which its progress can still be asked for
NO_LENGTH = "Say in the header Content-Length how large the upload is."
NO_FORM = "Send the files as a form (multipart/form-data) whose fields are all called “files”."


class NoRoom(Exception):
    """All uploads together take as much as they may, or as the disk holds."""


async def upload(request: Request) -> Response:
    """Store the files of one form; answers with their paths, as Gradio's own route does."""
    blocks = request.app.get_blocks()
    sessions: Sessions = blocks.sessions
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return PlainTextResponse(NO_LENGTH, 411)
    if int(length[:20]) > LIMITS.max_upload_megabytes * 2**20:
        return PlainTextResponse(
            phrase("upload.large", most=LIMITS.max_upload_megabytes), 413)
    folder = sessions.begin_upload()
    upload_id = request.query_params.get("upload_id", "")[:64]
    whole = False
    try:
        files, _, _ = await upload_fn(
            Request(request.scope, _counted(request.receive, sessions, folder)), folder,
            LIMITS.upload_bytes, upload_id, force_move=True,
            upload_progress=file_upload_statuses if upload_id else None)
        whole = bool(files)
        return JSONResponse(files)
    except MultiPartException as error:
        if "maximum allowed" not in error.message:
            return PlainTextResponse(NO_FORM, 400)
        most = LIMITS.upload_bytes // 2**20
        return PlainTextResponse(phrase("upload.large_file", most=most), 413)
    except (TypeError, AttributeError):  # a field that is no file
        return PlainTextResponse(NO_FORM, 400)
    except NoRoom:
        return PlainTextResponse(phrase("upload.full"), 507)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    finally:
        sessions.end_upload(folder, whole)
        if upload_id:
            file_upload_statuses.set_done(upload_id)
            asyncio.get_running_loop().call_later(
                TOLD, file_upload_statuses.stop_tracking, upload_id)


def _counted(receive: Receive, sessions: Sessions, folder: Path) -> Receive:
    """As ``receive``, but who falls silent has gone, and there is an end to the room."""
    async def next_message() -> Message:
        try:
            message = await asyncio.wait_for(receive(), SILENCE)
        except asyncio.TimeoutError:
            return {"type": "http.disconnect"}
        if not sessions.room_for(folder, len(message.get("body", b""))):
            raise NoRoom
        return message

    return next_message


def upload_route() -> Route:
    """The route that stands before Gradio's own."""
    return Route("/gradio_api/upload", upload, methods=["POST"])
