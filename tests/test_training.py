"""Training: the data made from captions, the losses, and a run that goes on exactly."""

import dataclasses
import operator
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_model, make_picture
from small_run import CAPTIONS, CAPTIONS_ZH, arguments, losses_of

from train.data.batch_sampler import Mixture, MixtureConfig
from train.data.batches import StepBatch
from train.data.features import (
    VIEWS,
    PictureDataset,
    View,
    apply_view,
    draw_cloud,
    open_features,
    scaled_pixels,
)
from train.data.instructions import (
    human_questions,
    is_short,
    made_questions,
    mirrored,
    thing_counts,
)
from train.data.reading import Question, Row, read_split
from train.finetune import FinetuneConfig, main, rate_at, read_rows
from train.objectives import fade as clouds
from train.objectives.cross_entropy import linear_cross_entropy
from train.objectives.fade import (
    Seen,
    cover,
    fading_losses,
    hide_loss,
    look,
    word_clouds,
    word_maps,
)
from train.objectives.losses import LossConfig, contrastive_loss, read_by_length, step_losses
from vitdemo.attention.masking import Masker
from vitdemo.attention.methods import matched
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import grid_boxes, to_bytes
from vitdemo.tokens import TextTokenizer

ROOT = Path(__file__).parent.parent


def test_made_questions_are_what_the_captions_say() -> None:
    row = Row(Path("a.jpg"), CAPTIONS, CAPTIONS_ZH, ())
    other = Row(Path("b.jpg"), ("A man rides a horse .",), ("一个男人在骑马。",), ())
    counts = thing_counts([row, other])
    found = [example for seed in range(8)
             for example in made_questions(0, row, [other], counts, random.Random(seed))]
    said = {(e.instruction, e.target) for e in found}
    assert ("How many dogs are there?", "2") in said
    assert ("What color is the ball?", "red") in said
    assert ("What is the dog doing?", "running") in said
    assert ("有几只狗？", "两只") in said
    assert any("dog" in i and t == "yes" for i, t in said)
    assert any("horse" in i and t == "no" for i, t in said)
    assert not any("dog" in i and t == "no" and i.startswith(("Is there", "Can")) for i, t in said)
    assert any(i.startswith("这句话") and t == "不对" for i, t in said)


def test_yes_and_no_are_balanced() -> None:
    rows = [Row(Path(f"{i}.jpg"), (f"A {thing} outside .",), (), ())
            for i, thing in enumerate(("dog", "man", "cat", "horse", "boat", "bird") * 5)]
    counts, maker = thing_counts(rows), random.Random(0)
    answers = [e.target for i, row in enumerate(rows)
               for e in made_questions(i, row, rows, counts, maker)
               if e.kind == "yes_no" and e.language == "en"]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_answers_of_several_people_count_when_three_agree() -> None:
    question = Question("what ?", "tree", ("tree",) * 5 + ("log",) * 3 + ("trees",) * 2, "", "v")
    row = Row(Path("a.jpg"), (), (), (question, Question("where ?", "tissue_box", (), "", "d")))
    assert [e.target for e in human_questions(0, row)] == ["tree", "log", "tissue box"]


def test_a_mirror_swaps_left_and_right() -> None:
    assert mirrored("the dog on the left looks right") == "the dog on the right looks left"
    assert mirrored("左边的狗") == "右边的狗"
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
    monkeypatch.setattr("train.objectives.losses._TEXTS_AT_ONCE", 2)
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
    store = open_features(tiny_model, paths, VIEWS[:2], tmp_path / "c", quiet=True)
    assert store.views == 2
    whole, mirror = store.get(paths[:2], [0, 0]), store.get(paths[:2], [1, 1])
    assert not torch.equal(whole, mirror)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "c").iterdir()}
    open_features(tiny_model, paths, VIEWS[:2], tmp_path / "c", quiet=True)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "c").iterdir()} == before
    make_picture(999, (40, 30)).save(paths[0])
    changed = open_features(tiny_model, paths, [View()], tmp_path / "c", quiet=True)
    assert not torch.equal(changed.get(paths[:1], [0]), whole[:1])
    assert torch.equal(changed.get(paths[1:2], [0]), whole[1:])


