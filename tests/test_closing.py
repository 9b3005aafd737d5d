"""A model that is closed gives its memory back, and says that it is closed."""

import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_blip import save_tiny_blip
from tiny_chat import save_tiny_chat
from tiny_clip import save_tiny_clip

from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import open_picture


def models_of(value: Any, known: frozenset[int] = frozenset()) -> list[torch.nn.Module]:
    """The networks that a backend holds; what is ``known`` (by its id) leads to it."""
    if isinstance(value, torch.nn.Module):
        return [value]
    if id(value) in known:  # a text that was written knows who wrote it
        return []
    if type(value).__module__.startswith("vitdemo") and hasattr(value, "__dict__"):
        value, known = vars(value), known | {id(value)}
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in models_of(part, known)] if isinstance(
        value, list | tuple) else []


@pytest.fixture(params=["native", "blip", "smolvlm", "clip", "joined"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = request.param
    if kind == "native":
        return str(request.getfixturevalue("tiny_checkpoint"))
    if kind == "smolvlm":
        return str(save_tiny_chat(tmp_path / kind, kind, 1))
    writes = str(save_tiny_blip(tmp_path / "blip", "captioning", 1))
    compares = str(save_tiny_clip(tmp_path / "clip", "clip", 2))
    return {"blip": writes, "clip": compares, "joined": f"{writes}+{compares}"}[kind]


def test_its_memory_is_given_back(name: str, picture: Image.Image) -> None:
    engine = Engine(load_backend(EngineConfig(model=name, device="cpu")))
    photo = open_picture(picture)
    if "caption" in engine.info.tasks:
        said: Any = engine.caption(photo, decoding=Decoding(strategy="greedy", max_tokens=4))
    else:
        said = "a dog"
    engine.explain(photo, said)  # hooks and caches were there
    left = [weakref.ref(one) for one in models_of(vars(engine._backend))]
    assert left
    begun = engine.stream(photo) if "caption" in engine.info.tasks else None
    if begun is not None:
        next(begun)
    engine.close()
    if begun is not None:
        with pytest.raises(TaskError, match="was closed"):
            next(begun)
        begun.close()
    assert [one() for one in left if one() is not None] == []
    for call in (lambda: engine.caption(photo), lambda: engine.embed_texts(["a dog"]),
                 lambda: engine.explain(photo, "a dog")):
        with pytest.raises(TaskError, match="was closed"):
            call()
    assert engine.info.name


def test_who_waits_for_a_closed_model_is_told(tiny_checkpoint: Path, picture: Image.Image) -> None:
    engine = Engine(load_backend(EngineConfig(model=str(tiny_checkpoint), device="cpu")))
    told: list[Exception] = []

    def wait() -> None:
        try:
            with engine._lock:
                raise AssertionError("it was had")
        except TaskError as error:
            told.append(error)

    with engine._lock:
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not engine._lock.waiting()[0]:
            pass
        engine._lock.close(TaskError("chooser.closed"))
    waiting.join()
    assert len(told) == 1
