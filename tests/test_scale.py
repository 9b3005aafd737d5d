"""Settings that follow from how few pictures there are."""

from pathlib import Path

import pytest
from small_run import arguments

from train.data.reading import Row
from train.finetune import main, parse, settings_of
from train.settings import FEW, RunSettings, Settings, said, scaled
from vitdemo.models.checkpoint import load_checkpoint

SENTENCES = tuple(f"sentence {i}" for i in range(5))


def rows(count: int, captions: int = 5) -> list[Row]:
    return [Row(Path(f"{i}.jpg"), SENTENCES[:captions], (), ()) for i in range(count)]


def test_many_pictures_change_nothing() -> None:
    assert scaled(Settings(), (), rows(FEW)) == (Settings(), {})


@pytest.mark.parametrize("kind", ["frozen", "lora", "full"])
def test_fifty_pictures_are_seen_a_few_times_each_in_small_steps(kind: str) -> None:
    start = Settings(RunSettings(train=kind))
    settings, changed = scaled(start, (), rows(45))
    run, flat = settings.run, settings.flat()
    shown = flat["caption_pictures"] + flat["questions"] + flat["pairs"]
    epochs = run.steps * flat["caption_pictures"] / 45
    assert 3 <= epochs <= 15 and shown <= 45
    assert 4 <= run.steps / run.validate_every <= 10
    assert run.learning_rate == (5e-4 if kind == "lora" else 1e-4)
    # A backbone that learns is dear: its steps are half as large, and look at each half as often.
    if kind == "full":
        assert shown <= 16 and epochs <= 5
    assert changed["steps"] == run.steps and f"--steps {run.steps}" in said(changed, 45)
    assert {name for name in flat if flat[name] != start.flat()[name]} == set(changed)


def test_more_pictures_make_larger_steps_up_to_the_plain_ones() -> None:
    found = [scaled(Settings(), (), rows(count))[0] for count in (10, 45, 200, 600, FEW - 1)]
    for name in ("caption_pictures", "questions", "pairs"):
        values = [settings.flat()[name] for settings in found]
        assert values == sorted(values) and values[-1] == Settings().flat()[name]
    steps = [settings.run.steps for settings in found]
    assert max(steps) <= Settings().run.steps and min(steps) >= 30


def test_captions_are_not_shown_oftener_than_there_are() -> None:
    for count, captions, wanted in ((400, 5, 5), (400, 2, 2), (45, 1, 1), (45, 0, 1)):
        settings, _ = scaled(Settings(), (), rows(count, captions))
        assert settings.flat()["texts_per_picture"] == wanted


def test_what_somebody_set_stays(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('data = "d"\nfrom = "f"\nout = "o"\nsteps = 2000\n', encoding="utf-8")
    (args,) = parse(["--recipe", str(file), "--pairs", "96"])
    settings, changed = scaled(settings_of(args), args.given, rows(45))
    assert settings.run.steps == 2000 and settings.flat()["pairs"] == 96
    assert settings.run.validate_every == 400  # a fifth of the steps that were given
    assert set(changed) == {"caption_pictures", "questions", "texts_per_picture", "learning_rate",
                            "validate_every"}


def test_a_run_with_few_pictures_says_what_it_chose(
        data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = arguments(data, start, out)
    for flag in ("--pairs", "--steps", "--validate-every"):
        place = given.index(flag)
        del given[place:place + 2]
    assert main([*given, "--steps", "2"]) == 0
    assert "for 10 pictures: --learning-rate 0.0001, --validate-every 1, --pairs 4" in \
        capsys.readouterr().err
    settings = load_checkpoint(out).meta["settings"]
    assert (settings["steps"], settings["learning_rate"]) == (2, 1e-4)
