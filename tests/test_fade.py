"""Words that fade as their map is covered, held to what the start of the run says."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_model, make_picture
from learning import Learning, learning

from train.data.features import Store, open_features
from train.data.reading import read_split
from train.objectives import fade
from train.objectives.base import pictures, to_device
from train.objectives.fade import (
    FadeBatch,
    Passes,
    cover,
    covered_places,
    fade_loss,
    held_loss,
    look,
    with_own_words,
    word_maps,
)
from train.objectives.writing import draw_captions, memory_of
from vitdemo.attention.masking import Masker
from vitdemo.attention.methods import matched
from vitdemo.models.vlm import VLM
from vitdemo.preprocess import to_bytes
from vitdemo.tokens import TextTokenizer


def fading(model: VLM, data: Path, tokenizer: TextTokenizer, cache: Path,
           **settings: float) -> Learning:
    """Steps with four pictures whose words are to fade, half of them with the model's own."""
    rows = list(read_split(data / "train").rows)
    store = open_features(model, [r.path for r in rows], cache, quiet=True)
    return learning(model, rows, store, tokenizer, **{"fade_pictures": 4, "loss_fade": 1.0,
                                                      **settings})


def test_words_learn_to_fade(data: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer)
    found = fading(model, data, tokenizer, tmp_path / "c")
    batch = found.draw()
    assert 0 < int(batch["fade"].own.sum()) < 4
    values, optimizer = [], torch.optim.Adam(model.decoder.parameters(), lr=0.0003)
    for _ in range(30):
        losses = found.losses(batch)
        values.append(float(losses["fade"].detach()))
        optimizer.zero_grad()
        losses["fade"].backward()
        optimizer.step()
    assert 0 < values[-1] < values[0]
    plain = fading(model, data, tokenizer, tmp_path / "c", loss_fade=0)
    assert "fade" not in plain.losses(plain.draw())


def test_a_run_is_held_to_what_the_start_says(data: Path, tokenizer: TextTokenizer,
                                              tmp_path: Path) -> None:
    model = make_model(tokenizer)
    found = fading(model, data, tokenizer, tmp_path / "c")
    objective = found.objectives["fade"]
    assert isinstance(objective, fade.Fade)
    batch, teacher = found.draw(), objective.teacher
    assert teacher is not model
    content = found.sampler.content
    assert held_loss(look(model, batch["fade"], content, teacher)[0]).item() == pytest.approx(
        0, abs=1e-5)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape,
                                              generator=torch.Generator().manual_seed(1)))
    seen = look(model, batch["fade"], content, teacher)[0]
    own = look(teacher, batch["fade"], content, teacher)[0]
    assert torch.allclose(seen.taught, own.whole) and torch.allclose(seen.blank, own.blank)
    assert not torch.allclose(seen.whole, own.whole)
    held = held_loss(seen)
    held.backward()
    assert float(held) > 0.01
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
            seen = Passes(torch.zeros(3), torch.arange(3), given.log(), given.log(), blank.log(),
                          whole.log(), maps)
            found = float(fade_loss(seen, maps, hidden, torch.full((3,), visible)))
            assert (abs(found) < 1e-6) == least
            plain = (wanted * (wanted / given).log()).sum() / 3
            assert found == pytest.approx(float(plain), abs=1e-6)


def test_training_hides_by_the_map_that_the_app_shows(data: Path, tokenizer: TextTokenizer,
                                                      tmp_path: Path) -> None:
    model = make_model(tokenizer)
    batch: FadeBatch = fading(model, data, tokenizer, tmp_path / "c").draw()["fade"]
    assert model.region_head is not None
    seen, found, _ = look(model, batch, torch.ones(tokenizer.size, dtype=torch.bool),
                          copy.deepcopy(model))
    assert seen.whole.requires_grad and seen.covered.requires_grad
    assert torch.equal(found, word_maps(model, batch.texts, seen))
    ids = batch.texts.targets[:, 1:][seen.text, seen.place]
    for token in (0, 7, len(ids) - 1):
        picture = int(seen.text[token]) // (len(batch.texts.targets) // 4)
        match = model.region_head.maps(batch.texts.features[picture:picture + 1], ids[[token]])
        shown = matched(seen.attention[[token]].detach().numpy(), match[0].detach().numpy(),
                        model.vision.grid)[0] ** fade.SHARPEN
        np.testing.assert_allclose(found[token], shown / shown.sum(), atol=1e-5)


