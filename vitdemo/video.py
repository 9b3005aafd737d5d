"""Videos: which of its frames stand for one, and a frame as a picture.

A frame is a picture whose path is its video's with the second behind it, as in clip.mp4#t=12.3 (a
media fragment of the W3C): what is on screen then. Seconds count from the beginning of the file, as
in a browser's player. PyAV, the FFmpeg libraries for Python, reads videos where it is installed.
"""

import contextlib
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vitdemo.camera import read_date
from vitdemo.config import LIMITS
from vitdemo.errors import BusyError, PictureError
from vitdemo.file_names import on_disk
from vitdemo.pixel_budget import Share
from vitdemo.texts import phrase

# Endings of files that are taken for videos.
SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".mts",
                      ".m2ts", ".3gp", ".ogv", ".wmv", ".flv"))
LEAST = 1.0  # seconds from one frame to the next
MOST = 10.0  # the same where nothing changes
FRAMES = 600  # of one video; of a long one the seconds between them grow
CHANGE = 24.0  # of 255, mean difference of two small frames: another picture
# What is decoded of a video before only one key frame a second is looked at: ten minutes of
# 1920 x 1080 pixels at 30 a second.
PIXELS = 37e9
REACH = 4000  # frames that are decoded from a key frame to the one that is wanted
_PLAIN = 8  # of 255, from the darkest to the lightest: a frame of one colour
_SIDE = 32  # pixels of the small frames
_COST = 10  # pixels of 4 bytes that one pixel of a frame costs while it is decoded
_BACK = (0.0, 20.0, math.inf)  # seconds before the wanted one: where it is looked for from
_ADDRESS = re.compile(rf"(.+(?:{'|'.join(re.escape(one) for one in sorted(SUFFIXES))}))"
                      r"#t=(\d{1,7}(?:\.\d{1,6})?)", re.IGNORECASE | re.DOTALL)
# No lists of other files, and nothing from a network: a file may be anybody's.
_OPTIONS = {"format_whitelist": "mov,matroska,avi,mpeg,mpegts,ogg,asf,flv",
            "protocol_whitelist": "file"}

Take = Callable[[int, str], Share]


def is_video(path: str) -> bool:
    """Whether a file is a video by its name."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def in_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a frame, or of a whole video."""
    path = os.fspath(path)
    return second_of(path) is not None or is_video(path)


def file_of(path: str) -> str:
    """The file that a picture is in: its own, or the video that it is a frame of."""
    found = _ADDRESS.fullmatch(path)
    return found[1] if found else path


def second_of(path: str) -> float | None:
    """The second of a frame; None for any other path."""
    found = _ADDRESS.fullmatch(path)
    return float(found[2]) if found else None


def frame_path(file: str, second: float) -> str:
    """The path of a frame, by a second of the file, to the millisecond."""
    return f"{file}#t={f'{second:.3f}'.rstrip('0').rstrip('.')}"


