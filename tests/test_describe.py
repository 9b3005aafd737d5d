"""A folder of pictures as a table of captions."""

from pathlib import Path

import pytest
from conftest import make_picture

from train.describe import main, markdown
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import open_picture


def given(checkpoint: Path, pictures: Path, *more: str) -> list[str]:
    return ["--checkpoint", str(checkpoint), "--pictures", str(pictures), "--device", "cpu",
            "--beams", "1", *more]


def test_every_picture_has_its_caption_or_the_reason(tiny_checkpoint: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "said" / "table.md"
    folder.mkdir()
    make_picture(1).save(folder / "b.png")
    make_picture(2).save(folder / "a.JPG", "JPEG")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not a picture")
    beams = str(Decoding().beams)  # as the app
    assert main(given(tiny_checkpoint, folder, "--beams", beams, "--out", str(out))) == 0
    table = out.read_text(encoding="utf-8")
    assert capsys.readouterr().out == table
    head, _, first, second, third = table.splitlines()
    assert head == "| picture | English | Chinese |"
    engine = Engine.load(EngineConfig(model=str(tiny_checkpoint), device="cpu"))
    for line, name in ((first, "a.JPG"), (second, "b.png")):
        picture = open_picture(folder / name)
        texts = [engine.caption(picture, language=language).text for language in ("en", "zh")]
        assert line == f"| {name} | {texts[0]} | {texts[1]} |"
    assert third.startswith("| c.png | not read: ")


def test_a_bar_does_not_break_the_table() -> None:
    assert "| a.png | one \\| two |" in markdown([Path("a.png")], [["one | two"]], ["en"])


@pytest.mark.parametrize(("pictures", "more", "message"), [
    ("nowhere", (), "--pictures nowhere cannot be read: No such file or directory"),
    ("empty", (), "holds no picture"),
    ("full", ("--beams", "0"), "beams is 0"),
])
def test_what_cannot_be_used_is_said(pictures: str, more: tuple[str, ...], message: str,
                                     tiny_checkpoint: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("full").mkdir()
    make_picture(1).save(Path("full") / "a.png")
    assert main(given(tiny_checkpoint, Path(pictures), *more)) == 2
    assert message in capsys.readouterr().err