def test_a_cloud_blurs_whole_regions_and_leaves_the_others() -> None:
    picture, boxes = make_picture(3, (80, 60)), grid_boxes((6, 8), (1, 1))
    clouds = [draw_cloud(boxes, np.random.default_rng(seed)) for seed in range(200)]
    shares = np.array([cloud.mean() for cloud in clouds])
    assert shares.min() >= 0.08 and shares.max() <= 0.92 and shares.std() > 0.15
    # In half of the clouds neighbours are alike, in the others not more than by chance.
    alike = [(cloud.reshape(6, 8)[:, 1:] == cloud.reshape(6, 8)[:, :-1]).mean()
             - (share**2 + (1 - share)**2) for cloud, share in zip(clouds, shares, strict=True)]
    assert 60 < sum(value > 0.15 for value in alike) < 140
    shown = apply_view(picture, View(clouded=True), np.random.default_rng(7), boxes)
    hidden = draw_cloud(boxes, np.random.default_rng(7)).reshape(6, 8).repeat(10, 0).repeat(10, 1)
    changed = (np.asarray(shown) != np.asarray(picture)).any(-1)
    assert not changed[~hidden].any() and changed[hidden].mean() > 0.9


def test_clouded_pictures_write_but_do_not_say_where_words_are(
        data: Path, tokenizer: TextTokenizer, tiny_model: VLM, tmp_path: Path) -> None:
    rows = list(read_split(data / "train").rows)
    store = open_features(tiny_model, [r.path for r in rows], VIEWS[:3], tmp_path / "c",
                          quiet=True)
    losses, clear = [], []
    for share in (0.0, 1.0):
        settings = MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6, clouded_share=share)
        batch = Mixture(rows, store, tokenizer, settings, 0, VIEWS[:3]).draw(0)
        assert batch.captions is not None and batch.words is not None
        clear.append(batch.captions.clear.tolist())
        losses.append(step_losses(tiny_model, batch, LossConfig()))
    assert clear == [[True] * 4, [False] * 4]
    for name in ("region", "look"):
        assert losses[0][name] > 0 and losses[1][name] == 0
    assert losses[1]["caption"] > 0


def squeezed(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def clouded_step(model: VLM, data: Path, tokenizer: TextTokenizer, cache: Path) -> StepBatch:
    """A step of three pictures that are shown whole and clouded."""
    rows = list(read_split(data / "train").rows)
    store = open_features(model, [r.path for r in rows], VIEWS[:3], cache, quiet=True)
    settings = MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6, clouds=3)
    batch = Mixture(rows, store, tokenizer, settings, 0, VIEWS[:3]).draw(0)
    assert batch.clouds is not None and batch.words is not None
    paths = [rows[i].path for i in batch.clouds.texts.rows]
    assert torch.equal(batch.clouds.texts.features, store.get(paths, [0] * 3).float())
    assert torch.equal(batch.clouds.clouded, store.get(paths, [2] * 3).float())
    return batch


def test_words_learn_from_a_cloud(data: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer)
    batch = clouded_step(model, data, tokenizer, tmp_path / "c")
    assert batch.clouds is not None and batch.words is not None
    # What is called hidden is where the features changed most.
    moved = (batch.clouds.clouded - batch.clouds.texts.features).abs().mean(-1)
    hidden = batch.clouds.hidden
    assert moved[hidden].mean() > moved[~hidden].mean()

    def loss() -> torch.Tensor:
        assert batch.clouds is not None and batch.words is not None
        return fading_losses(model, batch.clouds, batch.words.content)[0]

    before, optimizer = loss().item(), torch.optim.Adam(model.decoder.parameters(), lr=0.003)
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert 0 < loss().item() < before
    for weights, names in ((LossConfig(), set()), (LossConfig(hide=1), {"hide"})):
        assert {"hide", "hold"} & set(step_losses(model, batch, weights)) == names


def test_a_run_can_be_held_to_what_the_start_says(data: Path, tokenizer: TextTokenizer,
                                                  tmp_path: Path) -> None:
    model, teacher = make_model(tokenizer), make_model(tokenizer)
    teacher.load_state_dict(model.state_dict())
    batch = clouded_step(model, data, tokenizer, tmp_path / "c")
    weights = LossConfig(hide=1, hold=1)
    held = step_losses(model, batch, weights, teacher=teacher)
    assert float(held["hold"].detach()) == pytest.approx(0, abs=1e-5)
    assert float(held["hide"]) == pytest.approx(
        float(step_losses(model, batch, weights)["hide"]), abs=1e-5)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape,
                                              generator=torch.Generator().manual_seed(1)))
    assert batch.clouds is not None and batch.words is not None
    seen = look(model, batch.clouds, batch.words.content, teacher)[0]
    own = look(teacher, batch.clouds, batch.words.content)[0]
    assert torch.allclose(seen.taught, own.whole) and torch.allclose(seen.blank, own.blank)
    assert not torch.allclose(seen.whole, own.whole)
    loss = step_losses(model, batch, weights, teacher=teacher)["hold"]
    loss.backward()
    assert float(loss) > 0.01
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert model.decoder.embedding.weight.grad.abs().sum() > 0


