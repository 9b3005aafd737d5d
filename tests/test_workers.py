"""Folders read by workers that have the model: the same store and texts as by this process.

The workers' part runs here, without Ray, but for the test that says so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_picture

from vitdemo import cli
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.retrieval.indexer import index_folders
from vitdemo.serving import workers
from vitdemo.serving.workers import RayReaders, Worker


class HereReaders(RayReaders):
    """The same with a worker in this process, which is given 3 files at a time."""

    def _rows(self, paths: list[str]) -> Iterator[dict[str, Any]]:
        worker = Worker(*self._given)
        with worker._readers:
            for first in range(0, len(paths), 3):
                done = worker({"path": paths[first:first + 3]})
                for path, reading in zip(done["path"], done["reading"], strict=True):
                    yield {"path": path, "reading": reading}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for seed in range(5):
        make_picture(seed).save(made / f"{seed}.png")
    (made / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    return made


def test_an_index_by_workers_is_that_of_this_process(tiny_checkpoint: Path, folder: Path) -> None:
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu")
    engine = Engine.load(config)
    plain, shared = engine.gallery(), engine.gallery()
    first = index_folders(plain, [folder])
    second = index_folders(shared, [folder], readers=HereReaders("", config, engine,
                                                                  "embed_pictures"))
    assert (first.added, second.added) == (5, 5)
    assert [one.path for one in second.skipped] == [one.path for one in first.skipped] \
        == [str(folder / "broken.jpg")]
    vector = engine.embed_texts(["a dog"])[0]
    hits, theirs = (one.search_with_vectors(vector) for one in (plain, shared))
    assert {one.path: one.metadata["content"] for one in hits[0]} \
        == {one.path: one.metadata["content"] for one in theirs[0]}
    for name, row in hits[1].items():
        assert np.allclose(row, theirs[1][name], atol=1e-5)
    assert index_folders(shared, [folder]).unchanged == 5


def test_descriptions_by_workers_are_those_of_this_process(
        tiny_checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    def described(*flags: str) -> dict[str, Any]:
        out = folder.parent / f"out{len(flags)}.jsonl"
        assert cli.main(["describe", str(folder), "--write", "jsonl", "--out", str(out), "--model",
                         str(tiny_checkpoint), "--device", "cpu", "--question", "what is there?",
                         *flags]) == 0
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        return {row["file_name"]: row for row in rows}

    monkeypatch.setattr(workers, "RayReaders", HereReaders)
    plain = described()
    assert len(plain) == 5 and described("--ray", "local") == plain


def test_a_worker_with_other_weights_is_refused(tiny_checkpoint: Path) -> None:
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu")
    with pytest.raises(RuntimeError, match="another model"):
        Worker(config, "0" * 16, 0, "embed_pictures", b"")


@pytest.mark.slow
def test_ray_data_indexes(tiny_checkpoint: Path, folder: Path) -> None:
    """With the real Ray."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: "
                                            "pip install -r requirements-serve.txt")
    config = EngineConfig(model=str(tiny_checkpoint), device="cpu")
    engine = Engine.load(config)
    gallery = engine.gallery()
    try:
        report = index_folders(gallery, [folder], readers=RayReaders(
            "local", config, engine, "embed_pictures", count=1))
    finally:
        ray.shutdown()
    assert report.added == gallery.count() == 5 and len(report.skipped) == 1
