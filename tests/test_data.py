"""Reading data folders: good rows come back whole, every kind of bad row is found and named."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train.data.reading import METADATA, Question, Row, find_splits, read_split
from train.finetune import main, reader_of
from vitdemo.errors import DataError
from vitdemo.tokens import TextTokenizer


def picture(path: Path, seed: int = 0, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write(folder: Path, rows: list[Any]) -> Path:
    """Rows that are text or bytes go into the file as they are, others as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else
             (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)).encode()
             for row in rows]
    (folder / METADATA).write_bytes(b"\n".join(lines) + b"\n")
    return folder


def good(name: str = "a.jpg") -> dict[str, Any]:
    return {"file_name": name, "captions": ["A dog ."]}


def test_every_field_comes_back(tmp_path: Path) -> None:
    picture(tmp_path / "flowers" / "train" / "sub" / "a.png")
    folder = write(tmp_path / "flowers" / "train", [{
        "file_name": "sub/a.png", "captions": ["A  dog\n runs ."], "captions_zh": ["一只狗。"],
        "qa": [{"question": "what is it ?", "answer": "dog", "answers": ["dog"] * 10,
                "type": "object", "source": "vqa_v2"},
               {"question": "how many ?", "answer": "1"}],
        "licence": "ours"}])
    split = read_split(folder)
    assert split.rows == (Row(folder / "sub" / "a.png", ("A dog runs .",), ("一只狗。",), (
        Question("what is it ?", "dog", ("dog",) * 10, "object", "vqa_v2"),
        Question("how many ?", "1", (), "", "")), "flowers/train"),)
    assert (split.name, split.folder, split.skipped) == ("flowers", folder, ())


def test_blank_lines_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    text = json.dumps(good("a.jpg")) + "\r\n\r\n" + json.dumps(good("b.jpg")) + "\r\n"
    (tmp_path / METADATA).write_text(text, encoding="utf-8-sig", newline="")
    assert [row.path.name for row in read_split(tmp_path).rows] == ["a.jpg", "b.jpg"]


