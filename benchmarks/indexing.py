"""The indexing part of `benchmarks.retrieval`.

The pictures are copies of photographs, each made another file by some bytes behind its end, so that
none is taken for a copy of another; they are read and decoded as any.

- *encoder alone*: the model's vectors of pictures from tensors that are ready in memory, timed
  before and after the indexing for about a minute, each in a process of its own, as machines
  change their speed, and are slower when at work for long.
  *side by side*, as indexing runs it, a pass on each core; *one by one*, each pass on all cores.
- *indexing*: `index_folders` of a folder, from files to the store; as a share of the former two.
- *second run*: the same over the unchanged folder.
- *peak memory* of the process that runs the model, and of those that read, at each number of
  pictures, each in a process of its own.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import interleaved, run_all, table
from vitdemo.preprocess import Picture
from vitdemo.records import Unread

ALONE, TURNS = 128, 8  # pictures that the encoder alone is timed with, and how often


class StandIn:
    """Vectors from the colours of 12 x 12 cells: next to no work, so that the rest shows."""

    picture_side = 320

    def embed_pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Unit vectors, float32 (P, 384)."""
        rows = np.zeros((len(pictures), 384), np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            cells = np.asarray(picture.image.resize((11, 11)), np.float32).reshape(-1)
            row[:len(cells)] = cells - cells.mean() + 0.01
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """There are none."""
        raise NotImplementedError

    def unread(self, text: str) -> Unread:
        """There are none."""
        raise NotImplementedError


def copies(count: int, photos: Path, folder: Path) -> None:
    """``count`` files that differ, in folders of 1,000."""
    bases = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    for number in range(count):
        file = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bases[number % len(bases)] + number.to_bytes(4, "big"))


def encoder_alone(folder: Path, model: str) -> dict[str, float]:
    """Pictures a second from tensors that are ready, in the batches that indexing uses; run in a
    process of its own."""
    import torch

    from vitdemo.backends.native import PICTURES_AT_ONCE_CPU as SIZE
    from vitdemo.config import EngineConfig
    from vitdemo.engine import Engine
    from vitdemo.preprocess import normalisation, open_picture, to_pixels, to_square
    from vitdemo.streams import side_by_side

    engine: Any = Engine.load(EngineConfig(model=model, device="cpu"))
    backend, config = engine._backend, engine._backend.model.config
    files = sorted(folder.rglob("*.jpg"))[:ALONE]
    images = [to_square(open_picture(file).image, config.picture_size) for file in files]

    @torch.inference_mode()
    def embed(batch: torch.Tensor) -> torch.Tensor:
        return backend.model.picture_head(backend._features(batch))

    ways: dict[str, Callable[[], Any]] = {}
    for name, each, size in (("side by side", side_by_side, SIZE), ("one by one", map, 4)):
        batches = [to_pixels(images[n:n + size], config.picture_size,
                             *normalisation(config.backbone)).to(memory_format=torch.channels_last)
                   for n in range(0, len(images), size)]
        ways[name] = functools.partial(run_all, each, embed, batches)
    found = interleaved(ways, TURNS, progress=False)
    return {name: len(images) / timing.median for name, timing in found.items()}


def one_size(folder: Path, store: Path, model: str) -> dict[str, float]:
    """Index a folder twice; run in a process of its own."""
    import psutil

    from vitdemo.config import EngineConfig
    from vitdemo.engine import Engine
    from vitdemo.retrieval.base import Stamp, open_index
    from vitdemo.retrieval.gallery import Gallery
    from vitdemo.retrieval.indexer import Progress, index_folders

    process, peaks = psutil.Process(), {"main": 0, "all": 0}

    def look(now: Progress) -> None:
        if now.done % 50 == 0:
            own = process.memory_info().rss
            others = sum(child.memory_info().rss for child in process.children())
            peaks["main"] = max(peaks["main"], own)
            peaks["all"] = max(peaks["all"], own + others)

    if model:
        engine = Engine.load(EngineConfig(model=model, device="cpu"))
        gallery = engine.gallery(str(store))
    else:
        gallery = Gallery(open_index(str(store), Stamp("stand-in", "1", 384)), StandIn())
    first = index_folders(gallery, [folder], progress=look)
    again = index_folders(gallery, [folder])
    return {"pictures": first.added, "seconds": first.seconds, "again": again.seconds,
            "unchanged": again.unchanged, "speed": first.added / first.seconds,
            "main_mb": peaks["main"] / 2**20, "all_mb": peaks["all"] / 2**20}


def measure_indexing(sizes: Sequence[int], photos: Path, model: str,
                     place: Path) -> dict[str, Any]:
    """Each number of pictures in a process of its own."""
    rows = []
    for size in sizes:
        folder = place / f"pictures{size}"
        copies(size, photos.resolve(), folder)
        before = _run("alone", folder, model) if model else None
        row = _run("index", folder, str(place / f"store{size}"), model)
        if before is not None:
            after = _run("alone", folder, model)
            row |= {"alone": {way: 2 / (1 / before[way] + 1 / after[way]) for way in before},
                    "alone_before": before, "alone_after": after}
        rows.append(row)
    print("\nIndexing" + ("" if model else ", a stand-in in place of the model"))
    print(table(("pictures", "pictures/s", "of the encoder alone", "one by one",
                 "second run s", "times faster", "peak MB", "with readers"),
                [(f"{row['pictures']:,}", f"{row['speed']:.1f}",
                  *(f"{row['speed'] / row['alone'][way]:.0%}" if "alone" in row else "-"
                    for way in ("side by side", "one by one")),
                  f"{row['again']:.2f}", f"{row['seconds'] / row['again']:.0f}",
                  f"{row['main_mb']:.0f}", f"{row['all_mb']:.0f}") for row in rows]))
    return {"model": model, "sizes": rows}


def _run(*arguments: str | Path) -> Any:
    done = subprocess.run([sys.executable, "-m", "benchmarks.indexing", *map(str, arguments)],
                          check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    what, where, *others = sys.argv[1:]
    print(json.dumps(encoder_alone(Path(where), *others) if what == "alone"
                     else one_size(Path(where), Path(others[0]), others[1])))
