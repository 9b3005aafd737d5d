"""Data sets of the `datasets` library, made on the spot: saved to disk, and as parquet."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import make_picture

from train.data import hub
from train.data.reading import find_splits, read_rows, read_split
from train.state import changes, digest
from vitdemo.errors import DataError

datasets = pytest.importorskip("datasets")
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "library")
    return tmp_path / "cache"


def content(seed: int) -> dict[str, Any]:
    file = io.BytesIO()
    make_picture(seed, (40, 30)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{seed}.png"}


def table(columns: dict[str, list[Any]], picture: str = "image") -> Any:
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column(picture, datasets.Image()) if picture in columns else made


def saved(folder: Path, columns: dict[str, list[Any]], picture: str = "image") -> Path:
    table(columns, picture).save_to_disk(folder)
    return folder


def rows(path: Path, split: str = "train") -> Any:
    [(_, folder)] = find_splits(path, split)
    return read_split(folder).rows


def test_a_saved_dictionary_of_splits_reads_as_rows(tmp_path: Path, cache: Path) -> None:
    columns = {"image": [content(0), content(1)],
               "caption": ["A  dog .", "一只狗。"], "sentences": [["It runs ."], []]}
    path = tmp_path / "birds"
    datasets.DatasetDict({"train": table(columns), "val": table(
        {"image": [content(2)], "caption": ["A cat ."]})}).save_to_disk(path)
    [(name, folder)] = find_splits(path, "train")
    assert name == "birds" and folder.is_relative_to(cache)
    split = read_split(folder)
    assert split.name != "" and not split.skipped
    assert [row.captions for row in split.rows] == [("A dog .", "It runs ."), ()]
    assert split.rows[1].captions_zh == ("一只狗。",)
    assert split.rows[0].path.read_bytes() == columns["image"][0]["bytes"]  # as they were
    assert [row.captions for row in rows(path, "validation")] == [("A cat .",)]
    with pytest.raises(DataError, match="no test split, only train, val"):
        find_splits(path, "test")


def test_a_resumed_run_knows_them_again(tmp_path: Path) -> None:
    columns = {"image": [content(0)], "caption": ["A dog ."]}
    path = saved(tmp_path / "birds", columns)
    train, _ = read_rows([path], skip_bad=False)
    before = digest(train, [])
    other = saved(tmp_path / "more" / "birds", {**columns, "caption": ["A cat ."]})
    later, _ = read_rows([other], skip_bad=False)
    assert train[0].path.parent != later[0].path.parent
    assert changes(before, digest(later, [])) == f"in train 1 pictures ({train[0].path.name})"


def test_pictures_are_written_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "birds", {"image": [content(0)], "caption": ["A dog ."]})
    first = rows(path)[0].path
    state = first.stat().st_mtime_ns, (first.parent / "metadata.jsonl").stat().st_mtime_ns
    again = rows(path)[0].path
    assert again == first
    assert state == (again.stat().st_mtime_ns, (again.parent / "metadata.jsonl").stat().st_mtime_ns)
    other = saved(tmp_path / "other" / "birds", {"image": [content(0)], "caption": ["A cat ."]})
    assert rows(other)[0].captions == ("A cat .",)  # of the same name, and not mixed up


def test_without_a_validation_split_every_tenth_picture_is_held_out(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = {"image": [content(i // 2) for i in range(50)],  # two rows a picture
               "caption": [f"Sentence {i} ." for i in range(50)]}
    for number, path in enumerate((saved(tmp_path / "birds", columns), tmp_path / "whole")):
        if number:
            datasets.DatasetDict({"train": table(columns)}).save_to_disk(path)
        caplog.clear()
        train, validation = read_rows([path], skip_bad=False)
        assert [row.captions for row in validation] == [
            ("Sentence 18 .", "Sentence 19 ."), ("Sentence 38 .", "Sentence 39 .")]
        assert len(train) == 23
        names = [{row.path.name for row in part} for part in (train, validation)]
        assert not names[0] & names[1]
        folders = [part[0].path.parent for part in (train, validation)]
        for folder, own in zip(folders, names, strict=True):  # no picture of the other part
            assert {path.name for path in folder.iterdir()} == {*own, "metadata.jsonl"}
        (said,) = caplog.messages
        assert said == (f"{path} has no validation split: every tenth picture is held out of train "
                        "for it.")
    assert len(rows(tmp_path / "birds", "all")) == 25
    with pytest.raises(DataError, match="has no splits, so there is no test split"):
        find_splits(tmp_path / "birds", "test")
    with pytest.raises(DataError, match="no test split, only train"):
        find_splits(tmp_path / "whole", "test")


def test_a_validation_split_of_its_own_leaves_train_whole(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "birds"
    columns = {"image": [content(i) for i in range(12)], "caption": ["A dog ."] * 12}
    datasets.DatasetDict({"train": table(columns), "dev": table(
        {"image": [content(20)], "caption": ["A cat ."]})}).save_to_disk(path)
    train, validation = read_rows([path], skip_bad=False)
    assert (len(train), len(validation), caplog.messages) == (12, 1, [])


def test_too_few_pictures_to_hold_some_out(tmp_path: Path, cache: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "birds", {"image": [content(i) for i in range(9)],
                                      "caption": ["A dog ."] * 9})
    with pytest.raises(DataError, match="too few pictures to hold out every tenth: it takes 10"):
        find_splits(path, "validation")
    assert not list(cache.rglob("*.part"))
    train, validation = read_rows([path], skip_bad=False)
    assert (len(train), validation) == (9, [])
    assert "birds has no validation split" in capsys.readouterr().err


def test_two_processes_that_write_at_once_do_not_meet(tmp_path: Path, cache: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "birds", {"image": [content(0), content(1)],
                                      "caption": ["A dog .", "A cat ."]})
    real, begun = hub._rows, []

    def meanwhile(*given: Any) -> Any:
        begun.append(list(cache.rglob("*.part")))
        if len(begun) == 1:  # the other process comes while this one writes, and is faster
            find_splits(path, "train")
        return real(*given)

    monkeypatch.setattr(hub, "_rows", meanwhile)
    assert [row.captions for row in rows(path)] == [("A dog .",), ("A cat .",)]
    assert [len(parts) for parts in begun] == [1, 2] and not list(cache.rglob("*.part"))


def test_questions_of_one_picture_come_together(tmp_path: Path) -> None:
    people = [{"answer": "red", "answer_id": i} for i in range(6)] + [
        {"answer": "pink", "answer_id": i} for i in range(4)]
    path = saved(tmp_path / "asked", {
        "image": [content(0), content(0), content(1)],
        "question": ["what colour ?", "how many ?", "is it big ?"],
        "answers": [people, people[:1], people[6:7]],
        "multiple_choice_answer": [None, "2", "yes"], "type": ["colour", None, None]})
    first, second = rows(path)
    assert [(q.question, q.answer, q.type) for q in first.questions] == [
        ("what colour ?", "red", "colour"), ("how many ?", "2", "")]
    assert first.questions[0].answers == ("red",) * 6 + ("pink",) * 4
    assert second.questions[0].answer == "yes"


def test_our_own_layout(tmp_path: Path) -> None:
    ours = saved(tmp_path / "ours", {"image": [content(0)],
                                     "qa": [[{"question": "a ?", "answer": "1"}]]})
    assert rows(ours)[0].questions[0].answer == "1"


def test_a_question_without_an_answer_is_a_bad_row(tmp_path: Path) -> None:
    path = saved(tmp_path / "asked", {"image": [content(0)], "question": ["what ?"]})
    with pytest.raises(DataError, match=r"line 1: qa\[0\].answer: it is empty"):
        rows(path)


def test_a_folder_with_parquet_reads_as_rows(tmp_path: Path) -> None:
    folder = tmp_path / "birds" / "data"
    folder.mkdir(parents=True)
    table({"image": [content(0)], "captions": [["A dog .", "It runs ."]]}).to_parquet(
        folder / "train-00000-of-00001.parquet")
    assert rows(folder.parent)[0].captions == ("A dog .", "It runs .")


def test_an_imagefolder_with_a_parquet_table_reads_as_rows(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "train"
    folder.mkdir(parents=True)
    make_picture(3, (40, 30)).save(folder / "a.png")
    datasets.Dataset.from_dict({"file_name": ["a.png"], "caption": ["A dog ."]}).to_parquet(
        folder / "metadata.parquet")
    found = rows(folder.parent)[0]
    assert found.captions == ("A dog .",)
    assert found.path.read_bytes() == (folder / "a.png").read_bytes()


@pytest.mark.parametrize("columns, picture, message", [
    ({"image": [content(0)], "colour": ["red"]}, "image",
     r"no column of captions or questions: .* the columns are image \(PIL.*, colour \(string\)"),
    ({"face": ["x"], "caption": ["A dog ."]}, "image",
     r"no column of pictures: .* the columns are face \(string\), caption \(string\)"),
    ({"image": [None], "caption": ["A dog ."]}, "image", "row 0: there is no picture"),
])
def test_what_is_missing_is_named(tmp_path: Path, cache: Path, columns: dict[str, list[Any]],
                                  picture: str, message: str) -> None:
    path = saved(tmp_path / "birds", columns, picture)
    with pytest.raises(DataError, match=message):
        find_splits(path, "train")
    assert not list(cache.rglob("metadata.jsonl"))  # nothing half done is left to be taken


def test_which_arguments_are_for_the_library(tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    asked: list[tuple[Any, ...]] = []

    def load(*arguments: Any) -> Any:
        asked.append(arguments)
        return {"train": table({"image": [content(0)], "caption": ["A dog ."]})}

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert find_splits(Path("owner/birds"), "train")[0][0] == "birds"
    assert find_splits(Path("hub:owner/birds:large"), "train")[0][0] == "birds"
    assert find_splits(Path("hub:beans"), "train")[0][0] == "beans"
    assert asked == [("owner/birds", None), ("owner/birds", "large"), ("beans", None)]
    for folder in ("mine/birsd", "nowhere", "../x/y", "/x/y"):  # wrong folders, asked of nobody
        with pytest.raises(DataError, match="is not a folder"):
            find_splits(Path(folder), "train")
    with pytest.raises(DataError, match="is no name of a data set"):
        find_splits(Path("hub:a/b/c"), "train")
    assert len(asked) == 3


def test_a_fault_of_the_library_is_one_sentence(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist.\nMore.")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"cannot load a/b: Dataset 'a/b' doesn't exist\. There is "
                                        "no folder"):
        find_splits(Path("a/b"), "train")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install -r requirements-train.txt"):
        find_splits(Path("hub:owner/birds"), "train")


def test_an_ordinary_folder_never_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    folder = tmp_path / "all" / "birds"
    folder.mkdir(parents=True)
    make_picture(0, (40, 30)).save(folder / "a.png")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png",
                                                       "captions": ["A dog ."]}))
    (folder / "x.parquet").write_bytes(b"")
    assert rows(folder)[0].captions == ("A dog .",)
    assert rows(folder.parent)[0].captions == ("A dog .",)  # a folder of data sets


def test_the_tests_install_what_the_training_folder_can_use() -> None:
    assert "-r requirements-train.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    wanted = (ROOT / "requirements-train.txt").read_text().splitlines()
    capped = [line for line in wanted
              if re.fullmatch(r"(datasets|peft)>=\d[\d.]*,<\d+", line)]
    assert len(capped) == 2
