"""Several processes train by the mean of their steps."""

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
from small_run import arguments

import train.run
from train import finetune
from train.data.reading import Row
from train.finetune import main
from train.objectives.matching import draw_wrong

ROOT = Path(__file__).parent.parent
STEPS = 4
FEW = ("--steps", str(STEPS), "--validate-every", str(STEPS), "--pairs", "7",
       "--caption-pictures", "5", "--questions", "3", "--learning-rate", "0.005",
       "--loss-fade", "1", "--fade-pictures", "5")


def launch(count: int, given: list[str]) -> "list[subprocess.Popen[str]]":
    """Start the processes of one run, with the variables that torch's launcher and accelerate's
    give them; the launchers themselves take as long to start as the run itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
                "CUDA_VISIBLE_DEVICES": "", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port)}
    return [subprocess.Popen([sys.executable, "-m", "train.finetune", *given], cwd=ROOT,
                             env={**settings, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in range(count)]


def curve(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.slow
def test_two_processes_go_on_by_the_mean_of_two_steps(data: Path, start: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    running = launch(2, [*arguments(data, start, tmp_path / "two", *FEW), "--cache",
                         str(tmp_path / "cache2")])
    losses = train.run.Run._losses

    def of_two(run: train.run.Run, number: int) -> dict[str, float]:
        found = [losses(run, 2 * number + rank) for rank in range(2)]
        for parameter in run.trained:
            if parameter.grad is not None:
                parameter.grad /= 2
        return {name: sum(each[name] for each in found) / 2 for name in found[0]}

    monkeypatch.setattr(train.run.Run, "_losses", of_two)
    try:
        assert main(arguments(data, start, tmp_path / "one", *FEW)) == 0  # meanwhile
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
    for alone, together in zip(one, two, strict=True):
        # Adam hides a wrong scale of all gradients; their norm does not.
        assert together == pytest.approx(alone, rel=2e-4, abs=1e-5)


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


def test_a_wrong_pair_is_drawn_by_likeness_and_is_never_the_right_one() -> None:
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.8, 0.8]])
    picks = torch.linspace(0, 1 - 1e-6, 500)
    drawn = torch.stack([draw_wrong(similarity, 0.5, pick.repeat(2)) for pick in picks])
    assert not (drawn == torch.arange(2)).any()
    odds = torch.tensor([0.5, 0.1]).div(0.5).softmax(0)
    assert (drawn[:, 0] == 1).float().mean() == pytest.approx(float(odds[0]), abs=0.01)
    odds = torch.tensor([0.9, 0.8]).div(0.5).softmax(0)
    assert (drawn[:, 1] == 0).float().mean() == pytest.approx(float(odds[0]), abs=0.01)