BAD_ROWS = {
    "Invalid JSON: EOF": '{"file_name": "b.jpg", "captions": ["A',
    "Invalid JSON: recursion limit": "[" * 100_000,
    "Input should be an object": "[1, 2]",
    "Invalid JSON: invalid unicode": b'{"file_name": "b.jpg", "captions": ["\xff\xfe"]}',
    "file_name: Field required": {"captions": ["A dog ."]},
    "file_name: Input should be a valid string": {"file_name": 7, "captions": ["A dog ."]},
    "file_name: it is empty": {"file_name": " ", "captions": ["A dog ."]},
    "qa[0].answer is none of its choices": {"file_name": "b.jpg", "qa": [
        {"question": "where ?", "answer": "at home", "choices": ["at sea", "in a wood"]}]},
    "picture none.jpg is missing": good("none.jpg"),
    "picture xxxx": good("x" * 5000 + ".jpg"),
    "captions[1]: it is empty": {"file_name": "b.jpg", "captions": ["A dog .", "  "]},
    "captions_zh[0]: it is empty": {"file_name": "b.jpg", "captions_zh": [""]},
    "captions: Input should be a valid array": {"file_name": "b.jpg", "captions": "A dog ."},
    "captions[0]: Input should be a valid string": {"file_name": "b.jpg", "captions": [None]},
    "Invalid JSON: unexpected end of hex escape": '{"file_name": "b.jpg", "captions": ["\\ud800"]}',
    "nothing about the picture": {"file_name": "b.jpg", "caption": "A dog ."},
    "none of captions, captions_zh, qa has content":
        {"file_name": "b.jpg", "captions": [], "qa": []},
    "qa[0]: Input should be an object": {"file_name": "b.jpg", "qa": ["what ?"]},
    "qa[0].answer: Field required": {"file_name": "b.jpg", "qa": [{"question": "what ?"}]},
    "qa[0].answer: it is empty":
        {"file_name": "b.jpg", "qa": [{"question": "what ?", "answer": ""}]},
    "qa[0].answer: Input should be a valid string":
        {"file_name": "b.jpg", "qa": [{"question": "how many ?", "answer": 2}]},
    "qa[0].answers[1]: Input should be a valid string":
        {"file_name": "b.jpg",
         "qa": [{"question": "is it ?", "answer": "no", "answers": ["no", True]}]},
    "captions[1]: it is Chinese (“一只穿Nike鞋的狗。”); it belongs under captions_zh":
        {"file_name": "b.jpg", "captions": ["A dog .", "一只穿Nike鞋的狗。"]},
    "captions_zh[0]: it is not Chinese (“A dog .”); it belongs under captions":
        {"file_name": "b.jpg", "captions_zh": ["A dog ."]},
    "captions_zh[0]: it is not Chinese (“A man beside a sign that says …”)":
        {"file_name": "b.jpg", "captions_zh": ["A man beside a sign that says 停 runs"]},
    "captions[0]: it holds a control character (U+0000)":
        {"file_name": "b.jpg", "captions": ["A \0 dog ."]},
    "qa[0].answer: it holds a control character (U+001B)":
        {"file_name": "b.jpg", "qa": [{"question": "what ?", "answer": "a \x1b[2J dog"}]},
    "captions[0] holds no word that the model knows (“кошка”)":
        {"file_name": "b.jpg", "captions": ["кошка"]},
    "captions_zh[0] holds no word that the model knows (“躑躅躑躅”)":
        {"file_name": "b.jpg", "captions_zh": ["躑躅躑躅"]},
    "qa[0].answer holds no word that the model knows (“🐱”)":
        {"file_name": "b.jpg", "qa": [{"question": "what ?", "answer": "🐱"}]},
    "picture a.jpg was named before, in line 1": good("./a.jpg"),
    "must be a path inside the folder": good("../a.jpg"),
    "'sub/../../a.jpg' must be a path inside the folder": good("sub/../../a.jpg"),
    "'/etc/hostname' must be a path inside the folder": good("/etc/hostname"),
    "picture text.jpg: text.jpg is not a picture": good("text.jpg"),
    "picture cut.jpg: cut.jpg is broken or cut off": good("cut.jpg"),
    "picture cut.png: cut.png is broken or cut off": good("cut.png"),
    "picture empty.jpg: empty.jpg is empty (0 bytes)": good("empty.jpg"),
    "picture small.jpg: small.jpg is only 4 x 4": good("small.jpg"),
}