def clock(second: float) -> str:
    """A time as players show it: "0:12", "1:02:03"."""
    minutes, seconds = divmod(int(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def called(path: str) -> str:
    """A picture's name for a person: "beach.jpg", "clip.mp4 at 0:12"."""
    second, name = second_of(path), os.path.basename(file_of(path))
    return name if second is None else phrase("video.at", name=name, time=clock(second))


def video_reader() -> str:
    """What reads videos here, with its version; "" where nothing does."""
    try:
        import av
    except ImportError:
        return ""
    return f"PyAV {av.__version__}"


@dataclass(frozen=True)
class Frame:
    """A frame upright as RGB, and when it was taken, as far as the video says so: see
    `vitdemo.camera.from_camera`."""

    image: Image.Image
    camera: dict[str, str | int | float]


def check_upload(file: str, name: str) -> None:
    """Raise `PictureError` where a video is too large or too long to be uploaded, or none."""
    with _opened(file, name) as video:
        size, minutes = os.path.getsize(on_disk(file)) / 2**20, video.length / 60
        if size > LIMITS.max_video_megabytes or minutes > LIMITS.max_video_minutes:
            raise PictureError("video.large", name=name, size=f"{size:.0f}", time=clock(
                video.length), megabytes=LIMITS.max_video_megabytes,
                minutes=LIMITS.max_video_minutes)


def frame_seconds(file: str, name: str, take: Take) -> list[float]:
    """The seconds of the frames that stand for a video, rising, at least one.

    That is a frame wherever the picture has changed enough since the last one, and one every ten
    seconds at least; at most `FRAMES`. Frames of one colour count only where there is no other.
    ``take(pixels, name)`` gives memory. Where a file is damaged, what can be decoded counts.

    Raises:
        PictureError: no video, no picture in it, or PyAV is missing.
    """
    with _opened(file, name) as video, _memory(video, name, take, lambda size: None):
        found, plain, sparse = _chosen(video)
        if sparse and found:
            found = _filled(found, video.length, video.every)
        found = found or plain
        if not found:
            raise PictureError("video.nothing", name=name)
        picked = np.linspace(0, len(found) - 1, min(len(found), FRAMES)).round().astype(int)
        return [found[place] for place in picked]


def read_frame(path: str, name: str, check: Callable[[tuple[int, int]], None],
               take: Take) -> Frame:
    """The frame at an address. ``check`` is given its (width, height) before it is decoded, and
    raises where that is not wanted; ``take(pixels, name)`` gives memory.

    Raises:
        PictureError: there is none.
    """
    second = second_of(path)
    if second is None:
        raise PictureError("video.whole", name=name)
    with _opened(file_of(path), name) as video, _memory(video, name, take, check):
        for back in _BACK:
            frame = video.frame_at(second, max(0.0, second - back))
            if frame is not None:
                return Frame(_upright(frame, video.stream), video.camera())
    raise PictureError("video.no_frame", name=name, time=clock(second))


@dataclass
class _Video:
    container: Any
    stream: Any
    begin: float  # seconds, of the clock of the file's frames

    @property
    def size(self) -> tuple[int, int]:
        return self.stream.codec_context.width, self.stream.codec_context.height

    @property
    def length(self) -> float:
        """Seconds, 0 where the file does not say."""
        return max(0.0, (self.container.duration or 0) / 1_000_000)

    @property
    def every(self) -> float:
        """Seconds after which a frame is due though nothing changed."""
        return max(MOST, 2 * self.length / FRAMES)

    def packets(self) -> Iterator[Any]:
        """What can be read of the file."""
        from av.error import FFmpegError

        with contextlib.suppress(FFmpegError):  # cut off: what was read before counts
            yield from self.container.demux(self.stream)

    def decoded(self, packet: Any) -> Iterator[tuple[float, Any]]:
        """The frames that a packet brings, each with its second; none where it is damaged."""
        from av.error import FFmpegError

        with contextlib.suppress(FFmpegError):
            for frame in packet.decode():
                if frame.time is not None:
                    yield max(0.0, frame.time - self.begin), frame

    def frame_at(self, second: float, start: float) -> Any:
        """What is on screen at a second, looked for from ``start`` on; None where it cannot be
        reached from there."""
        from av.error import FFmpegError

        try:
            self.container.seek(int((start + self.begin) / self.stream.time_base),
                                stream=self.stream)
        except FFmpegError:  # a file that cannot be wound
            if start:
                return None
        self.stream.codec_context.flush_buffers()
        last = None
        seen = 0
        for packet in self.packets():
            for time, frame in self.decoded(packet):
                seen += 1
                if last is None and start and not frame.key_frame:
                    continue  # what it builds on was not read
                if time > second + 1e-6 and (last is not None or start):
                    return last
                last = frame
                if time > second + 1e-6 or seen > REACH:
                    return last if seen <= REACH else None
        return last

    def camera(self) -> dict[str, str | int | float]:
        """When it was taken, by the clock of the place where the file tells that, as those of
        iPhones do; most tell the time in Greenwich, which may be on another day."""
        taken = read_date(str(self.container.metadata.get("com.apple.quicktime.creationdate", "")))
        return {"taken": taken, "dated": "original"} if taken else {}


@contextlib.contextmanager
def _opened(file: str, name: str) -> Iterator[_Video]:
    try:
        import av
    except ImportError as error:
        raise PictureError("video.no_reader", name=name) from error
    real = on_disk(file)
    try:
        status = os.stat(real)
    except FileNotFoundError as error:
        raise PictureError("picture.none", name=name) from error
    except (OSError, ValueError) as error:
        raise PictureError("picture.unreadable", name=name, why=error) from error
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block for ever
        raise PictureError("picture.not_plain", name=name)
    if not status.st_size:
        raise PictureError("picture.empty", name=name)
    try:
        # A plain name like concat:a|b would be an instruction to FFmpeg.
        with av.open(f"file:{os.path.abspath(real)}", container_options=_OPTIONS,
                     metadata_errors="replace") as container:
            stream = next((one for one in container.streams.video
                           if one.codec_context and not _cover(one)), None)
            if stream is None:
                raise PictureError("video.nothing", name=name)
            stream.codec_context.thread_count = 1  # there is a process for each core already
            yield _Video(container, stream, (container.start_time or 0) / 1_000_000)
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise BusyError("picture.no_memory", name=name) from error
        raise PictureError("video.broken", name=name, why=error) from error


def _cover(stream: Any) -> bool:
    """Whether it is a picture that was put beside the sound."""
    return bool(stream.disposition & stream.disposition.attached_pic)


@contextlib.contextmanager
def _memory(video: _Video, name: str, take: Take,
            check: Callable[[tuple[int, int]], None]) -> Iterator[None]:
    """A share of memory as long as frames are decoded."""
    width, height = video.size
    if not width or not height:
        raise PictureError("video.nothing", name=name)
    check((width, height))
    share = take(width * height * _COST, name)
    try:
        yield
    finally:
        share.keep(0)


def _chosen(video: _Video) -> tuple[list[float], list[float], bool]:
    """The seconds of frames that count, that of the first of one colour alone, and whether not all
    frames were looked at."""
    from av.video.reformatter import VideoReformatter

    smaller = VideoReformatter()  # one for all: to set one up takes longer than to use it
    found: list[float] = []
    plain: list[float] = []
    kept = np.zeros((_SIDE, _SIDE, 3), np.int16)
    cost, looked, step = 0, -math.inf, max(LEAST, video.length / (4 * FRAMES))
    for packet in video.packets():
        sparse = cost > PIXELS
        if sparse and packet.pts is not None:
            second = float(packet.pts * packet.time_base) - video.begin
            if not packet.is_keyframe or second < looked + step:
                continue
            looked = second
        for second, frame in video.decoded(packet):
            cost += frame.width * frame.height
            if found and second < found[-1] + LEAST:
                continue
            small = smaller.reformat(frame, _SIDE, _SIDE, "rgb24", interpolation="AREA", threads=1)
            pixels = small.to_ndarray().astype(np.int16)  # (side, side, 3)
            if np.ptp(pixels, (0, 1)).max() < _PLAIN:
                plain = plain or [_up(second)]
            elif (not found or second >= found[-1] + video.every
                  or np.abs(pixels - kept).mean() >= CHANGE):
                kept = pixels
                found.append(_up(second))
    return found, plain, cost > PIXELS


def _filled(found: list[float], length: float, every: float) -> list[float]:
    """The same with seconds between those that are too far apart."""
    filled: list[float] = []
    for second, after in zip(found, [*found[1:], max(length, found[-1])], strict=True):
        filled += np.arange(second, max(after - every / 2, second + 0.001), every).tolist()
    return [round(second, 3) for second in filled]


def _up(second: float) -> float:
    """To the next millisecond, so that a player is on this frame and not on the one before."""
    return math.ceil(second * 1000 - 1e-3) / 1000


def _upright(frame: Any, stream: Any) -> Image.Image:
    """A frame as it is meant to be seen: its pixels square, and turned."""
    image: Image.Image = frame.to_image()
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1:
        image = image.resize((max(1, round(image.width * ratio)), image.height),
                             Image.Resampling.BICUBIC)
    turn = {90: Image.Transpose.ROTATE_90, -90: Image.Transpose.ROTATE_270,
            180: Image.Transpose.ROTATE_180, -180: Image.Transpose.ROTATE_180}
    way = turn.get(frame.rotation)
    return image.transpose(way) if way is not None else image


