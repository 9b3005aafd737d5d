"""Training: the data made from captions, the losses, and a run that goes on exactly."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_model, make_picture
from learning import NoiseStore, learning
from small_run import CAPTIONS, CAPTIONS_ZH, arguments, losses_of

from train.data.features import open_features
from train.data.questions import made_questions, thing_counts
from train.data.reading import Question, Row, read_rows, read_split
from train.finetune import main
from train.objectives.answering import items_of
from train.objectives.captioning import is_short
from train.objectives.contrastive import contrastive_loss, read_by_length
from train.objectives.cross_entropy import linear_cross_entropy
from train.settings import RunSettings, rate_at
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

ROOT = Path(__file__).parent.parent


def test_made_questions_are_what_the_captions_say() -> None:
    row = Row(Path("a.jpg"), CAPTIONS, CAPTIONS_ZH, ())
    other = Row(Path("b.jpg"), ("A man rides a horse .",), ("一个男人在骑马。",), ())
    counts = thing_counts([row, other])
    found = [example for seed in range(8)
             for example in made_questions(0, row, counts, random.Random(seed))]
    said = {(e.instruction, *e.texts) for e in found}
    assert ("What color is the ball?", "red") in said
    assert any("红" in t for i, t in said if "球" in i and "颜色" in i)
    assert any("dog" in i and t == "yes" for i, t in said)
    assert any("horse" in i and t == "no" for i, t in said)
    assert not any("dog" in i and t == "no" and i.startswith(("Is there", "Can")) for i, t in said)


def test_yes_and_no_are_balanced() -> None:
    rows = [Row(Path(f"{i}.jpg"), (f"A {thing} outside .",), (), ())
            for i, thing in enumerate(("dog", "man", "cat", "horse", "boat", "bird") * 5)]
    counts, maker = thing_counts(rows), random.Random(0)
    answers = [e.texts[0] for i, row in enumerate(rows)
               for e in made_questions(i, row, counts, maker)
               if e.kind == "yes_no" and e.language == "en"]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_answers_of_several_people_count_when_three_agree() -> None:
    question = Question("what ?", "tree", ("tree",) * 5 + ("log",) * 3 + ("trees",) * 2, "", "v")
    other = Question("where ?", "tissue_box", (), "", "d")
    assert [e.texts[0] for e in (*items_of(0, question), *items_of(0, other))] == [
        "tree", "log", "tissue box"]


def test_a_caption_of_few_words_is_short() -> None:
    assert is_short("two dogs play", "en") and not is_short("一" * 20, "zh")


def test_contrastive_loss_is_the_formula() -> None:
    similarity = torch.tensor([[0.9, 0.1], [0.3, 0.5]])
    scores = similarity / 0.1
    rows = [-(scores[i, i] - scores[i].logsumexp(0)) for i in range(2)]
    columns = [-(scores[i, i] - scores[:, i].logsumexp(0)) for i in range(2)]
    want = (sum(rows) / 2 + sum(columns) / 2) / 2
    assert contrastive_loss(similarity, 0.1).item() == pytest.approx(float(want), abs=1e-6)
    assert contrastive_loss(torch.eye(4), 0.05) < contrastive_loss(torch.eye(4).flip(0), 0.05)


def test_texts_read_by_length_are_the_texts(tiny_model: VLM, tokenizer: TextTokenizer,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.objectives.contrastive._TEXTS_AT_ONCE", 2)
    texts = ["a dog runs in the grass near a red ball", "a cat", "两只狗在草地上奔跑",
             "two dogs run", "grass"]
    ids, mask = tokenizer.encode(texts)
    words, z = read_by_length(tiny_model, ids, mask)
    whole, vectors = tiny_model.encode_text(ids, mask)
    assert torch.allclose(z, vectors, atol=1e-5)
    assert torch.allclose(words[mask], whole[mask], atol=1e-5)
    assert words.shape == whole.shape


@pytest.mark.parametrize(("rows", "smoothing"), [(7, 0.0), (1100, 0.1)])
def test_the_chunked_cross_entropy_is_the_plain_one(rows: int, smoothing: float) -> None:
    torch.manual_seed(0)
    values = [torch.randn(rows, 16), torch.randn(50, 16), torch.randn(50)]
    targets = torch.randint(50, (rows,))
    results = []
    for kind in ("plain", "chunked"):
        hidden, weight, bias = (value.clone().requires_grad_() for value in values)
        if kind == "plain":
            loss = torch.nn.functional.cross_entropy(
                torch.nn.functional.linear(hidden, weight, bias), targets,
                label_smoothing=smoothing)
        else:
            loss = linear_cross_entropy(hidden, weight, bias, targets, smoothing)
        (3 * loss).backward()
        results.append((loss.detach(), hidden.grad, weight.grad, bias.grad))
    for plain, chunked in zip(*results, strict=True):
        assert torch.allclose(plain, chunked, atol=1e-5)


def test_features_are_computed_once_and_again_after_a_change(data: Path, tiny_model: VLM,
                                                             tmp_path: Path) -> None:
    paths = [row.path for row in read_split(data / "train").rows]
    whole = open_features(tiny_model, paths, tmp_path / "c", quiet=True).get(paths[:2])
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "c").iterdir()}
    open_features(tiny_model, paths, tmp_path / "c", quiet=True)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "c").iterdir()} == before
    make_picture(999, (40, 30)).save(paths[0])
    changed = open_features(tiny_model, paths, tmp_path / "c", quiet=True)
    assert not torch.equal(changed.get(paths[:1]), whole[:1])
    assert torch.equal(changed.get(paths[1:2]), whole[1:])


def test_every_loss_reaches_its_part(data: Path, tokenizer: TextTokenizer,
                                     tmp_path: Path) -> None:
    model = make_model(tokenizer).train()
    rows = list(read_split(data / "train").rows)
    store = open_features(model, [row.path for row in rows], tmp_path / "c", quiet=True)
    found = learning(model, rows, store, tokenizer)
    values = found.losses(found.draw())
    assert set(values) == {"caption", "question", "contrastive", "match", "region", "attention",
                           "loss"}
    values["loss"].backward()
    without = [name for name, parameter in model.named_parameters()
               if parameter.grad is None and "backbone" not in name]
    assert not without
    total = sum(weight * values[name].detach() for name, weight in {
        "caption": 1, "question": 1, "contrastive": 1, "match": 0.5, "region": 0.5 / 25,
        "attention": 0.3}.items())
    assert float(values["loss"]) == pytest.approx(float(total), rel=1e-5)


def test_what_an_objective_draws_does_not_depend_on_the_others(
        data: Path, tokenizer: TextTokenizer, tiny_model: VLM) -> None:
    rows, store = list(read_split(data / "train").rows), NoiseStore(tiny_model)
    more = {"fade_pictures": 4, "loss_fade": 1.0}
    whole = learning(tiny_model, rows, store, tokenizer, **more).draw(3)
    alone = learning(tiny_model, rows, store, tokenizer, loss_caption=0, **more).draw(3)
    assert torch.equal(alone["fade"].texts.targets, whole["fade"].texts.targets)
    assert torch.equal(alone["question"].kept, whole["question"].kept)


def test_each_use_has_random_numbers_of_its_own(data: Path, tokenizer: TextTokenizer,
                                                tiny_model: VLM) -> None:
    rows = list(read_split(data / "train").rows)
    found = learning(tiny_model, rows, NoiseStore(tiny_model), tokenizer,
                     loss_fade=1.0, fade_pictures=4, caption_pictures=4)
    parts = [found.draw(step) for step in range(60)]
    first = torch.stack([part["fade"].cover.flatten() for part in parts]).flatten()
    own = torch.stack([part["fade"].own.float().repeat_interleave(3) for part in parts]).flatten()
    kept = torch.stack([part["caption"].kept[:, 0].float().repeat_interleave(3)
                        for part in parts]).flatten()
    for other in (own, kept):
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.2
    assert not torch.equal(parts[0]["caption"].kept, parts[0]["question"].kept)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] < 0.03


def test_a_run_learns_and_ships_a_checkpoint(data: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, "--steps", "40", "--learning-rate", "0.005")) == 0
    losses = [loss for _, loss in losses_of(out)]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    shipped = load_checkpoint(out)
    assert shipped.meta["validation"]["total"] >= 0
    assert main(arguments(data, start, out)) == 2  # would overwrite the run


# Trains until the fifth state is to be saved: its step is logged by then, and the state is not.
KILLED = """
import itertools, os, signal, sys
from train import finetune, run
save, calls, run.SAVE_MINUTES = run.save_state, itertools.count(1), 0
def saving(*given):
    if next(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*given)
