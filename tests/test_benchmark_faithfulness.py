"""The benchmark of faithfulness: its statistics on made-up evidence, and a run on planted maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import COLOURS, Planted

from benchmarks import faithfulness
from benchmarks.faithfulness import Found, report, summary, winner
from vitdemo.engine import Engine
from vitdemo.records import Curve, Evidence


def found(picture: int, deletion: float, insertion: float = 0.6, probability: float = 0.9,
          verdict: str = "strong") -> Found:
    steps = (0.0, 1.0)
    return Found(picture, Evidence(
        0, "caption", "x", Curve(steps, (0.5, 0.5), deletion), Curve(steps, (0.5, 0.5), insertion),
        (0.3, 0.5) * 5, (0.5, 0.3) * 5, 0.35, 0.45, probability, 0.1, verdict))


def test_summary_takes_means_and_shares_better_than_random() -> None:
    one = summary([found(0, 0.2), found(0, 0.3), found(1, 0.1, verdict="worse")])
    assert one is not None and (one["words"], one["pictures"]) == (3, 2)
    assert one["deletion"]["mean"] == pytest.approx(0.2)
    assert one["random_deletion"]["mean"] == pytest.approx(0.4)
    assert one["deletion_better"]["mean"] == pytest.approx(0.5)
    assert one["insertion_better"]["mean"] == pytest.approx(0.5)
    assert one["centre_deletion_better"]["mean"] == pytest.approx(1 / 8)
    assert one["deletion"]["low"] == pytest.approx(0.1) and one["verdicts"]["strong"] == 2
    assert one["deletion"]["high"] == pytest.approx(0.25), "pictures are drawn, not words"
    assert summary([]) is None


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(40):
        one = summary([found(n, value) for n, value in enumerate(rng.normal(0.3, 0.05, 25))])
        assert one is not None
        inside += one["deletion"]["low"] <= 0.3 <= one["deletion"]["high"]
    assert inside >= 33


def test_report_and_winner() -> None:
    rows = {"good": summary([found(0, 0.2), found(1, 0.2)]),
            "bad": summary([found(0, 0.5, 0.3)]), "none": None,
            "occlusion": summary([found(0, 0.1)])}
    assert winner(rows) == "good" and winner({"none": None}) == ""
    lines = report(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "good", "bad", "occlusion", "centre", "random"]
    assert "+50% (+50 to +50)" in lines[2] and "-25%" in lines[3]
    assert report({"none": None}) == "no words"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "photos" / "validation"
    folder.mkdir(parents=True)
    rows = []
    for number in range(3):
        image = Image.new("RGB", (120, 90), COLOURS["green"])
        image.paste(COLOURS["red"], (0, 30 * number, 90, 90))
        image.save(folder / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "captions": ["a picture"]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), "utf-8")
    return folder.parent


def test_a_run_finds_that_the_planted_maps_hold(data: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Engine, "load", lambda config: Engine(Planted(), config))
    file = tmp_path / "out.json"
    assert faithfulness.main(["--data", str(data), "--words", "9", "--occlusion", "1", "--json",
                              str(file)]) == 0
    out = capsys.readouterr().out
    assert "planted (1), 3 pictures" in out and "The winner: cross-attention" in out
    saved = json.loads(file.read_text("utf-8"))
    row = saved["depends"]["cross-attention"]
    assert row["words"] == row["pictures"] == 3, "the colour's word, and only that"
    assert row["deletion_better"]["mean"] > 0.05 and row["insertion_better"]["mean"] > 0.05
    assert saved["all"]["cross-attention"]["words"] == 9
    assert saved["depends"]["occlusion"]["pictures"] == 1


def test_a_run_that_is_stopped_reports_what_it_has(data: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    class Stopped(Planted):
        def generate(self, *arguments):
            if self.closed == 2:
                raise KeyboardInterrupt
            return super().generate(*arguments)

    monkeypatch.setattr(Engine, "load", lambda config: Engine(Stopped(), config))
    assert faithfulness.main(["--data", str(data), "--words", "9"]) == 0
    assert "2 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("extra, message", [
    (["--limit", "0"], "--limit"), (["--methods", "magic"], "'magic'"),
    (["--split", "test"], "no test split")])
def test_bad_settings_are_one_sentence(data: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str], extra: list[str],
                                       message: str) -> None:
    monkeypatch.setattr(Engine, "load", lambda config: Engine(Planted(), config))
    assert faithfulness.main(["--data", str(data), *extra]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