@pytest.mark.parametrize("reason", list(BAD_ROWS))
def test_each_bad_row_is_named_and_can_be_skipped(tmp_path: Path, reason: str,
                                                  tokenizer: TextTokenizer) -> None:
    picture(tmp_path / "a.jpg")  # a real one outside the folder, for the paths that leave it
    folder = tmp_path / "data"
    for name in ("a.jpg", "b.jpg", "c.jpg", "cut.jpg", "cut.png"):
        picture(folder / name, side=64)
    for name in ("cut.jpg", "cut.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-800])
    picture(folder / "small.jpg", side=4)
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.jpg").touch()
    write(folder, [good("a.jpg"), BAD_ROWS[reason], good("c.jpg")])

    with pytest.raises(DataError) as caught:
        read_split(folder, unread=tokenizer.unread)
    message = str(caught.value)
    assert message.startswith(f"{folder / METADATA}, line 2: ")
    assert reason in message and "--skip-bad" in message

    split = read_split(folder, skip_bad=True, unread=tokenizer.unread)
    assert [row.path.name for row in split.rows] == ["a.jpg", "c.jpg"]
    assert [(bad.file, bad.line) for bad in split.skipped] == [(folder / METADATA, 2)]
    assert reason in split.skipped[0].reason


def test_texts_of_both_languages_may_hold_some_of_the_other(tmp_path: Path,
                                                            tokenizer: TextTokenizer) -> None:
    picture(tmp_path / "a.jpg")
    row = {"file_name": "a.jpg", "captions": ["A sign that says 停 .", "A ネコ and a dog", "3"],
           "captions_zh": ["穿着T恤的 Nike 男孩", "一個孩子。"],
           "qa": [{"question": "这是什么？", "answer": "a dog"}]}
    (found,) = read_split(write(tmp_path, [row]), unread=tokenizer.unread).rows
    assert found.captions == tuple(row["captions"]) and len(found.captions_zh) == 2


def test_training_reads_texts_by_the_vocabulary_it_starts_from(
        data: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "train" / METADATA).open("a", encoding="utf-8").write(
        '{"file_name": "more.png", "captions": ["кошка"]}\n')
    picture(data / "train" / "more.png")
    assert main(["--data", str(data), "--from", str(start), "--out", str(data / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{data / 'train' / METADATA}, line 11: captions[0] holds no word" in said
    assert reader_of(data / "none") is None


def test_the_message_counts_all_bad_rows_in_order(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no picture")
    write(tmp_path, [good("a.jpg"), good("b.jpg"), "{", good("none.jpg")])
    with pytest.raises(DataError, match="line 2: .*2 more bad row.*line 3, 4"):
        read_split(tmp_path)
    assert [bad.line for bad in read_split(tmp_path, skip_bad=True).skipped] == [2, 3, 4]


def test_pictures_can_go_unchecked(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    write(tmp_path, [good("a.jpg")])
    assert len(read_split(tmp_path, check_pictures=False).rows) == 1


@pytest.mark.parametrize("kind", ["CMYK", "L", "P", "RGBA"])
def test_other_kinds_of_good_pictures_pass(tmp_path: Path, kind: str) -> None:
    name = "a.jpg" if kind in ("CMYK", "L") else "a.png"
    Image.new(kind, (40, 30)).save(tmp_path / name)
    assert len(read_split(write(tmp_path, [good(name)])).rows) == 1


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path)
    write(tmp_path, [])
    with pytest.raises(DataError, match="is empty"):
        read_split(tmp_path)
    write(tmp_path, ["{"])
    with pytest.raises(DataError, match="no good row left"):
        read_split(tmp_path, skip_bad=True)


def test_find_splits_in_a_folder_a_data_set_and_a_folder_of_data_sets(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = write(tmp_path / "all" / "plain", [good()])
    train = write(tmp_path / "all" / "birds" / "train", [good()])
    validation = write(tmp_path / "all" / "birds" / "validation", [good()])
    cats = write(tmp_path / "all" / "cats" / "train", [good()])
    (tmp_path / "all" / "boxes" / "images").mkdir(parents=True)
    (tmp_path / "all" / "notes.txt").touch()

    assert find_splits(validation, "train") == [("birds", validation)]
    assert find_splits(tmp_path / "all" / "birds", "train") == [("birds", train)]
    assert find_splits(tmp_path / "all" / "birds", "validation") == [("birds", validation)]
    assert find_splits(tmp_path / "all", "train") == [
        ("birds", train), ("cats", cats), ("plain", plain)]
    with caplog.at_level(logging.WARNING):
        assert find_splits(tmp_path / "all", "validation") == [
            ("birds", validation), ("plain", plain)]
    assert "cats has no validation split" in caplog.text and "boxes" not in caplog.text


def test_find_splits_says_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "cats" / "train", [good()])
    with pytest.raises(DataError, match="no test split, only train"):
        find_splits(tmp_path / "cats", "test")
    with pytest.raises(DataError, match="no data for the test split"):
        find_splits(tmp_path, "test")
    with pytest.raises(DataError, match="is not a folder"):
        find_splits(tmp_path / "none", "train")


def test_find_splits_names_a_relative_path(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "birds" / "train", [good()])
    monkeypatch.chdir(tmp_path / "birds" / "train")
    assert find_splits(Path("."), "train") == [("birds", Path("."))]


def test_the_example_of_the_readme_is_good_data(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "train" / "README.md").read_text(encoding="utf-8")
    example = readme.split("```json\n")[1].split("```")[0]
    picture(tmp_path / "dog.jpg")
    picture(tmp_path / "more" / "tram.png")
    rows = read_split(write(tmp_path, example.splitlines())).rows
    assert [len(row.captions) for row in rows] == [2, 0]
    assert len(rows[0].captions_zh) == 1 and rows[1].questions[0].answer == "yellow"
