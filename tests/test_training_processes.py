"""Several processes train as one does."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from learning import NoiseStore, learning
from small_run import arguments

import train.learn_first
import train.run
from train import finetune
from train.data.reading import Row, read_split
from train.finetune import main
from train.objectives.matching import draw_wrong
from vitdemo.errors import ConfigError
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

ROOT = Path(__file__).parent.parent
STEPS = 4
# No dropout: its noise is the process's. Picture tokens are dropped as usual: that noise comes with
# the row. Odd numbers, so that one process has more rows and more words than the other.
UNEVEN = ("--dropout", "0", "--steps", str(STEPS), "--validate-every", str(STEPS), "--pairs", "7",
          "--caption-pictures", "5", "--questions", "3", "--learning-rate", "0.005",
          "--loss-fade", "1", "--fade-pictures", "5", "--loss-distil", "1")
# As `python -m train.finetune`, but for the picture head's dropout, which no flag turns off.
WITHOUT_DROPOUT = """
import sys
from train import finetune, run
run.PICTURE_DROPOUT = 0
sys.exit(finetune.main(sys.argv[1:]))
"""


def launch(count: int, given: list[str]) -> "list[subprocess.Popen[str]]":
    """Start the processes of one run, with the variables that torch's launcher and accelerate's
    give them; the launchers themselves take as long to start as the run itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
                "CUDA_VISIBLE_DEVICES": "", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port)}
    return [subprocess.Popen([sys.executable, "-c", WITHOUT_DROPOUT, *given], cwd=ROOT,
                             env={**settings, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in range(count)]


def curve(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(data: Path, start: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.run, "PICTURE_DROPOUT", 0)
    monkeypatch.setattr(train.learn_first, "STEPS", 20)
    begun = tmp_path / "begun"
    assert main(arguments(data, start, begun, "--steps", "40", "--learning-rate", "0.005",
                          "--validate-every", "0", "--word-evidence")) == 0
    running = launch(2, [*arguments(data, begun, tmp_path / "two", *UNEVEN), "--cache",
                         str(tmp_path / "cache2")])
    try:
        assert main(arguments(data, begun, tmp_path / "one", *UNEVEN)) == 0  # meanwhile
        said = [process.communicate() for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said[0][1][-3000:]
    assert "processes: 2" in said[0][0]
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) == STEPS
    assert set(one[0]) >= {"caption", "question", "contrastive", "match", "region", "attention",
                           "fade", "loss", "gradient_norm"}
    assert all(step["fade"] > 0.01 for step in one)
    for alone, together in zip(one, two, strict=True):
        # Adam hides a wrong scale of all gradients; their norm does not.
        assert together == pytest.approx(alone, rel=2e-4, abs=1e-5)
    assert one[-1]["distil"] > 2 * one[0]["distil"]  # the weights have moved away from the start


def test_the_first_process_reads_the_data_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Processes:
        @contextlib.contextmanager
        def main_process_first(self) -> Iterator[None]:
            done.append("first")
            yield
            done.append("others")

    def read(*_: object) -> tuple[list[Row], list[Row]]:
        done.append("read")
        return [], []

    monkeypatch.setattr(finetune, "processes", Processes)
    monkeypatch.setattr(finetune, "read_rows", read)
    monkeypatch.setattr(finetune, "run_stage", lambda *given: done.append("run"))
    assert main(["--data", "d", "--from", "f", "--out", "o"]) == 0
    assert done == ["first", "read", "others", "run"]


def test_more_processes_than_rows_are_refused(data: Path, tokenizer: TextTokenizer,
                                              tiny_model: VLM) -> None:
    rows = list(read_split(data / "train").rows)
    store = NoiseStore(tiny_model)
    found = learning(tiny_model, rows, store, tokenizer, questions=1)
    with pytest.raises(ConfigError, match="questions comes to 1 a step, fewer than the 2"):
        found.draw(0, 1, 2)
    found = learning(tiny_model, rows, store, tokenizer, loss_fade=1.0, fade_pictures=1)
    with pytest.raises(ConfigError, match="fade_pictures comes to 1 a step, fewer than the 2"):
        found.draw(0, 1, 2)


def test_a_wrong_pair_is_drawn_by_likeness_and_is_never_the_right_one() -> None:
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.8, 0.8]])
    own = torch.tensor([0, 1])
    picks = torch.linspace(0, 1 - 1e-6, 500)
    drawn = torch.stack([draw_wrong(similarity, 0.5, own, pick.repeat(2)) for pick in picks])
    assert not (drawn == own).any()
    odds = torch.tensor([0.5, 0.1]).div(0.5).softmax(0)
    assert (drawn[:, 0] == 1).float().mean() == pytest.approx(float(odds[0]), abs=0.01)
    odds = torch.tensor([0.9, 0.8]).div(0.5).softmax(0)
    assert (drawn[:, 1] == 0).float().mean() == pytest.approx(float(odds[0]), abs=0.01)
