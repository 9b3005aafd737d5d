"""The galleries that Search looks through: the examples, one's own uploads, or a folder."""

import hashlib
import html
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdemo.config import LIMITS
from vitdemo.engine import Engine
from vitdemo.errors import PictureError, StoreError
from vitdemo.preprocess import open_picture
from vitdemo.retrieval.gallery import Gallery
from vitdemo.ui.parts import Context

BATCH = 16  # pictures opened at once

Tell = Callable[[int, int, str], None]


@dataclass
class Album:
    """One gallery with what a person should know of it: where it came from, what was left out."""

    gallery: Gallery | None
    title: str
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (file, reason)

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
            raise StoreError("These pictures are no longer here: they are deleted when the page "
                             "is closed or has lost its connection. Choose them again.")
        return self.gallery

    def report(self) -> str:
        """What is in it and what is not, as HTML."""
        count = self.gallery.count() if self.gallery is not None else 0
        lines = [f"<p><strong>{count} picture{'' if count == 1 else 's'} to search</strong> "
                 f"in {html.escape(self.title)}.</p>"]
        if self.skipped:
            items = "".join(f"<li>{html.escape(reason)}</li>" for _, reason in self.skipped[:50])
            more = len(self.skipped) - 50
            items += f"<li>and {more} more</li>" if more > 0 else ""
            lines.append(f"<details open><summary>{len(self.skipped)} left out</summary>"
                         f"<ul>{items}</ul></details>")
        return f'<div class="vt-report" role="status">{"".join(lines)}</div>'


class ExampleAlbum:
    """The example photographs, indexed when first searched and shared by all visitors."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._album: Album | None = None

    def get(self) -> Album:
        with self._lock:
            if self._album is None:
                self._album = album_of_files(
                    self._context.engine, [str(path) for path in self._context.examples],
                    "the example photographs")
            return self._album


def album_of_files(engine: Engine, paths: Sequence[str], title: str,
                   tell: Tell | None = None) -> Album:
    """Index picture files in memory; unreadable ones are listed with the reason.

    Raises:
        PictureError: none of them is a picture, or there are too many.
    """
    if len(paths) > LIMITS.max_uploads:
        raise PictureError(f"{len(paths)} files are too many at once; the limit is "
                           f"{LIMITS.max_uploads}. For more, search a folder.")
    album = Album(engine.gallery(), title)
    for first in range(0, len(paths), BATCH):
        batch = []
        for path in paths[first:first + BATCH]:
            try:
                batch.append((path, open_picture(path)))
            except PictureError as error:
                album.skipped.append((path, str(error)))
        if batch:
            album.opened().add(batch)
        if tell is not None:
            tell(min(first + BATCH, len(paths)), len(paths), "")
    if not album.opened().count():
        album.close()
        reason = album.skipped[0][1] if album.skipped else "There are no pictures."
        raise PictureError(reason if len(album.skipped) < 2 else
                           f"None of these {len(album.skipped)} files is a picture that can be "
                           f"used. The first: {reason}")
    return album


def album_of_folder(context: Context, typed: str, tell: Tell | None = None) -> Album:
    """Index a folder of this computer, in memory or, with a store, on disk.

    Raises:
        PictureError: no such folder, not an allowed one, or it holds no picture.
    """
    if not typed.strip():
        raise PictureError("Type the path of a folder of pictures first.")
    folder = Path(os.path.realpath(Path(typed.strip().strip("\"'")).expanduser()))
    roots = [Path(os.path.realpath(root)) for root in context.settings.folders]
    if not any(folder == root or root in folder.parents for root in roots):
        raise PictureError(f"{folder} is outside of the folders that may be searched "
                           f"({', '.join(map(str, roots))}). To allow it, start the app with "
                           f"--allow-folder \"{folder}\".")
    uri = "memory://"
    if context.settings.store:
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        uri = os.path.join(context.settings.store, name)
    album = Album(context.engine.gallery(uri), str(folder))
    try:
        report = album.opened().add_folder(folder, tell)
        album.skipped = [(one.path, one.reason) for one in report.skipped]
        if not album.opened().count():
            raise PictureError(f"{folder} holds no picture that can be used.")
    except BaseException:
        album.close()
        raise
    return album
