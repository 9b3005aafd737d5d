"""Several models that share the work, and the names that lead to them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_blip import save_tiny_blip
from tiny_clip import save_tiny_clip

from vitdemo.backends import joined, registry
from vitdemo.backends.base import Backend
from vitdemo.backends.joined import JoinedBackend
from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError, TaskError
from vitdemo.preprocess import open_picture
from vitdemo.records import Request

GREEDY = Decoding(strategy="greedy", max_tokens=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("joined")
    return {"captioning": save_tiny_blip(root / "writes", "captioning", 1),
            "clip": save_tiny_clip(root / "compares", "clip", 2),
            "chinese_clip": save_tiny_clip(root / "reads", "chinese_clip", 3)}


def load(*folders: Path) -> Backend:
    return load_backend(EngineConfig(model=" + ".join(map(str, folders)), device="cpu"))


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]) -> Backend:
    return load(folders["captioning"], folders["clip"])


def test_each_task_goes_to_the_first_that_can_do_it(both: Backend, folders: dict[str, Path],
                                                    picture: Image.Image) -> None:
    writes, compares = load(folders["captioning"]), load(folders["clip"])
    assert isinstance(both, JoinedBackend)
    assert both.info.tasks == {"caption", "embed", "match", "explain"}
    assert both.info.name == "writes + compares"
    assert [both.info.doing(task).name for task in ("caption", "match", "embed")] == [
        "writes", "compares", "compares"]
    assert both.info.dimension == compares.info.dimension
    assert set(both.info.methods) == set(writes.info.methods) & set(compares.info.methods)
    (seen,), (own,), (other,) = (one.encode_pictures([picture])
                                 for one in (both, writes, compares))
    assert seen.data.features == {}, "nothing is encoded before it is needed"
    np.testing.assert_allclose(both.score_pairs([seen], ["a dog"]),
                               compares.score_pairs([other], ["a dog"]), atol=1e-6)
    assert set(seen.data.features) == {1}
    *_, said = both.generate(seen, "", "en", GREEDY)
    *_, want = writes.generate(own, "", "en", GREEDY)
    assert said == want
    for task, text, alone, features in (("caption", said.text, writes, own),
                                        ("match", "a dog", compares, other)):
        request = Request("", text, "en", task)
        (maps,), (wanted,) = both.explain(seen, request), alone.explain(features, request)
        np.testing.assert_allclose(maps.weights, wanted.weights, atol=1e-6)
        assert both.info.behind(maps).name == alone.info.name
    with pytest.raises(TaskError, match="captioning only"):
        both.answer(seen, "who?", "en")


def test_texts_are_read_in_the_language_of_who_does_the_task(folders: dict[str, Path],
                                                             picture: Image.Image) -> None:
    engine = Engine(load(folders["captioning"], folders["chinese_clip"]))
    assert engine.info.languages == ("en",)
    assert engine.embed_texts(["狗"]).shape == (1, engine.info.dimension)
    with pytest.raises(TaskError, match="reads"):
        engine.embed_texts(["a dog"])
    with pytest.raises(TaskError, match="writes"):
        engine.caption(open_picture(picture), language="zh")


def test_a_gallery_is_of_the_model_that_searches(both: Backend, folders: dict[str, Path],
                                                 tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    store = str(tmp_path / "store")
    Engine(both).gallery(store).close()
    Engine(load(folders["clip"])).gallery(store).close()  # is not refused


def test_pictures_that_wait_for_a_model_are_bounded(both: Backend, picture: Image.Image,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "HELD", 4 * 3 * picture.width * picture.height)
    kept = [both.encode_pictures([picture.copy()])[0] for _ in range(6)]
    assert [one.data.picture is None for one in kept] == [True] * 2 + [False] * 4
    assert both.embed_pictures(kept).shape[0] == 6, "those that were let go were encoded first"
    assert set(kept[0].data.features) == {0, 1}


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plus = str(tmp_path / "zh+en")
    Path(plus).mkdir()
    assert registry.names(plus) == [plus], "a folder may have a + in its name"
    assert registry.names("A/b + c/d") == ["A/b", "c/d"]
    assert registry.names("blip:A/b+C/d") == ["blip:A/b", "C/d"]
    asked = []

    def config(name: str) -> dict[str, object]:
        asked.append(name)
        return {"model_type": {"Some/chat": "llava", "New/chat": "aya_vision"}.get(name, "bert")}

    monkeypatch.setattr("vitdemo.backends.source.read_config", config)
    assert registry.resolve("Some/chat") == ("llava", "Some/chat")
    assert registry.resolve("New/chat") == ("chat", "New/chat"), "transformers knows it"
    with pytest.raises(CheckpointError, match="is a bert model. Types that can be used: .*blip"):
        registry.resolve("Some/text")
    assert asked == ["Some/chat", "New/chat", "Some/text"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        registry.resolve("checkpoints/mistyped")  # which is no name on the hub
    assert len(asked) == 3