def test_the_most_or_the_least_important_regions_of_a_word_are_covered() -> None:
    pictures, texts, length, places = 40, 2, 3, 20
    generator = torch.Generator().manual_seed(4)
    text, place = torch.ones(pictures * texts, length).nonzero(as_tuple=True)
    tokens = len(text)
    targets = torch.tensor([[0, 5, 6, 7]] * pictures * texts)
    maps = torch.rand(tokens, places, generator=generator)
    whole, blank = torch.full((tokens, 8), 0.1), torch.full((tokens, 8), 0.1)
    whole[:, 6] = whole[:, 7] = 0.9  # 5 follows anyway, 7 cannot be seen: only 6 is drawn
    seen = Passes(text, place, whole.log(), whole.log(), blank.log(), whole.log(), maps)
    content = torch.tensor([True] * 7 + [False])
    batch = SimpleNamespace(cover=torch.rand(pictures, 3, generator=generator),
                            texts=SimpleNamespace(targets=targets))
    hidden = covered_places(batch, seen, maps, content)  # type: ignore[arg-type]
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
    pictures = Store(tiny_model)
    [both] = pictures.sharp_and_blurred([tmp_path / "a.png"])
    assert torch.equal(both[:1], pictures.get([tmp_path / "a.png"]))
    assert not torch.equal(both[0], both[1])
    hidden = np.random.default_rng(0).random(len(pictures.boxes)) < 0.5
    shown = Masker(make_picture(5, (side, side)), pictures.boxes * side).picture(hidden)
    expected = to_bytes([shown], side)
    assert torch.equal(cover(tiny_model, both[None], torch.from_numpy(hidden)[None]), expected)


def test_the_eyes_learn_nothing_from_covered_pictures(data: Path, tokenizer: TextTokenizer,
                                                      tmp_path: Path) -> None:
    model = make_model(tokenizer)
    found = fading(model, data, tokenizer, tmp_path / "c")
    found.losses(found.draw())["fade"].backward()
    assert model.vision.backbone.conv_stem.weight.grad is None
    assert model.decoder.blocks[0].cross.query.weight.grad.abs().sum() > 0


def test_words_may_fade_in_captions_of_the_models_own(data: Path, tokenizer: TextTokenizer,
                                                      tmp_path: Path) -> None:
    model = make_model(tokenizer)
    drawn = fading(model, data, tokenizer, tmp_path / "c", fade_pictures=6)
    given: FadeBatch = drawn.draw()["fade"]
    assert 0 < given.own.sum() < 6
    found = with_own_words(model, given)
    own = given.own.repeat_interleave(2)
    length = given.texts.targets.shape[1]
    assert torch.equal(found.texts.targets[~own][:, :length], given.texts.targets[~own])
    assert torch.equal(found.texts.target_mask[~own][:, :length], given.texts.target_mask[~own])
    assert not found.texts.target_mask[~own][:, length:].any()
    memory = memory_of(model, given.texts, given.texts.features)
    again, _ = draw_captions(model, memory, given.vocabulary, given.draws, 0.5)
    for text in own.nonzero().squeeze(1).tolist():
        ids, real = found.texts.targets[text], found.texts.target_mask[text]
        written = ids[real].tolist()
        assert written[0] == given.texts.targets[text, 0]
        assert written[1:] == again[text, :len(written) - 1].tolist()
        assert tokenizer.end not in written[1:-1]


def test_pictures_of_a_fading_loss_that_is_no_number_are_found(
        data: Path, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer)
    found = fading(model, data, tokenizer, tmp_path / "c", fade_pictures=2)
    batch = to_device(found.draw(), torch.device("cpu"))
    texts = batch["fade"].texts
    texts.features[1] = float("nan")
    assert any(rows is texts.rows and features is texts.features
               for rows, features in pictures(batch))
    assert math.isnan(float(found.losses(batch)["fade"]))