run.save_state = saving
sys.exit(finetune.main(sys.argv[1:]))
"""


def test_a_killed_run_goes_on_with_the_same_losses(data: Path, start: Path,
                                                   tmp_path: Path) -> None:
    assert main(arguments(data, start, tmp_path / "whole")) == 0
    out = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments(data, start, out)],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(losses_of(out)) == 5
    assert main(arguments(data, start, out, "--resume")) == 0
    assert losses_of(out) == losses_of(tmp_path / "whole")


@pytest.mark.parametrize(("flag", "value"), [("--steps", "0"), ("--train", "all"),
                                             ("--mixed-precision", "int3"),
                                             ("--dropout", "1")])
def test_bad_settings_are_refused_by_name(flag: str, value: str, data: Path, start: Path,
                                          tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "out", flag, value)) == 2
    assert flag.strip("-").replace("-", "_") in capsys.readouterr().err
    with pytest.raises(ConfigError):
        RunSettings(steps=0)


def test_bad_rows_stop_the_run_or_are_skipped(data: Path, start: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    (data / "train" / "3.png").write_bytes(b"no picture")
    assert main(arguments(data, start, tmp_path / "a")) == 2
    assert "line 4" in capsys.readouterr().err
    assert main(arguments(data, start, tmp_path / "b", "--skip-bad", "--steps", "1")) == 0
    assert "1 skipped" in capsys.readouterr().err


def test_a_plain_folder_keeps_every_tenth_picture_for_validation(data: Path, start: Path,
                                                                 tmp_path: Path) -> None:
    train, validation = read_rows([data / "train"], skip_bad=False)
    assert (len(train), len(validation)) == (9, 1)
    assert not {row.path for row in train} & {row.path for row in validation}
    both = read_rows([data], skip_bad=False)
    assert (len(both[0]), len(both[1])) == (10, 4)


def test_a_bad_validation_row_is_not_taken_for_no_validation(
        data: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "validation" / "0.png").unlink()
    assert main(arguments(data, start, tmp_path / "out")) == 2
    assert "validation" in capsys.readouterr().err
