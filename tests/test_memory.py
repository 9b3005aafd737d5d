"""Pairs of the steps before as further wrong ones."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import make_model
from small_run import arguments, interrupted, losses_of

from train.data import Row
from train.features import VIEWS
from train.finetune import main
from train.losses import LossConfig, pair_losses, step_losses
from train.memory import PairMemory
from train.mixture import Mixture, MixtureConfig
from train.pixels import NoiseStore
from train.team import Team
from vitdemo.tokens import TextTokenizer

CONFIG = LossConfig(match=0, remembered=7)
REMEMBERED = ("--loss-remembered", "20", "--weights", "float32", "--save-minutes", "1e-9",
              "--validate-every", "0")


@pytest.fixture
def mixture(tokenizer: TextTokenizer) -> Mixture:
    rows = [Row(Path(f"{i}.jpg"), (f"a {thing} sits on the grass",), ("一只狗在草地上",), ())
            for i, thing in enumerate(("dog", "cat", "boy", "girl", "ball", "tree", "house"))]
    store = NoiseStore(make_model(tokenizer), False)
    config = MixtureConfig(caption_pictures=0, questions=0, pairs=4)
    return Mixture(rows, store, tokenizer, config, 0, VIEWS[:1])


def test_the_last_pairs_of_each_language_are_kept() -> None:
    memory = PairMemory(5)
    for step in range(3):
        rows = torch.arange(2) + 2 * step
        memory.add("en", rows, rows[:, None].float(), -rows[:, None].float())
    memory.add("zh", torch.tensor([9]), torch.ones(1, 1), torch.ones(1, 1))
    kept = memory.get("en", torch.zeros(1, 1))
    assert kept.rows.tolist() == [1, 2, 3, 4, 5]
    assert kept.pictures[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert torch.equal(kept.pictures, -kept.texts)
    assert memory.get("zh", torch.zeros(1, 1)).rows.tolist() == [9]
    back = PairMemory(5)
    back.restore(memory.state())
    assert torch.equal(back.get("en", torch.zeros(1, 1)).texts, kept.texts)
    assert len(memory.get("fr", torch.zeros(1, 3)).rows) == 0


def test_pairs_of_other_pictures_are_wrong_ones(mixture: Mixture, tokenizer: TextTokenizer) -> None:
    model, memory = make_model(tokenizer), PairMemory(7)
    first, second = mixture.draw(0).pairs, mixture.draw(2).pairs  # both in English
    assert first is not None and second is not None and first.language == second.language == "en"
    alone, _ = pair_losses(model, second, CONFIG, Team())
    unremembered, _ = pair_losses(model, first, CONFIG, Team(), memory)
    assert torch.equal(unremembered, pair_losses(model, first, CONFIG, Team())[0])
    found, _ = pair_losses(model, second, CONFIG, Team(), memory)

    with torch.no_grad():  # the formula by hand
        vectors = []
        for batch in (first, second):
            vectors.append((model.picture_head(batch.features),
                            model.encode_text(batch.ids, batch.mask)[1], batch.rows))
        (old_pictures, old_texts, old_rows), (pictures, texts, rows) = vectors
        want = 0.0
        for own, others, old in ((pictures, texts, old_texts), (texts, pictures, old_pictures)):
            for i in range(len(rows)):
                right = own[i] @ others[i] / CONFIG.temperature
                all_scores = [own[i] @ other / CONFIG.temperature for other in others]
                all_scores += [own[i] @ other / CONFIG.temperature
                               for other, row in zip(old, old_rows, strict=True) if row != rows[i]]
                want += float(torch.stack(all_scores).logsumexp(0) - right) / (2 * len(rows))
    assert set(rows.tolist()) & set(old_rows.tolist())  # the rule for the same picture is tried
    assert found.item() == pytest.approx(want, rel=1e-4) and found > alone
    found.backward()
    assert model.picture_head.out.weight.grad is not None


def test_languages_do_not_mix(mixture: Mixture, tokenizer: TextTokenizer) -> None:
    model, memory = make_model(tokenizer), PairMemory(7)
    english, chinese = mixture.draw(0), mixture.draw(1)
    config = dataclasses.replace(CONFIG, caption=0, question=0, region=0, look=0)
    step_losses(model, english, config, memory=memory)
    with_other = step_losses(model, chinese, config, memory=memory)["contrastive"]
    assert torch.equal(with_other, step_losses(model, chinese, config)["contrastive"])


def test_a_killed_run_remembers(data: Path, start: Path, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {name: arguments(data, start, tmp_path / name, *REMEMBERED)
            for name in ("whole", "parted")}
    assert main(runs["whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("train.run.step_losses", interrupted(step_losses, 9))
        assert main(runs["parted"]) == 130
    assert main([*runs["parted"], "--resume"]) == 0
    whole, parted = (losses_of(tmp_path / name) for name in ("whole", "parted"))
    assert dict(parted) == dict(whole)
    assert main(arguments(data, start, tmp_path / "without", *REMEMBERED[2:])) == 0
    without = dict(losses_of(tmp_path / "without"))
    assert without[1] == dict(whole)[1] and without[3] < dict(whole)[3]
