"""Several processes train as one does."""

import contextlib
import copy
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

from train import finetune
from train.data.batch_sampler import Mixture, MixtureConfig
from train.data.features import VIEWS, open_features
from train.data.pixels import NoiseStore
from train.data.reading import Row, read_split
from train.finetune import main
from train.objectives.fade import fading_losses
from train.objectives.losses import draw_wrong
from vitdemo.errors import ConfigError
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

ROOT = Path(__file__).parent.parent
STEPS = 4
# No dropout: its noise is the process's. Picture tokens are dropped as usual: that noise comes with
# the row. Odd numbers, so that one process has more rows and more words than the other.
UNEVEN = ("--dropout", "0", "--picture-dropout", "0",
          "--steps", str(STEPS), "--validate-every", str(STEPS), "--pairs", "7",
          "--caption-pictures", "5", "--questions", "3", "--loss-match-pairs", "3",
          "--learning-rate", "0.005", "--accumulate", "2", "--views", "3", "--clouded-share",
          "0.3", "--clouds", "5", "--word-clouds", "0.6", "--loss-hide", "1", "--loss-hold", "1",
          "--claims", "5", "--loss-claim", "0.5")


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
def test_two_processes_have_the_loss_curve_of_one(data: Path, start: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    assert main(arguments(data, start, begun, "--steps", "40", "--learning-rate", "0.005",
                          "--picture-dropout", "0", "--validate-every", "0",
                          "--word-evidence", "--evidence-steps", "20")) == 0
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
    assert set(one[0]) >= {"caption", "question", "contrastive", "match", "region", "look",
                           "hide", "loss", "gradient_norm"}
    assert all(step["hide"] > 0.01 for step in one)
    for alone, together in zip(one, two, strict=True):
        # Adam hides a wrong scale of all gradients; their norm does not.
        assert together == pytest.approx(alone, rel=2e-4, abs=1e-5)
    assert one[-1]["hold"] > 2 * one[0]["hold"]  # the weights have moved away from the start


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


def test_the_shares_of_the_fading_losses_add_up(data: Path, tokenizer: TextTokenizer,
                                                tiny_model: VLM, tmp_path: Path) -> None:
    rows = list(read_split(data / "train").rows)
    store = open_features(tiny_model, [r.path for r in rows], VIEWS[:3], tmp_path / "c",
                          quiet=True)
    mixture = Mixture(rows, store, tokenizer, MixtureConfig(4, 2, 0.1, 4, clouds=5), 0, VIEWS[:3])
    batches = [mixture.draw(0).clouds, *(mixture.draw(0, rank, 2).clouds for rank in range(2))]
    content = torch.ones_like(mixture.content)
    teacher = copy.deepcopy(tiny_model)
    with torch.no_grad():
        teacher.decoder.bias.add_(torch.linspace(0, 1, len(teacher.decoder.bias)))
    losses, *shares = (fading_losses(tiny_model, batch, content, teacher) for batch in batches
                       if batch is not None)
    for loss, parts in zip(losses, zip(*shares, strict=True), strict=True):
        assert float(loss) > 0
        assert float(sum(parts)) == pytest.approx(float(loss), rel=1e-4)


def test_more_processes_than_rows_are_refused(data: Path, tokenizer: TextTokenizer,
                                              tiny_model: VLM) -> None:
    rows = list(read_split(data / "train").rows)
    mixture = Mixture(rows, NoiseStore(tiny_model, False), tokenizer,
                      MixtureConfig(caption_pictures=4, questions=1, pairs=4), 0, VIEWS[:1])
    with pytest.raises(ConfigError, match="questions comes to 1 a step, fewer than the 2"):
        mixture.draw(0, rank=1, world=2)
    mixture = Mixture(rows, NoiseStore(tiny_model, False), tokenizer,
                      MixtureConfig(caption_pictures=4, questions=2, pairs=4, clouds=1), 0,
                      VIEWS[:3])
    with pytest.raises(ConfigError, match="clouds comes to 1 a step, fewer than the 2"):
        mixture.draw(0, rank=1, world=2)


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
