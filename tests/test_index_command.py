"""The command line's ``index``: what it says while it works and afterwards."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from indexing import paint

from vitdemo import cli
from vitdemo.index_command import describe, duration
from vitdemo.retrieval.indexer import Progress


def test_how_far_it_is_in_words() -> None:
    assert describe(Progress(12, 0, 0, None, "a", 0)) == \
        "Looking through the folders: 12 pictures so far"
    assert describe(Progress(120, 2000, 25.34, 100, "a", 0)) == \
        "120 of 2,000, 25.3 pictures a second, 2 minutes left"
    assert describe(Progress(5, 2000, 0, None, "a", 0)) == "5 of 2,000"
    assert describe(Progress(7, 7, 3, 0, "a", 0)) == "7 of 7, 3.0 pictures a second"


@pytest.mark.parametrize("seconds, said", [(0.2, "1 second"), (40, "40 seconds"), (95, "2 minutes"),
                                           (3000, "50 minutes"), (7500, "2 h 5 min")])
def test_a_time_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_says_what_is_safe_and_the_next_run_carries_on(tiny_checkpoint: Path,
                                                             tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]
                                                             ) -> None:
    for number in range(200):
        paint(tmp_path / "photos" / f"{number:03}.png", number, (300, 200))
    command = ["index", str(tmp_path / "photos"), "--store", str(tmp_path / "store"), "--model",
               str(tiny_checkpoint), "--device", "cpu", "--workers", "1"]
    root = Path(__file__).parent.parent
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "import vitdemo.retrieval.indexer as i; i.STORE_EVERY = 16; "
            "import sys; from vitdemo.cli import main; sys.exit(main(sys.argv[1:]))")
    with subprocess.Popen([sys.executable, "-c", code, *command], cwd=root, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as process:
        deadline = time.monotonic() + 200
        while len(list((tmp_path / "store").glob("*.lance/_versions/*"))) < 5:  # three are empty
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the readers get it, too
        out, said = process.communicate(timeout=200)
    assert process.returncode == 130, said
    assert "of this run are in the store" in said and "The same command carries on" in said
    assert "Traceback" not in said and out == ""
    assert cli.main(command) == 0
    done = capsys.readouterr().out
    assert "now holds 200 pictures" in done
    new, _, _, _, unchanged = (int(part.split()[0])
                               for part in done.splitlines()[1].split(", ")[:5])
    assert unchanged > 0 and new + unchanged == 200
