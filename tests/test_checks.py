"""What the viewer asks of the server: evidence, other methods, what matters; on a planted model."""

import base64
import threading
from typing import Any

import numpy as np
import pytest
from fake_engine import COLUMNS, FAKE_METHODS, GRID, planted_engine
from PIL import Image

from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.errors import PictureError, VitDemoError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.texts import phrase
from vitdemo.ui.jobs import Job, followed
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.tabs.ask import reply
from vitdemo.ui.tabs.describe import narrate
from vitdemo.ui.viewer_requests import follow_up, serve
from vitdemo.wanted import NotWanted, while_wanted

LEFT, RIGHT = 4, 10  # places of these words in the planted caption


@pytest.fixture(scope="module")
def engine() -> Engine:
    return planted_engine()


@pytest.fixture(scope="module")
def noise() -> Picture:
    """A picture full of detail, so that blurring a part of it tells."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return open_picture(Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST))


def described(engine: Engine, photo: Picture, **wanted: Any) -> tuple[Desk, dict[str, Any]]:
    desk = Desk(wanted=wanted)
    return desk, list(narrate(engine, photo, "", "en", Decoding(), desk, True))[-1]


def answers(engine: Engine, desk: Desk, photo: Picture, **detail: Any) -> list[dict[str, Any]]:
    return list(serve(engine, desk, photo, detail))


def test_a_word_that_looked_there_is_told_from_one_that_did_not(engine: Engine,
                                                                noise: Picture) -> None:
    desk, shown = described(engine, noise)
    found = {}
    for method in ("cross-attention", "relevancy", "grad-cam"):
        last = answers(engine, desk, noise, name="check", id=shown["id"], source="caption",
                       word=LEFT, method=method)[-1]
        assert last["id"] == shown["id"] and not last["patch_busy"]
        rows = last["patch"][0]["evidence"][method]
        assert [place for place, row in enumerate(rows) if row] == [LEFT]
        found[method] = rows[LEFT]
    assert found["relevancy"]["verdict"] == "strong"
    assert found["grad-cam"]["verdict"] == "worse"  # the planted one points at the wrong side
    assert found["relevancy"]["sentence"] != found["grad-cam"]["sentence"]
    assert found["relevancy"]["deletion"]["area"] < found["grad-cam"]["deletion"]["area"]


def test_a_word_that_needs_no_picture_says_so(engine: Engine, noise: Picture) -> None:
    desk, _ = described(engine, noise)
    last = answers(engine, desk, noise, name="check", word=0)[-1]
    assert last["patch"][0]["evidence"]["cross-attention"][0]["verdict"] == "language"


def test_the_first_words_evidence_follows_by_itself_with_the_pictures_share(
        engine: Engine, noise: Picture) -> None:
    desk = Desk()
    *_, (shown, _) = reply(engine, noise, "what is on the right?", desk)
    parts = list(follow_up(engine, desk, noise))
    assert all(part["unasked"] for part in parts)
    first = {one["source"]: one for one in parts[0]["patch"]}
    assert set(first) == {"question", "answer"} and "evidence" not in first["answer"]
    assert len(first["question"]["share"]["sentences"]) == 5
    last = {one["source"]: one for one in parts[-1]["patch"]}
    assert "evidence" not in last["question"]
    rows = last["answer"]["evidence"]["cross-attention"]
    assert [place for place, row in enumerate(rows) if row] == [shown["texts"][-1]["first"]]
    assert not parts[-1]["patch_busy"]


def test_what_work_tells_is_worded_and_leaving_it_ends_the_work() -> None:
    job: Job[int] = Job()
    go = threading.Event()

    def work() -> str:
        job.tell(1)
        assert go.wait(60)
        job.tell(2)
        return "done"

    steps = followed(job, work, "step {}".format, 0.01)
    assert next(steps) == "step 1"
    go.set()
    with pytest.raises(StopIteration) as end:
        while True:
            assert next(steps) == "step 2"
    assert end.value.value == "done"
    go.clear()
    steps = followed(job, work, str, 0.01)
    next(steps)
    threading.Timer(0.1, go.set).start()
    steps.close()  # the page was closed
    assert job.stopped and not job.running


def test_a_result_that_leaves_the_screen_is_not_checked_on(noise: Picture) -> None:
    engine = planted_engine()
    desk = Desk()
    turn = desk.begin(1)
    list(narrate(engine, noise, "", "en", Decoding(), desk))
    context = while_wanted(turn.newest)
    following = follow_up(engine, desk, noise)
    context.run(next, following)
    desk.begin(2)
    before = engine._backend.pictures  # type: ignore[attr-defined]
    with pytest.raises(NotWanted):
        context.run(next, following)
    assert engine._backend.pictures == before  # type: ignore[attr-defined]
    assert list(follow_up(engine, desk, noise)) == []


def test_the_other_methods_come_one_by_one(engine: Engine, noise: Picture) -> None:
    desk, shown = described(engine, noise)
    assert [name for name, _ in shown["methods"]] == list(engine.methods)
    assert "occlusion" in engine.methods and set(FAKE_METHODS) < set(engine.methods)
    parts = answers(engine, desk, noise, name="methods")
    others = {one["method"]: one for one in parts[-1]["patch"][0]["others"]}
    assert set(others) == set(engine.methods) - {"cross-attention"}
    assert [len(part["patch"][0].get("others", [])) if part["patch"] else 0 for part in parts] == (
        list(range(len(others) + 1)))
    assert all("Computing" in part["patch_message"] for part in parts[:-1])
    seen = np.frombuffer(base64.b64decode(others["occlusion"]["weights"]), "<u2")
    plane = seen.reshape(others["occlusion"]["shape"])[0, 0, LEFT].reshape(GRID)
    assert plane[:, :COLUMNS // 2 - 1].min() > plane[:, COLUMNS // 2 + 1:].max()
    before = engine._backend.explained  # type: ignore[attr-defined]
    assert len(answers(engine, desk, noise, name="methods")) == 1  # what is there is not redone
    assert engine._backend.explained == before  # type: ignore[attr-defined]


def test_what_happens_without_the_strongest_regions(engine: Engine, noise: Picture) -> None:
    desk, _ = described(engine, noise)
    matter = answers(engine, desk, noise, name="matter", source="caption", word=LEFT,
                     method="relevancy")[-1]["patch"][0]["matter"]
    assert matter["word"] == LEFT and matter["method"] == "relevancy"
    assert len(matter["hidden"]) == len(matter["random"]) == round(0.2 * GRID[0] * GRID[1])
    assert all(region % COLUMNS < COLUMNS // 2 for region in matter["hidden"])
    assert "left" in matter["before"] and "left" not in matter["after"]
    assert matter["after_random"] == matter["before"]
    assert matter["probability_after"] < matter["probability_random"] < matter["probability"]
    chosen = answers(engine, desk, noise, name="matter", word=LEFT, regions=[7, 15])
    assert chosen[-1]["patch"][0]["matter"]["hidden"] == [7, 15]


def test_a_link_opens_the_method_it_names(engine: Engine, noise: Picture) -> None:
    desk, shown = described(engine, noise, method="grad-cam", layer=1)
    assert shown["choose"] == {"method": "grad-cam", "layer": 1}
    assert [one["method"] for one in shown["texts"][0]["others"]] == ["grad-cam"]
    again = list(narrate(engine, noise, "", "en", Decoding(), desk))[-1]
    assert again["choose"] == {}  # from then on it is the person who chooses


def test_what_no_longer_fits_is_refused_with_a_sentence(engine: Engine, noise: Picture) -> None:
    desk, shown = described(engine, noise)
    other = open_picture(Image.new("RGB", (40, 30), "red"))
    with pytest.raises(PictureError, match=phrase("checking.other_picture")):
        answers(engine, desk, other, name="check", id=shown["id"], word=1)
    with pytest.raises(PictureError, match=phrase("checking.gone")):
        answers(engine, desk, noise, name="check", id="another", word=1)
    desk.clear()
    with pytest.raises(PictureError, match=phrase("checking.gone")):
        answers(engine, desk, noise, name="check", id=shown["id"], word=1)


@pytest.mark.parametrize("detail", [
    {"name": "rm"}, {}, {"name": "check"}, {"name": "check", "word": "1"},
    {"name": "check", "word": True}, {"name": "check", "word": 99},
    {"name": "check", "word": -1}, {"name": "check", "word": 1, "method": "magic"},
    {"name": "check", "word": 0, "source": "question"}, {"name": "methods", "method": "magic"},
    {"name": "matter", "word": 1, "regions": "1"}, {"name": "matter", "word": 1, "regions": [1e9]},
    {"name": "matter", "word": 1, "regions": [48]}, {"name": "matter", "word": 1, "regions": []},
    {"name": "matter", "word": 1, "regions": {"a": 1}}])
def test_a_request_that_makes_no_sense_is_one_sentence(engine: Engine, noise: Picture,
                                                       detail: dict[str, Any]) -> None:
    desk, _ = described(engine, noise)
    with pytest.raises(VitDemoError) as refused:
        answers(engine, desk, noise, **detail)
    assert str(refused.value).endswith(".") and len(str(refused.value)) < 300


def test_the_settings_of_a_text_are_kept_for_the_report(engine: Engine, noise: Picture) -> None:
    _, shown = described(engine, noise)
    assert shown["settings"]["Instruction"] == "Describe the picture."
    assert shown["settings"]["Words chosen by"] == "beam" and "Seed" not in shown["settings"]
    assert "planted" in shown["settings"]["Model"]
