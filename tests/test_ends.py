# ruff: noqa: F811 - fixtures of another file are arguments here
"""How the command line ends: outputs that are closed or full, names that would play with the
terminal, values far out of range, and signals. Each is a sentence and an exit code."""

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from planted import COLOURS
from test_cli import ROOT, loaded, photos, run  # noqa: F401 - the planted engine behind it

from vitdemo import cli, disk
from vitdemo.config import MAX_SEED
from vitdemo.engine import Engine
from vitdemo.errors import VitDemoError
from vitdemo.terminal import PlainFormatter, plain, plain_json

Run = Any
posix = pytest.mark.skipif(os.name == "nt", reason="there are no such files or signals")


class Full(io.StringIO):
    """An output with no room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_closed_output_is_told_before_any_work(run: Run, photos: Path, loaded: list[Any],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    code, _, err = run("caption", photos / "red.png")
    assert code == 2 and err.startswith("error: The standard output is closed")
    assert err.count("\n") == 1 and loaded == []


def test_where_remarks_cannot_go_results_still_do(run: Run, photos: Path,
                                                  capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (None, Full()):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            code = cli.main(["caption", str(photos / "red.png"), str(photos / "broken.jpg")])
        assert code == 2
    capsys.readouterr()
    code, out, err = run("caption", photos / "red.png")
    assert (code, out, err) == (0, "A red picture.\n", "")


def test_remarks_never_end_up_among_results(capsys: pytest.CaptureFixture[str], loaded: list[Any],
                                            photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        code = cli.main(["caption", str(photos / "broken.jpg"), str(photos / "red.png"), "--json"])
    assert code == 2
    assert json.loads(capsys.readouterr().out)["results"][0]["text"] == "A red picture."


def test_a_full_output_is_one_sentence(run: Run, photos: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    code, _, err = run("caption", photos / "red.png")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("error: The results could not be written to the output: the disk is full")


@posix
@pytest.mark.parametrize(("redirected", "code", "said"), [
    (">&-", 2, "standard output is closed"), (">/dev/full", 2, "the disk is full"),
    ("2>&-", 0, ""), ("2>/dev/full", 0, ""), ("<&-", 0, ""), (">&- 2>&-", 2, ""),
    (">/dev/full 2>/dev/full", 2, "")])
def test_redirected_streams_of_a_process(redirected: str, code: int, said: str) -> None:
    done = subprocess.run(["sh", "-c", f'"$0" -m vitdemo --help {redirected}', sys.executable],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code
    assert said in done.stderr and done.stderr.count("\n") == bool(said)
    assert ("usage:" in done.stdout) == (code == 0)


NASTY = "a\x1b[31m\x1b]0;owned\x07\nerror: b\r\x9b2J\u202ec\u2028d.png"


@posix
def test_no_name_plays_with_the_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in (NASTY, "z" + NASTY):
        Image.new("RGB", (120, 90), COLOURS["red"]).save(folder / "x.png")
        (folder / "x.png").rename(folder / name)
    (folder / ("broken" + NASTY)).write_bytes(b"no picture")
    bad, store = folder / NASTY, tmp_path / "store"
    shown = plain(NASTY)
    for arguments, named in (
            (("caption", bad, folder / ("z" + NASTY)), True),
            (("caption", folder / ("broken" + NASTY)), True), (("caption", "no" + NASTY), True),
            (("index", folder, "--store", store), True),
            (("search", "red", "--store", store), True),
            (("search", "--picture", bad, "--store", store, "--why"), True),
            (("search", "red", "--store", store, "--json"), False),
            (("duplicates", "--store", store), True), (("explain", bad, "--json"), False),
            (("caption", bad, f"--{NASTY}"), True), (("caption", bad, "--model", NASTY), False),
            (("explain", bad, "--png", tmp_path / NASTY), True),
            (("explain", bad, "--csv", tmp_path / NASTY, "--report", tmp_path / NASTY), True),
            (("search", NASTY, "--store", store), False),
            (("search", "red", "--store", f"{store}{NASTY}"), True),
            (("search", "red", "--store", store, "--save", tmp_path / f"{NASTY}.zip"), True),
            (("search", "red", "--store", store, "--folder", NASTY), False)):
        try:
            _, out, err = run(*arguments)
        except SystemExit:  # what argparse refuses
            continue
        told = out + err
        assert not set(told) & set("\x1b\x07\r\x9b\u202e\u2028"), (arguments, told)
        assert "\nerror: b" not in told
        assert not named or shown in told, (arguments, told)
        if "--json" in arguments:
            assert NASTY in json.dumps(json.loads(out), ensure_ascii=False).encode().decode(
                "unicode_escape", "ignore") or "\\u001b" in out


def test_a_log_is_plain_too() -> None:
    formatter = PlainFormatter("%(levelname)s: %(message)s")
    try:
        raise ValueError("\x1b[2J in the fault")
    except ValueError:
        record = logging.LogRecord("a", logging.WARNING, "f", 1, "left out: %s", (NASTY,),
                                   sys.exc_info())
    text = formatter.format(record)
    assert text.startswith(f"WARNING: left out: {plain(NASTY)}\nTraceback")
    assert "\x1b" not in text and "\\x1b[2J in the fault" in text


def test_plain_text_says_what_was_there() -> None:
    assert plain("a\tb\nc\x1b[0m\x9b\u202e猫🐱") == "a\\tb\\nc\\x1b[0m\\x9b\\u202e猫🐱"
    value = {"a": "\x9b\x7f\u202e\u2028猫\x1b"}
    told = plain_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(told) == value and not set(told) & set("\x9b\x7f\u202e\u2028\x1b")


@pytest.mark.parametrize(("arguments", "said"), [
    (("caption", "{red}", "--seed", MAX_SEED + 1), "seed is 9223372036854775808"),
    (("caption", "{red}", "--seed", -1), "seed is -1"),
    (("caption", "x" * 5000), "cannot be read: its name is too long"),
    (("caption", "~nobody-of-this-name/x.jpg"), "does not exist"),
    (("search", "red", "--store", "~nobody-of-this-name/x"), "user that this computer"),
    (("search", "red", "--store", "x" * 5000), "no store xxx"),
    (("search", "red", "--store", "{store}", "--folder", "~nobody-of-this-name/x"), "user that"),
    (("search", "red " * 200_000, "--store", "{store}"), "limit is 2,000"),
    (("search", "red", "--store", "{store}", "--best", -1), "--best is -1"),
    (("search", "red", "--store", "{store}", "--best", 10**12), "--best is 1000000000000"),
    (("search", "red", "--store", "{store}", "--min-width", 10**30), "at most 1,000,000"),
    (("search", "red", "--store", "{store}", "--after", "2024-00"), "“2024-00” is no date"),
    (("search", "red", "--store", "{store}", "--picture", "{red}", "--picture-weight", "nan"),
     "weight is nan"),
    (("duplicates", "--store", "{store}", "--cosine", "nan"), "cosine is nan"),
    (("explain", "{red}", "--png", "x" * 5000 + ".png"), "its name is too long"),
    (("explain", "{red}", "--csv", "{red}/x.csv"), "a part of its path is no folder")])
def test_what_is_far_out_of_range_is_one_sentence(arguments: tuple[Any, ...], said: str, run: Run,
                                                  photos: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    places = {"{red}": str(photos / "red.png"), "{store}": str(tmp_path / "store"),
              "{red}/x.csv": str(photos / "red.png" / "x.csv")}
    code, _, err = run(*(places.get(str(one), one) for one in arguments))
    assert code == 2 and said in err and err.count("\n") == 1 and len(err) < 800, err[:2000]


def test_a_report_on_a_full_disk_leaves_the_old_one(run: Run, photos: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    files = {flag: tmp_path / f"old.{flag}" for flag in ("report", "csv", "png")}
    for flag, file in files.items():
        assert run("explain", photos / "red.png", f"--{flag}", file)[0] == 0
        before = file.read_bytes()
        file.chmod(0o640)

        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(disk, "sync", full)
            code, _, err = run("explain", photos / "blue.png", f"--{flag}", file)
        assert code == 2 and "the disk is full" in err and "What was there before is kept" in err
        assert file.read_bytes() == before
        link = tmp_path / f"link.{flag}"
        link.symlink_to(file)
        assert run("explain", photos / "blue.png", f"--{flag}", link)[0] == 0
        assert link.is_symlink() and file.read_bytes() != before
        assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == sorted(
        2 * [".report", ".csv", ".png"])


@posix
def test_what_is_no_file_is_written_itself(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with disk.replacing([tmp_path / "pipe"]) as (part,):
        part.write_text("hello")
    assert os.read(reader, 100) == b"hello" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    long = tmp_path / ("é" * 126 + ".c")  # 254 bytes: no room for another ending
    with disk.replacing([long]) as (part,):
        part.write_text("x")
    assert long.read_text() == "x" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["gone.png", "broken.png", "folder.png"])
def test_why_names_a_hit_that_broke_and_shows_the_hits(name: str, run: Run, photos: Path,
                                                       tmp_path: Path) -> None:
    Image.new("RGB", (60, 60), COLOURS["red"]).save(photos / name)
    run("index", photos, "--store", tmp_path / "store")
    (photos / name).unlink()
    if name == "broken.png":
        (photos / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    elif name == "folder.png":
        (photos / name).mkdir()
    code, out, err = run("search", "red -blue", "--why", "--json", "--store", tmp_path / "store")
    hits = json.loads(out)["hits"]
    assert code == 0 and len(hits) == 5
    assert ["parts" in hit for hit in hits] == [not hit["path"].endswith(name) for hit in hits]
    assert f"not known of {photos / name} what each word does" in err and err.count("\n") == 1
    code, out, err = run("search", "an animal –red", "--why", "--store", tmp_path / "store")
    assert code == 0 and len(out.splitlines()) == 7
    assert out.endswith("red.png: Its file name says: red\n")
    assert "Looked for: “an animal” − “red”\n" in err


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_in_order(number: int, code: int, run: Run, photos: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    def caption(*_: object) -> None:
        os.kill(os.getpid(), number)
        for _ in range(1000):
            time.sleep(0.01)

    monkeypatch.setattr(Engine, "caption", caption)
    try:
        assert run("caption", photos / "red.png") == (code, "", "stopped\n")
    finally:
        signal.signal(signal.SIGINT, usual)
    assert signal.getsignal(signal.SIGTERM) is before


@posix
def test_a_process_that_is_ended_within_the_model_does_not_abort() -> None:
    script = ("import atexit, threading, torch\nfrom vitdemo.terminal import end_with\n"
              "atexit.register(print, 'cleaned')\nbegun = threading.Semaphore(0)\n"
              "def work():\n    while True:\n        torch.ones(64, 64) @ torch.ones(64, 64)\n"
              "        begun.release()\n"
              "for _ in range(4):\n    threading.Thread(target=work, daemon=True).start()\n"
              "for _ in range(40):\n    begun.acquire()\nend_with(lambda: 143)\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleaned\n", "")


def test_a_reader_that_has_seen_enough_is_no_error(run: Run, photos: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    code, _, err = run("caption", photos / "red.png")
    assert (code, err) == (0, "")


def test_a_home_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VitDemoError, match="whole path"):
        disk.expanded("~nobody-of-this-name/pictures")
    monkeypatch.setenv("HOME", "/me")
    if os.name != "nt":
        assert disk.expanded("~/x") == Path("/me/x")
