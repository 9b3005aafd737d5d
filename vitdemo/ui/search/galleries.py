"""The galleries that Search looks through: the examples, one's own uploads, the owner's folders,
or what the owner of an app for others shows."""

import html
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.config import LIMITS
from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import PictureError, StoreError, TaskError, shortened
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import IndexReport, Progress, index_folders
from vitdemo.texts import Message, phrase
from vitdemo.ui import markup
from vitdemo.ui.components import Context
from vitdemo.video import check_upload, is_video

log = logging.getLogger(__name__)

EXAMPLES, UPLOADS, FOLDER, OWNERS = "examples", "uploads", "folder", "owners"
FOLDERS_SHOWN = 60  # folders in a folder

Tell = Callable[[int, int], None]


@dataclass
class Album:
    """One gallery with what a person should know of it: where it came from, what was left out."""

    gallery: Gallery | None
    title: str | Message
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (file, reason)
    notes: list[str] = field(default_factory=list)  # on pictures that are damaged and were read

    def close(self) -> None:
        """Let go of the pictures; closing twice does nothing."""
        gallery, self.gallery = self.gallery, None
        if gallery is not None:
            gallery.close()

    def opened(self) -> Gallery:
        """The gallery.

        Raises:
            StoreError: it was closed, as its page was.
        """
        if self.gallery is None:
            raise StoreError("gallery.closed")
        return self.gallery

    def allows(self, path: str) -> bool:
        """Whether a file may be read: a video that is too long is left out, with the reason."""
        if is_video(path):
            try:
                check_upload(path, os.path.basename(path))
            except PictureError as error:
                self.skipped.append((path, str(error)))
                return False
        return True

    def report(self) -> str:
        """What is in it and what is not, as HTML."""
        count = self.gallery.count() if self.gallery is not None else 0
        return markup.report([ready_html(count, str(self.title))],
                             [reason for _, reason in self.skipped], self.notes)


class Shared:
    """A gallery of the whole app, opened by ``open_`` when it is first needed, or the next time
    where that failed; it lasts as long as the app."""

    def __init__(self, open_: Callable[[], Gallery]) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._gallery: Gallery | None = None

    def gallery(self) -> Gallery:
        """The opened gallery.

        Raises:
            PictureError, StoreError: there is none, or it cannot be opened.
        """
        with self._lock:
            if self._gallery is None:
                self._gallery = self._open()
            return self._gallery


def open_owners(context: Context) -> Gallery:
    """What the owner of an app for others shows in Search; it is only read. Why it cannot be used,
    the log says."""
    owners = context.settings.owners
    if owners is None:
        raise StoreError("gallery.uploads_only")
    try:
        return context.engine.gallery(owners.store, [str(folder) for folder in owners.folders])
    except (StoreError, TaskError) as error:
        log.warning("the owner's pictures cannot be searched: %s", error)
        raise StoreError("store.not_shown") from error


class Galleries:
    """All galleries of the app, by the name of the choice; one's own uploads are the page's."""

    def __init__(self, context: Context) -> None:
        self._context, settings = context, context.settings
        openers: dict[str, Callable[[], Gallery]] = {
            EXAMPLES: lambda: album_of_files(context.engine, list(map(str, context.examples)),
                                             Message("gallery.examples")).opened(),
            FOLDER: lambda: context.engine.gallery(settings.store or "memory://"),
            OWNERS: lambda: open_owners(context)}
        offered = {EXAMPLES: context.examples, UPLOADS: True, FOLDER: settings.own_folders,
                   OWNERS: settings.owners}
        self.choices = [name for name, there in offered.items() if there]
        self.shared = {name: Shared(openers[name]) for name in self.choices if name in openers}

    @property
    def lasting(self) -> bool:
        """Whether the owner's folders are there again at the next start."""
        return bool(self._context.settings.store)

    def index(self, folders: Sequence[Path], tell: Callable[[Progress], None],
              cancelled: Callable[[], bool], prune: bool = False) -> tuple[IndexReport, int]:
        """Bring the gallery of the owner's folders up to date with allowed ones; ``prune`` as in
        `index_folders`. Gives how many pictures it has then, too.

        Raises:
            PictureError: the folder is gone.
            StoreError: the store cannot be written, or no folders are searched here.
        """
        if FOLDER not in self.shared:
            raise StoreError("gallery.uploads_only")
        gallery = self.shared[FOLDER].gallery()
        report = index_folders(gallery, folders, progress=tell, cancelled=cancelled,
                               inside=self._context.settings.folders, prune=prune)
        return report, gallery.count()

    def gallery(self, chosen: str) -> Gallery:
        """One that is the app's, with pictures in it.

        Raises:
            PictureError, StoreError: there is none, it is empty, or it cannot be opened.
        """
        if chosen not in self.shared:
            raise StoreError("gallery.not_offered", chosen=chosen, known=", ".join(self.shared))
        gallery = self.shared[chosen].gallery()
        if chosen == FOLDER and not gallery.count():
            raise StoreError("reading.no_folder")
        return gallery


