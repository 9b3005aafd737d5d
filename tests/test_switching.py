"""Another model for the whole server, chosen on the page."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import planted_engine
from served import Served, pictures, serve  # noqa: F401 - fixtures
from tiny_clip import save_tiny_clip

from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError, TaskError
from vitdemo.texts import Message
from vitdemo.ui import Settings
from vitdemo.ui.model_panel import RECOMMENDED, _abilities, _figures
from vitdemo.ui.switching import check_name


class Loader:
    """Loads what a test plants; ``go`` lets it go on."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, name: str) -> Engine:
        self.begun.set()
        assert self.go.wait(60)
        if "bad" in name:
            raise CheckpointError("This model is bad.")
        engine = planted_engine()
        info = replace(engine.info, name="another", tasks=frozenset({"caption", "explain"}),
                       missing=dict.fromkeys(("ask", "match", "embed"),
                                             Message("task.not_made_for_it")))
        engine._backend.info = info
        self.engines.append(engine)
        return engine


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders that look like models of our own, so that nothing is asked of a hub."""
    root = tmp_path_factory.mktemp("models")
    for name in ("good", "bad"):
        (root / name).mkdir()
        for file in ("config.json", "meta.json"):
            (root / name / file).write_text("{}")
    return {name: str(root / name) for name in ("good", "bad")}


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def app(pictures: Path, tmp_path: Path,  # noqa: F811
        loader: Loader) -> Iterator[Served]:
    with serve(tmp_path, Settings(pictures, load_model=loader, choose_model=True)) as running:
        yield running


def pages(app: Served) -> Any:
    """What the server serves now."""
    return app.blocks.app.get_blocks()


def tab(blocks: Any, name: str) -> dict[str, Any]:
    return next(one["props"] for one in blocks.config["components"]
                if one["type"] == "tabitem" and one["props"].get("id") == name)


def change(app: Served, name: str, page: str = "page") -> dict[str, Any]:
    answer = app.join(app.function("change_model"), [name, None], page)
    assert answer.status_code == 200, answer.text
    return dict(app.ended(page)["output"])


def test_another_model_takes_the_place_of_the_old_one(app: Served, loader: Loader,
                                                      folders: dict[str, str]) -> None:
    old = app.blocks
    assert tab(old, "ask")["interactive"]
    output = change(app, folders["good"])
    assert "is ready" in str(output["data"][0])
    assert output["data"][2] is True, "so the page reloads itself"
    assert pages(app) is not old
    assert not tab(pages(app), "ask")["interactive"], "what it cannot do is off"
    served = app.client.get(app.address).text
    assert "Model: another" in served
    chinese = app.client.get(app.address, headers={"Accept-Language": "zh"}).text
    assert "模型：another" in chinese
    assert app.client.get(f"{app.address}/theme.css").status_code == 200
    # It works as the first one did: an event of a page, and a change back.
    app.blocks = pages(app)
    assert "is ready" in str(change(app, folders["good"], "another page")["data"][0])
    with pytest.raises(TaskError, match="was closed"):
        loader.engines[0].embed_texts(["a dog"])
    assert loader.engines[1].info.tasks == {"caption", "explain"}


def test_a_model_that_fails_leaves_the_old_one_working(app: Served, folders: dict[str, str]
                                                       ) -> None:
    output = change(app, folders["bad"])
    assert "This model is bad." in str(output["data"][0])
    assert not output["data"][2]
    assert pages(app) is app.blocks
    assert tab(pages(app), "ask")["interactive"]


def test_a_change_can_be_cancelled_and_a_second_one_waits(app: Served, loader: Loader,
                                                          folders: dict[str, str]) -> None:
    loader.go.clear()
    app.join(app.function("change_model"), [folders["good"], None], "first")
    assert loader.begun.wait(60)
    refused = change(app, folders["good"], "second")
    assert "already" in str(refused["data"][0])
    cancel = next(one for one in app.blocks.fns.values()
                  if one.targets and one.targets[0][1] == "click"
                  and app.blocks.blocks[one.targets[0][0]].elem_id == "model-cancel")
    (job,) = [state for session in app.blocks.state_holder.session_data.values()
              for state in session.state_data.values() if getattr(state, "running", False)]
    cancel.fn(job)
    loader.go.set()
    assert "It was stopped" in str(app.ended("first")["output"]["data"][0])
    assert pages(app) is app.blocks
    with pytest.raises(TaskError):
        loader.engines[0].embed_texts(["a dog"])


def test_without_leave_there_is_no_chooser(pictures: Path,  # noqa: F811
                                           loader: Loader) -> None:
    from vitdemo.ui import build_ui

    blocks = build_ui(planted_engine(), Settings(pictures, load_model=loader))
    names = {getattr(one, "elem_id", "") for one in blocks.blocks.values()}
    assert "model-about" in names
    assert "model-use" not in names


def test_names_that_may_be_given(tmp_path: Path) -> None:
    assert check_name(' "Owner/name" ', False) == "Owner/name"
    assert check_name(str(tmp_path), True) == str(tmp_path)
    for name in ("", str(tmp_path), "../secret", f"Owner/name+{tmp_path}", "clip:Owner/name",
                 "~/model", "C:/model"):
        with pytest.raises(CheckpointError):
            check_name(name, False)
    for name in RECOMMENDED.values():
        assert check_name(name, False) == name


def test_what_is_left_of_the_memory_is_not_held_against_a_model_that_is_loaded(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_tiny_clip(tmp_path / "clip", "clip"))
    monkeypatch.setattr("vitdemo.backends.forecast.free_memory", lambda _: 1000)
    assert "needs about" in _figures(folder, "cpu")
    loaded = _figures(folder, "cpu", "bfloat16")
    assert "needs about" not in loaded and "memory" not in loaded and "bfloat16" in loaded


def test_what_a_model_can_do_is_told() -> None:
    info = planted_engine().info
    one = replace(info, name="one", tasks=frozenset({"caption", "explain"}))
    two = replace(info, name="two", tasks=frozenset({"embed", "match", "explain"}))
    told = _abilities(replace(info, tasks=one.tasks | two.tasks, parts=(one, two),
                              missing={"ask": Message("task.not_made_for_it")}))
    assert "describe: one; compare: two; search: two" in told
    assert "It cannot answer questions: it was not made for it." in told
    assert "It can: describe, compare, search, show maps." in told


def test_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    import app

    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert app.parse([]).choose_model
    assert not app.parse(["--no-choose-model"]).choose_model
    assert not app.parse(["--share"]).choose_model
    assert not app.parse(["--host", "0.0.0.0"]).choose_model
    assert app.parse(["--host", "0.0.0.0", "--choose-model"]).choose_model
    monkeypatch.setenv("SPACE_ID", "me/space")
    assert not app.parse([]).choose_model
