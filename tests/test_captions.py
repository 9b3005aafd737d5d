"""Captions for many pictures in the app: described, corrected in a table, trained on."""

import json
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from conftest import make_picture
from planted import Planted, save_colours
from small_run import arguments, losses_of

from train.finetune import main
from vitdemo.engine import Engine
from vitdemo.errors import PictureError
from vitdemo.retrieval.indexer import Progress
from vitdemo.texts import speaking
from vitdemo.ui import Settings, build_ui
from vitdemo.ui.blocks import check_event, check_inputs
from vitdemo.ui.components import Context
from vitdemo.ui.jobs import Cancelled, Job
from vitdemo.ui.search.captions import (
    Described,
    captioning,
    save,
)
from vitdemo.ui.search.indexing import EXAMPLES, FOLDER, UPLOADS
from vitdemo.ui.session import Sessions


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Planted())


def context(engine: Engine, *folders: Path) -> Context:
    return Context(engine, Settings(folders=folders), Sessions(), ())


def nothing(now: Progress) -> None:
    return


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_colours(tmp_path / "photos")


def rows_of(file: Path) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    found = {row["file_name"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_from_pictures_by_a_correction_to_a_training_step(
        engine: Engine, tmp_path: Path, start: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for n in range(20):
        make_picture(n, (40, 30)).save(folder / f"{n:02}.png")
    allowed = context(engine, folder)
    work, result = captioning(allowed, FOLDER, str(folder), None, nothing)
    assert work().described == 20
    shown = result()
    table = shown.table()
    assert len(table) == 20 and all(caption for _, caption in table)
    table[3][1] = "Two dogs run on the grass . | dogs play"
    assert save(allowed, shown, table, out) == 1
    rows = rows_of(folder / "metadata.jsonl")
    assert rows["03.png"]["captions"] == ["Two dogs run on the grass .", "dogs play"]
    assert rows["04.png"]["captions"] == [table[4][1]]
    assert result().table() == table and work().unchanged == 20  # the correction stays
    assert main(arguments(folder, start, out, "--steps", "1", "--pairs", "4", "--questions", "0",
                          "--validate-every", "1")) == 0
    assert len(losses_of(out)) == 1


def test_a_folder_goes_on_after_a_stop(engine: Engine, photos: Path) -> None:
    job: Job[Progress] = Job()
    allowed = context(engine, photos)
    work, result = captioning(allowed, FOLDER, str(photos), None, job.tell)
    job.stop()
    with pytest.raises(Cancelled):
        work()
    assert result().table() == []
    job.stopped = False
    report = work()
    assert report.described == 3 and [Path(one.path).name for one in report.skipped] == [
        "broken.jpg"]
    assert sorted(name for name, _ in result().table()) == ["green.png", "more/blue.png",
                                                            "red.png"]


def test_uploads_are_saved_as_a_file(engine: Engine, photos: Path, tmp_path: Path) -> None:
    paths = [str(photos / "red.png"), str(photos / "more" / "blue.png"),
             str(photos / "broken.jpg")]
    work, result = captioning(context(engine), UPLOADS, "", paths, nothing)
    assert [Path(one.path).name for one in work().skipped] == ["broken.jpg"]
    shown = result()
    table = [[name, "" if name == "red.png" else caption] for name, caption in shown.table()]
    file = tmp_path / "page" / "metadata.jsonl"
    file.parent.mkdir()
    alone = context(engine)
    assert save(alone, shown, table, file) == 1 and save(alone, shown, table, file) == 0
    rows = rows_of(file)
    assert rows["red.png"]["captions"] == [] and rows["blue.png"]["captions"]
    assert set(rows) == {"red.png", "blue.png"}
    assert not (photos / "metadata.jsonl").exists()


def test_captions_are_in_the_language_of_the_page(engine: Engine, photos: Path) -> None:
    with speaking("zh"):
        work, result = captioning(context(engine, photos), FOLDER, str(photos), None, nothing)
    work()
    assert all(row["captions_zh"] for row in rows_of(photos / "metadata.jsonl").values())
    assert all(caption for _, caption in result().table())


def test_bad_input_gets_a_sentence(engine: Engine, photos: Path, tmp_path: Path) -> None:
    allowed = context(engine, photos)
    for chosen, typed, files in ((FOLDER, "", None), (FOLDER, str(tmp_path), None),
                                 (UPLOADS, "", None), (EXAMPLES, "", None)):
        with pytest.raises(PictureError):
            captioning(allowed, chosen, typed, files, nothing)
    (tmp_path / "other.jsonl").write_text("")
    (photos / "metadata.jsonl").symlink_to(tmp_path / "other.jsonl")
    work, _ = captioning(allowed, FOLDER, str(photos), None, nothing)
    with pytest.raises(PictureError, match="leads out"):
        work()
    assert (tmp_path / "other.jsonl").read_text() == ""


def test_lines_that_are_none_change_nothing() -> None:
    shown = Described({"a.png": {"captions": ["one", "two"]}})
    assert shown.table() == [["a.png", "one | two"]]
    for table in ([], [["b.png", "x"]], [["a.png", " one |two "]], [["a.png"]], [[None, None]]):
        assert shown.correct(table) == {}
    assert shown.correct([["a.png", "one\n three |"]]) == {
        "a.png": {"captions": ["one three"]}}


def test_the_app_has_it_with_the_pictures_that_are_searched(engine: Engine) -> None:
    def ids() -> Iterator[str]:
        for block in build_ui(engine, Settings(shared=True)).blocks.values():
            yield str(getattr(block, "elem_id", ""))
            if isinstance(block, gr.Dataframe):
                assert block.static_columns == [0] and not block.visible

    assert {"captions-run", "captions-table", "captions-save"} <= set(ids())


def test_the_server_takes_a_table_and_its_cells() -> None:
    table = gr.Dataframe()
    check_inputs([table], [{"headers": ["a"], "data": [["x", None]], "metadata": None}])
    for odd in ("x", {"data": "x"}, {"data": [["x", {"path": "/etc/passwd"}]]}, {"data": [1]}):
        with pytest.raises(gr.Error):
            check_inputs([table], [odd])
    check_event({"index": [2, 0], "row_value": ["a.png", "x"]})
    for place in ([-1, 0], ["x", 0], [True], "x", None, True, -1):
        with pytest.raises(gr.Error):
            check_event({"index": place})