def allowed_folder(context: Context, typed: str) -> Path:
    """The folder that a person typed, if it may be read.

    Both the path as typed and where it leads to have to lie in a folder that the owner allowed:
    neither ".." nor a link gets out.

    Raises:
        PictureError: nothing was typed, there is no such folder, or it is not allowed.
    """
    typed = typed.strip().strip("\"'").strip()
    if not typed:
        raise PictureError("gallery.no_path")
    if "\0" in typed:
        raise PictureError("gallery.bad_path")
    folder = Path(os.path.abspath(expanded(typed)))
    if not may_read(context, folder):
        roots = ", ".join(map(str, context.settings.folders)) or "–"
        raise PictureError("gallery.outside", folder=folder, roots=roots)
    if not os.path.isdir(folder):
        raise PictureError("gallery.no_folder", folder=shortened(folder, 300))
    return folder


def may_read(context: Context, folder: Path) -> bool:
    """Whether a path leads, links followed, to one of the allowed folders or into it."""
    real = Path(os.path.realpath(folder))
    roots = [Path(os.path.realpath(root)) for root in context.settings.folders]
    return any(real == root or root in real.parents for root in roots)


def folders_in(context: Context, typed: str) -> list[str]:
    """Paths of the folders to choose from next: those in the one that was typed, and the one above
    it first, as far as they are allowed. Where nothing usable was typed, the allowed folders."""
    try:
        folder = allowed_folder(context, typed)
        with os.scandir(folder) as entries:
            inside = sorted(one.path for one in entries
                            if not one.name.startswith(".") and one.is_dir())
    except (PictureError, OSError):
        return [str(root) for root in context.settings.folders][:FOLDERS_SHOWN]
    above = [str(folder.parent)] if may_read(context, folder.parent) else []
    return above + [path for path in inside if may_read(context, Path(path))][:FOLDERS_SHOWN]


def album_of_files(engine: Engine, paths: Sequence[str], title: str | Message,
                   tell: Tell | None = None) -> Album:
    """Index picture files, and videos by their frames, in memory; unreadable ones are listed with
    the reason.

    Raises:
        PictureError: none of them is a picture, or there are too many.
    """
    videos = sum(map(is_video, paths))
    if len(paths) > LIMITS.max_uploads:
        raise PictureError("gallery.too_many", count=len(paths), most=LIMITS.max_uploads)
    if videos > LIMITS.max_videos:
        raise PictureError("gallery.too_many_videos", count=videos, most=LIMITS.max_videos)
    album = Album(engine.gallery(), title)
    try:
        def told(done: int) -> None:
            if tell is not None:
                tell(done, len(usable))

        usable = list(filter(album.allows, paths))
        skipped, album.notes = album.opened().add_files(usable, told)
        album.skipped += [(one.path, one.reason) for one in skipped]
        if not album.opened().count():
            reason = album.skipped[0][1] if album.skipped else Message("gallery.none")
            raise PictureError("gallery.unusable", count=max(1, len(album.skipped)), reason=reason)
    except BaseException:
        album.close()
        raise
    return album


def ready_html(count: int, place: str) -> str:
    """How many pictures can be searched, as HTML."""
    return phrase("gallery.ready", count=count, number=f"{count:,}", place=html.escape(place))
