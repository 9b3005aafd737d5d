"""Pictures of folders read and worked on by many machines at once, by Ray Data.

Each worker has the model and reads files itself, so no pixels go between machines; what comes back
is what the local readers give, with the vector or the description in it. The files must lie at the
same paths on all machines.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from vitdemo.config import EngineConfig
from vitdemo.engine import BATCH, Engine
from vitdemo.errors import ServingError
from vitdemo.retrieval.readers import Readers, Reading
from vitdemo.serving.replicas import connect_ray
from vitdemo.serving.wire import fingerprint, pack, unpack

log = logging.getLogger(__name__)

FILES = 64  # that a worker is given at a time
MEGAPIXELS = 64  # of the pictures that it works on as one batch

Row = dict[str, Any]  # "path", and "reading", a message


class Worker:
    """A model in a process of Ray's, and processes that read for it. ``method`` is one of the
    engine's that takes pictures first, ``arguments`` are the rest as a message; ``model`` is the
    fingerprint that the model must have."""

    def __init__(self, config: EngineConfig, model: str, side: int, method: str,
                 arguments: bytes) -> None:
        self._engine = Engine.load(config)
        if fingerprint(self._engine.info) != model:
            raise RuntimeError(f"a worker has another model or another version for {config.model}")
        self._side, self._method = side, method
        self._arguments = unpack(arguments)
        self._readers = Readers(1)

    def __call__(self, files: dict[str, Any]) -> dict[str, Any]:
        """Files by their paths (column "path"), read and worked on."""
        done: dict[str, Reading] = {}
        batch: list[tuple[str, Reading]] = []
        pixels = 0
        for path, reading in self._readers.pictures(map(str, files["path"]), self._side):
            if reading.error:
                done[path] = reading
                continue
            if batch and pixels + len(reading.pixels) > 3_000_000 * MEGAPIXELS:
                done.update(self._worked(batch))
                batch, pixels = [], 0
            batch.append((path, reading))
            pixels += len(reading.pixels)
            if len(batch) == BATCH:
                done.update(self._worked(batch))
                batch, pixels = [], 0
        done.update(self._worked(batch))
        return {"path": list(done), "reading": [pack(one) for one in done.values()]}

    def _worked(self, batch: list[tuple[str, Reading]]) -> Iterator[tuple[str, Reading]]:
        if not batch:
            return
        pictures = [one.picture(path) for path, one in batch]
        made = getattr(self._engine, self._method)(pictures, *self._arguments)
        for (path, one), value in zip(batch, made, strict=True):
            yield path, replace(one, pixels=b"", made=value)


class RayReaders(Readers):
    """`Readers` whose pictures are also worked on, by ``count`` workers of the Ray cluster at
    ``address``: "auto" for the one that this computer is part of, "local" for this computer alone.
    Where ``count`` is 0 there are as many as there is room for."""

    def __init__(self, address: str, config: EngineConfig, engine: Engine, method: str,
                 *arguments: Any, count: int = 0) -> None:
        super().__init__(1)
        self._address, self._workers = address, count
        self._given = (config, fingerprint(engine.info), engine.picture_side, method,
                       pack(list(arguments)))

    def pictures(self, paths: Iterable[str], side: int) -> Iterator[tuple[str, Reading]]:
        """Each file's picture, worked on, in the order in which that ends."""
        for row in self._rows(list(paths)):
            yield row["path"], unpack(row["reading"])

    def _rows(self, paths: list[str]) -> Iterator[Row]:
        ray = connect_ray(self._address)
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        resources = ray.cluster_resources()
        gpu = self._given[0].device != "cpu" and bool(resources.get("GPU"))
        room = int(resources.get("GPU" if gpu else "CPU", 1))
        count = max(1, min(self._workers or room, -(-len(paths) // FILES)))
        share = 1.0 if gpu else min(1.0, 0.9 * resources.get("CPU", 1) / count)
        files = data.from_items([{"path": path} for path in paths],
                                    override_num_blocks=-(-len(paths) // FILES))
        try:
            yield from files.map_batches(
                Worker, batch_size=FILES, fn_constructor_args=self._given,
                compute=data.ActorPoolStrategy(size=count),
                **{"num_gpus": 1} if gpu else {"num_cpus": share}).iter_rows()
        except ray.exceptions.RayError as error:
            log.error("a fault of a worker: %s", error)
            raise ServingError("serving.worker") from error
