"""Recipes: what may stand in them, what the command line changes, and stages that follow."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import make_model
from small_run import arguments

from train.data.features import fingerprint
from train.data.reading import read_split
from train.finetune import main, parse, settings_of
from train.objectives import OBJECTIVES
from train.recipe import mean_of
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "train" / "recipes" / "vitdemo-small.toml"
PATHS = 'data = "d"\nfrom = "f"\nout = "o"\n'


def write(folder: Path, text: str) -> str:
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return str(folder / "recipe.toml")


def test_a_flag_counts_more_than_the_recipe_and_the_recipe_more_than_the_default(
        tmp_path: Path) -> None:
    file = write(tmp_path, PATHS + "steps = 7\nlearning_rate = 1\nskip_bad = true\n"
                                   'also_evaluate = ["a", "b"]\nloss_attention = 0.5\n')
    (args,) = parse(["--recipe", file, "--steps", "9", "--out", "elsewhere"])
    settings = settings_of(args)
    assert settings.run.steps == 9 and settings.run.dropout == 0.1
    assert settings.run.learning_rate == 1.0 and isinstance(settings.run.learning_rate, float)
    assert settings.flat()["loss_attention"] == 0.5 and args.skip_bad
    assert (args.data, args.start, args.out) == ([Path("d")], Path("f"), Path("elsewhere"))
    assert args.also_evaluate == [Path("a"), Path("b")] and args.cache == Path("cache/features")


@pytest.mark.parametrize(("line", "said"), [
    ("step = 3", "recipe.toml: unrecognized arguments: --step=3"),
    ("steps = 3.5", "argument --steps: invalid int value: '3.5'"),
    ("steps = true", "argument --steps: expected one argument"),
    ('dropout = "a"', "argument --dropout: invalid float value: 'a'"),
    ("skip_bad = 1", "argument --skip-bad: ignored explicit argument '1'"),
    ("train = 1", "train is '1'; it must be 'frozen', 'lora' or 'full'"),
    ("resume = true", "resume belongs on the command line, as --resume"),
    ("steps = ", "is not TOML"),
    ("[[stage]]\nsteps = 3", "stage 1 needs a name"),
    ('[[stage]]\nname = "a"\n[[stage]]\nname = "a"', "two stages have the name a"),
    ('[[stage]]\nname = "a"\nstep = 3', "recipe.toml, stage a: unrecognized arguments: --step=3"),
    ('[[stage]]\nname = "a"\n[[stage]]\nname = "b"\nfrom = "x"', "from in stage b has no meaning"),
    ('[[stage]]\nname = "a"\nmean = {b = 1.0}', "names 'b', which is no stage before it"),
])
def test_what_is_wrong_in_a_recipe_is_said_by_name(line: str, said: str, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", write(tmp_path, PATHS + line + "\n")]) == 2
    assert said in capsys.readouterr().err


def test_a_bad_value_in_a_late_stage_stops_before_the_first(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PATHS + '[[stage]]\nname = "a"\n[[stage]]\nname = "b"\nsteps = 0\n'
    assert main(["--recipe", write(tmp_path, text)]) == 2
    assert "steps is 0" in capsys.readouterr().err


def test_stages_have_one_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PATHS + '[[stage]]\nname = "a"\n[[stage]]\nname = "b"\nmixed_precision = "no"\n'
    assert main(["--recipe", write(tmp_path, text)]) == 2
    assert "mixed_precision must be the same" in capsys.readouterr().err


def test_a_path_that_nobody_gives_is_missed(tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", write(tmp_path, 'data = "d"\nout = "o"\n')]) == 2
    assert "--from" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--data", "d"])


def test_the_shipped_recipe_is_short_and_begins_with_its_command() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    head = " ".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    for said in ("python -m train.sources", f"--recipe {SHIPPED.relative_to(ROOT)}",
                 "checkpoints/README.md"):
        assert said in head
    stages = parse(["--recipe", str(SHIPPED)])
    assert len(stages) <= 6 and str(stages[0].start) == "runs/start"
    assert stages[-1].weights == "int8" and stages[-1].out.name == "vitdemo-small"


def test_the_shipped_recipe_runs_to_its_end(data: Path, start: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("train.learn_first.STEPS", 10)
    monkeypatch.setattr("train.learn_first.REGION_STEPS", 2)
    monkeypatch.setattr("train.objectives.answering.ENOUGH", 1)
    begun = load_checkpoint(start)
    plain = VLM(replace(begun.model.config, regions=False))
    save_checkpoint(start, plain, begun.tokenizer, {"name": "start"}, "float32")
    out = tmp_path / "out"
    given = [*arguments(data, start, out), "--recipe", str(SHIPPED), "--picture-size", "64",
             "--steps", "1", "--querybank", "4", "--fade-pictures", "2", "--reward-pictures", "2",
             "--validate-every", "0"]
    assert main(given) == 0
    made = load_checkpoint(out / "vitdemo-small")
    config = made.model.config
    assert (config.regions, config.evidence, config.querybank) == (True, True, 4)
    assert "things" in made.meta["instructions"] and "things" not in load_checkpoint(
        start).meta.get("instructions", ())
    assert made.meta["averaged"] == {"rewarded": 0.25, "faded": 0.75}
    stored = safetensors.torch.load_file(out / "vitdemo-small" / "model.safetensors")
    assert stored["text.blocks.0.feed_forward.inner.weight"].dtype == torch.int8
    logged = {stage: set(json.loads((out / stage / "log.jsonl").read_text().splitlines()[0]))
              for stage in ("heads", "search", "rewarded", "faded")}
    assert logged["heads"] >= {"caption", "question", "contrastive", "match", "region", "attention"}
    assert logged["search"] & set(OBJECTIVES) == {"contrastive", "match"}
    assert logged["rewarded"] >= {"caption", "question", "reward"}
    assert logged["faded"] >= {"caption", "question", "fade"}
    assert main([*given, "--resume"]) == 0
    assert f"{out / 'faded'} is finished" in capsys.readouterr().err


def test_stages_follow_each_other_and_go_on_in_the_middle(
        data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [x for x in arguments(data, start, tmp_path / "out") if x != "--steps" and x != "12"]
    file = write(tmp_path, '[[stage]]\nname = "a"\nsteps = 1\n[[stage]]\nname = "b"\nsteps = 2\n'
                           '[[stage]]\nname = "c"\nmean = {a = 0.5, b = 0.5}\n')
    assert main([*given, "--recipe", file]) == 0
    out = tmp_path / "out"
    assert load_checkpoint(out / "b").meta["started_from"] == "a"
    assert load_checkpoint(out / "c").meta["averaged"] == {"a": 0.5, "b": 0.5}
    finished = (out / "a" / "model.safetensors").stat().st_mtime_ns
    state = torch.load(out / "b" / "state.pt", weights_only=True)
    state["progress"]["finished"] = False
    torch.save(state, out / "b" / "state.pt")
    assert main([*given, "--recipe", file]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main([*given, "--recipe", file, "--resume"]) == 0
    said = capsys.readouterr().err
    assert f"{out / 'a'} is finished" in said and f"{out / 'b'} is finished" not in said
    assert (out / "a" / "model.safetensors").stat().st_mtime_ns == finished


def test_a_mean_weighs_what_both_have_and_keeps_what_one_has(tokenizer: TextTokenizer,
                                                             tmp_path: Path) -> None:
    models = [make_model(tokenizer, seed=0, regions=False), make_model(tokenizer, seed=1)]
    for name, model in zip("ab", models, strict=True):
        save_checkpoint(tmp_path / name, model, tokenizer, {"name": name}, "float32")
    mean_of({tmp_path / "a": 0.25, tmp_path / "b": 0.75}, tmp_path / "m")
    mixed = load_checkpoint(tmp_path / "m").model.state_dict()
    a, b = (model.state_dict() for model in models)
    name = "match_head.out.weight"
    assert torch.allclose(mixed[name], 0.25 * a[name] + 0.75 * b[name], atol=2e-3)
    head = next(name for name in b if name.startswith("region_head.") and b[name].dim() == 1)
    assert head not in a and torch.allclose(mixed[head], b[head], atol=2e-3)
    with pytest.raises(ConfigError, match="add up to 1, not to 0.5"):
        mean_of({tmp_path / "a": 0.5}, tmp_path / "n")


def test_a_mean_of_checkpoints_finds_what_is_kept(data: Path, tokenizer: TextTokenizer,
                                                  tmp_path: Path) -> None:
    model = make_model(tokenizer)
    with torch.no_grad():
        model.vision.backbone.conv_stem.weight.view(-1)[0] = -0.0
    save_checkpoint(tmp_path / "a", model, tokenizer, {"name": "a"}, "float32")
    mean_of({tmp_path / "a": 1.0}, tmp_path / "mean", "float32")
    mean = load_checkpoint(tmp_path / "mean").model
    assert not torch.signbit(mean.vision.backbone.conv_stem.weight.view(-1)[0])
    paths = [row.path for row in read_split(data / "train").rows]
    [kept] = {fingerprint(one, paths) for one in (model, mean)}
    with torch.no_grad():
        mean.vision.backbone.conv_stem.weight.view(-1)[0] = 1e-6
    assert fingerprint(mean, paths) != kept