def test_a_word_is_to_keep_what_its_map_shows() -> None:
    whole, blank = torch.tensor([[0.9, 0.1]] * 3), torch.tensor([[0.2, 0.8]] * 3)
    maps = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
    hidden = torch.tensor([[True, False], [False, False], [True, True]])
    flat = torch.tensor([1.0, 2.0]) / 3  # 0.2 and 0.8 at temperature 2: 1 to 2
    kept = torch.tensor([[0.25 ** 2 * 2.5], [1.0], [0.0]])  # s^2 (3 - 2 s)
    for visible, unseen in ((True, flat), (False, blank)):
        wanted = kept * whole + (1 - kept) * unseen
        for given, least in ((wanted, True), (whole, False), (blank, False)):
            seen = Seen(torch.zeros(3), torch.arange(3), given.log(), given.log(), blank.log(),
                        whole.log(), maps)
            found = float(hide_loss(seen, maps, hidden, torch.full((3,), visible), 3))
            assert (abs(found) < 1e-6) == least
            plain = (wanted * (wanted / given).log()).sum() / 3
            assert found == pytest.approx(float(plain), abs=1e-6)


def test_training_hides_by_the_map_that_the_app_shows(data: Path, tokenizer: TextTokenizer,
                                                      tmp_path: Path) -> None:
    model = make_model(tokenizer)
    batch = clouded_step(model, data, tokenizer, tmp_path / "c").clouds
    assert batch is not None and model.region_head is not None
    content = torch.ones(tokenizer.size, dtype=torch.bool)
    seen, found, _ = look(model, batch, content)
    assert not seen.whole.requires_grad and seen.clouded.requires_grad
    assert torch.equal(found, word_maps(model, batch.texts, seen))
    ids = batch.texts.targets[:, 1:][seen.text, seen.place]
    for token in (0, 7, len(ids) - 1):
        picture = int(seen.text[token]) // (len(batch.texts.targets) // 3)
        match = model.region_head.maps(batch.texts.features[picture:picture + 1], ids[[token]])
        shown = matched(seen.attention[[token]].detach().numpy(), match[0].detach().numpy(),
                        model.vision.grid)[0] ** clouds.SHARPEN
        np.testing.assert_allclose(found[token], shown / shown.sum(), atol=1e-5)


def test_a_cloud_along_a_word_covers_its_most_or_its_least_important_regions() -> None:
    pictures, texts, length, places = 40, 2, 3, 20
    generator = torch.Generator().manual_seed(4)
    text, place = torch.ones(pictures * texts, length).nonzero(as_tuple=True)
    tokens = len(text)
    targets = torch.tensor([[0, 5, 6, 7]] * pictures * texts)
    maps = torch.rand(tokens, places, generator=generator)
    whole, blank = torch.full((tokens, 8), 0.1), torch.full((tokens, 8), 0.1)
    whole[:, 6] = whole[:, 7] = 0.9  # 5 follows anyway, 7 cannot be seen: only 6 is drawn
    seen = Seen(text, place, whole.log(), whole.log(), blank.log(), whole.log(), maps)
    content = torch.tensor([True] * 7 + [False])
    batch = SimpleNamespace(noise=torch.rand(pictures, places, generator=generator),
                            targets=targets)
    hidden = word_clouds(batch, seen, maps, content)  # type: ignore[arg-type]
    most = []
    for number, cloud in enumerate(hidden):
        count = int(cloud.sum())
        assert 2 <= count <= 20
        ways = []
        for one in ((text // texts == number) & (place == 1)).nonzero().squeeze(1):
            order = maps[one].argsort(descending=True)
            ways += [way for way, part in (("most", order[:count]), ("least", order[-count:]))
                     if bool(cloud[part].all())]
        assert len(ways) == 1 or (ways and count > 15)  # nearly all is covered: by chance, both
        assert ways == ["least"] or count <= 11 or "least" in ways
        most += [way == "most" for way in ways]
    assert 20 < sum(most) < 36


def test_pixels_are_covered_as_deletion_covers_them(tiny_model: VLM, tmp_path: Path) -> None:
    side = tiny_model.config.picture_size
    make_picture(5, (side, side)).save(tmp_path / "a.png")
    pictures = PictureDataset([tmp_path / "a.png"], View(), tiny_model)
    both = pictures.sharp_and_blurred(tmp_path / "a.png")
    assert torch.equal(scaled_pixels(tiny_model, both[0]), pictures[0])
    assert not torch.equal(both[0], both[1])
    hidden = np.random.default_rng(0).random(len(pictures.boxes)) < 0.5
    shown = Masker(make_picture(5, (side, side)), pictures.boxes * side).picture(hidden)
    expected = to_bytes([shown], side)
    assert torch.equal(cover(tiny_model, both[None], torch.from_numpy(hidden)[None]), expected)


def test_some_pictures_get_clouds_along_words(data: Path, tokenizer: TextTokenizer,
                                              tmp_path: Path) -> None:
    model = make_model(tokenizer)
    rows = list(read_split(data / "train").rows)
    store = open_features(model, [r.path for r in rows], VIEWS[:3], tmp_path / "c", quiet=True)
    settings = MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6, clouds=4, word_clouds=0.5)
    batch = Mixture(rows, store, tokenizer, settings, 0, VIEWS[:3]).draw(0)
    assert batch.clouds is not None and batch.words is not None
    assert len(batch.clouds.pixels) == 2
    content = torch.ones_like(batch.words.content)
    _, _, hidden = look(model, batch.clouds, content)
    assert torch.equal(hidden[2:], batch.clouds.hidden[2:])
    assert not torch.equal(hidden[:2], batch.clouds.hidden[:2])
    hide, _ = fading_losses(model, batch.clouds, content)
    hide.backward()
    assert model.vision.backbone.conv_stem.weight.grad is None
    assert model.decoder.blocks[0].cross.query.weight.grad.abs().sum() > 0


def test_every_loss_reaches_its_part(data: Path, tokenizer: TextTokenizer,
                                     tmp_path: Path) -> None:
    model = make_model(tokenizer).train()
    rows = list(read_split(data / "train").rows)
    store = open_features(model, [row.path for row in rows], VIEWS[:1], tmp_path / "c", quiet=True)
    mixture = Mixture(rows, store, tokenizer, MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6), 0, VIEWS[:1])
    values = step_losses(model, mixture.draw(0), LossConfig())
    assert set(values) == {"caption", "question", "contrastive", "match", "region", "look", "loss"}
    values["loss"].backward()
    without = [name for name, parameter in model.named_parameters()
               if parameter.grad is None and "backbone" not in name]
    assert not without


def test_processes_share_a_step(data: Path, tokenizer: TextTokenizer, tiny_model: VLM,
                                tmp_path: Path) -> None:
    rows = list(read_split(data / "train").rows)
    store = open_features(tiny_model, [r.path for r in rows], VIEWS[:3], tmp_path / "c",
                          quiet=True)
    settings = MixtureConfig(4, 2, 0.1, 4, 0.5, 20, 6, clouded_share=0.5, clouds=4,
                             word_clouds=0.5)
    mixture = Mixture(rows, store, tokenizer, settings, 0, VIEWS[:3])
    whole, parts = mixture.draw(3), [mixture.draw(3, rank, 2) for rank in range(2)]
    assert len(whole.clouds.pixels) == 2
    for name in ("captions.features", "questions.features", "pairs.features", "captions.clear",
                 "clouds.texts.features", "clouds.texts.rows", "clouds.clouded", "clouds.hidden",
                 "clouds.pixels"):
        found = operator.attrgetter(name)
        joined = torch.stack([found(part) for part in parts], 1).flatten(0, 1)
        assert torch.equal(joined, found(whole)), name
    # The pictures to describe twice are drawn last: the others are those of a step without them.
    without = Mixture(rows, store, tokenizer, dataclasses.replace(settings, clouds=0), 0, VIEWS[:3])
    assert without.draw(3).clouds is None
    assert torch.equal(without.draw(3).pairs.features, whole.pairs.features)


def test_the_rate_rises_and_falls() -> None:
    config = FinetuneConfig(steps=100, warmup=0.1)
    rates = [rate_at(step, config) for step in range(100)]
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
save, calls = run.save_state, itertools.count(1)
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
        [sys.executable, "-c", KILLED, *arguments(data, start, out, "--save-minutes", "0.00001")],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(losses_of(out)) == 5
    assert main(arguments(data, start, out, "--resume")) == 0
    assert losses_of(out) == losses_of(tmp_path / "whole")


@pytest.mark.parametrize(("flag", "value"), [("--steps", "0"), ("--views", "9"),
                                             ("--mixed-precision", "int3"),
                                             ("--picture-dropout", "1")])
def test_bad_settings_are_refused_by_name(flag: str, value: str, data: Path, start: Path,
                                          tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, start, tmp_path / "out", flag, value)) == 2
    assert flag.strip("-").replace("-", "_") in capsys.readouterr().err
    with pytest.raises(ConfigError):
        FinetuneConfig(steps=0)


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
