"""A match head that weighs words one by one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_model, make_picture
from small_run import arguments, interrupted, losses_of

import train.learn_first
import train.run
from train.adapt import grow
from train.data.batch_sampler import BatchSampler
from train.data.features import Store, open_features
from train.data.reading import read_split
from train.evaluation.predict import ModelPredictor
from train.finetune import main
from train.learn_first import learn_evidence
from vitdemo.attention.trace import Rows
from vitdemo.backends.native import NativeBackend
from vitdemo.config import ModelConfig
from vitdemo.device import pick
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.regions import WordEvidence, first_of_its_kind
from vitdemo.models.vlm import VLM
from vitdemo.records import Request
from vitdemo.tokens import TextTokenizer

TEXTS = ["Two dogs run on the grass .", "red red ball", "一只狗", "a dog and a dog"]


@pytest.fixture
def weighing(tokenizer: TextTokenizer) -> VLM:
    """The tiny model, with random weights for every word."""
    old = make_model(tokenizer)
    model = VLM(ModelConfig(**{**vars(old.config), "evidence": True}))
    model.load_state_dict(old.state_dict(), strict=False)
    assert model.evidence is not None
    torch.manual_seed(3)
    torch.nn.init.normal_(model.evidence.weight.weight)
    torch.nn.init.normal_(model.evidence.bias.weight)
    return model.eval()


def test_words_are_weighed_once_each() -> None:
    head = WordEvidence(9)
    torch.nn.init.normal_(head.weight.weight)
    torch.nn.init.normal_(head.bias.weight)
    ids = torch.tensor([[2, 5, 2, 7, 0], [4, 4, 4, 1, 8]])
    mask = torch.tensor([[True, True, True, True, False], [True] * 5])
    presence = torch.randn(9)[ids]  # the same for the same token
    with torch.no_grad():
        found, each, offset = head(presence, ids, mask), head.weight.weight, head.bias.weight
        each, offset = each[:, 0].tolist(), offset[:, 0].tolist()
    for row in range(2):
        want, seen = 0.0, set()
        for place in range(5):
            token = int(ids[row, place])
            if mask[row, place] and token not in seen:
                seen.add(token)
                weight = math.log1p(math.exp(each[token]))
                chance = 1 / (1 + math.exp(-float(presence[row, place])))
                want += weight * math.log(chance) + offset[token]
        assert float(found[row]) == pytest.approx(want, rel=1e-5)
    assert first_of_its_kind(ids).tolist() == [[True, True, False, True, True],
                                               [True, False, False, True, True]]


def test_words_that_were_not_learnt_count_nothing() -> None:
    head = WordEvidence(9)
    ids = torch.arange(9)[None]
    assert head(torch.full((1, 9), -20.0), ids, ids >= 0).abs() < 0.002


def test_every_way_to_match_is_the_same(weighing: VLM, tokenizer: TextTokenizer) -> None:
    backend = NativeBackend(weighing, tokenizer, name="tiny", revision="test",
                            placement=pick("cpu"))
    features = backend.encode_pictures([make_picture(seed) for seed in range(3)])
    together = torch.cat([one.data for one in features])
    ids, mask = tokenizer.encode(TEXTS)
    pairs = np.array([(p, t) for p in range(3) for t in range(len(TEXTS))])
    with torch.no_grad():
        output = weighing(together, ids.repeat(3, 1), mask.repeat(3, 1),
                          torch.full((3 * len(TEXTS), 1), tokenizer.language_start["en"]),
                          torch.arange(3).repeat_interleave(len(TEXTS)))
        evidence, weighing.evidence = weighing.evidence, None
        plain = weighing(together, ids.repeat(3, 1), mask.repeat(3, 1),
                         torch.full((3 * len(TEXTS), 1), tokenizer.language_start["en"]),
                         torch.arange(3).repeat_interleave(len(TEXTS)))
        weighing.evidence = evidence
        want = plain.match_logits.clone()
        for i, (picture, text) in enumerate(pairs.tolist()):
            real = ids[text][mask[text]]
            odds = weighing.region_head.presence(together[picture:picture + 1], real)[0]
            for token in dict.fromkeys(real.tolist()):
                place = real.tolist().index(token)
                want[i] += F.softplus(evidence.weight.weight[token, 0]) * F.logsigmoid(
                    odds[place]) + evidence.bias.weight[token, 0]
    assert (want - plain.match_logits).abs().min() > 1e-3
    torch.testing.assert_close(output.match_logits, want, rtol=1e-4, atol=1e-4)
    chances = want.sigmoid().view(3, -1).numpy()
    np.testing.assert_allclose(backend.score_pairs(features, TEXTS), chances, atol=1e-5)
    (of_words,) = backend.word_probabilities(features, Request("", TEXTS[1], "en", "match"))
    np.testing.assert_allclose(of_words[:, 0], chances[:, 1], atol=1e-5)
    for i, one in enumerate(features):  # what the maps of a sentence's words are gradients of
        (trace,) = backend.traces(one, Request("", TEXTS[1], "en", "match"))
        with torch.no_grad():
            score = trace.run(Rows(), None).sigmoid()
        assert float(score) == pytest.approx(chances[i, 1], abs=1e-5)
    predictor = ModelPredictor(weighing, tokenizer)
    found = predictor.match_logits(predictor.keep(together), TEXTS, pairs)
    np.testing.assert_allclose(found, want.numpy(), atol=2e-2)  # kept as float16


def test_a_model_without_them_matches_as_before(tiny_model: VLM) -> None:
    features = torch.randn(2, 25, tiny_model.vision.channels)
    assert tiny_model.regions(features).shape == (2, 0)
    ids = torch.ones(2, 3, dtype=torch.long)
    assert tiny_model.weigh_words(tiny_model.regions(features), ids, ids > 0) is None
    with pytest.raises(ConfigError, match="evidence"):
        ModelConfig(evidence=True, regions=False)


def test_what_tells_pictures_apart_weighs_more(data: Path, tokenizer: TextTokenizer,
                                               weighing: VLM, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: words[0] is seen where it is named, words[1] anywhere, the others nowhere."""
    rows = list(read_split(data / "train").rows)
    store = open_features(weighing, [row.path for row in rows], tmp_path, quiet=True)
    sampler = BatchSampler(rows, store, tokenizer, 0)
    words = sampler.seen_words = sorted(
        {token for ids in tokenizer.batch_pieces(["dog red"]) for token in ids})
    noise = torch.Generator().manual_seed(0)
    named = {place: [[place % 2 == 0, True]] for place in sampler.captioned["en"]}
    monkeypatch.setattr(train.learn_first, "_named", lambda *_: {
        place: [[i for i, there in enumerate(found[0]) if there]]
        for place, found in named.items()})
    monkeypatch.setattr(
        train.learn_first, "_presence", lambda _m, _x, places, *_: F.logsigmoid(
        torch.stack([torch.tensor([4.0 if named[place][0][0] else -4.0,
                                   float(torch.randn((), generator=noise)) * 4])
                     for place in places])))
    sampler.captioned["zh"] = []
    monkeypatch.setattr(train.learn_first, "STEPS", 200)
    head = weighing.evidence
    assert head is not None
    loss = learn_evidence(weighing, sampler, False, quiet=True)
    assert math.isfinite(loss)
    telling, idle = head.weights(torch.tensor(words)).tolist()
    assert telling > 2 * idle
    others = [i for i in range(tokenizer.size) if i not in words]
    assert float(head.weights(torch.tensor(others)).max()) < 1e-4
    assert not head.biases(torch.tensor(others)).any()


def test_nothing_to_learn_from_changes_nothing(data: Path, tokenizer: TextTokenizer,
                                               weighing: VLM, tmp_path: Path) -> None:
    rows = list(read_split(data / "train").rows)
    store = open_features(weighing, [row.path for row in rows], tmp_path, quiet=True)
    sampler = BatchSampler(rows, store, tokenizer, 0)
    sampler.captioned = {"en": [], "zh": []}
    assert weighing.evidence is not None
    before = weighing.evidence.weight.weight.clone()
    assert math.isnan(learn_evidence(weighing, sampler, False, quiet=True))
    assert torch.equal(weighing.evidence.weight.weight, before)


def test_a_run_learns_them_once(data: Path, tiny_checkpoint: Path, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:
    given = (data, tiny_checkpoint)
    more = ("--word-evidence", "--validate-every", "0")
    monkeypatch.setattr(train.learn_first, "STEPS", 30)
    monkeypatch.setattr(train.run, "SAVE_MINUTES", 0)
    assert main(arguments(*given, tmp_path / "whole", *more)) == 0
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["evidence"] and config["regions"]
    head = load_checkpoint(tmp_path / "whole").model.evidence
    assert head is not None
    learnt = head.weight.weight[:, 0] > head.UNKNOWN / 2
    assert 3 < int(learnt.sum()) < len(learnt)

    with monkeypatch.context() as patch:
        patch.setattr(train.run, "step_losses", interrupted(train.run.step_losses, 7))
        assert main(arguments(*given, tmp_path / "two", *more)) == 130
    with monkeypatch.context() as patch:
        patch.setattr(train.run, "learn_evidence", lambda *_: pytest.fail("learnt again"))
        assert main(arguments(*given, tmp_path / "two", *more, "--resume")) == 0
        assert losses_of(tmp_path / "two") == losses_of(tmp_path / "whole")
        # Without the flag a checkpoint that has them goes on with what it has.
        assert main(arguments(data, tmp_path / "whole", tmp_path / "on")) == 0
    assert load_checkpoint(tmp_path / "on").model.evidence is not None


def test_they_can_be_learnt_from_pixels(data: Path, tokenizer: TextTokenizer, weighing: VLM,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.learn_first, "STEPS", 5)
    rows = list(read_split(data / "train").rows)
    sampler = BatchSampler(rows, Store(weighing), tokenizer, 0)
    assert math.isfinite(learn_evidence(weighing, sampler, False, quiet=True))


def test_without_a_region_head_there_is_none_to_weigh(data: Path, tokenizer: TextTokenizer,
                                                      tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    old = make_model(tokenizer)
    model = VLM(ModelConfig(**{**vars(old.config), "regions": False}))
    save_checkpoint(tmp_path / "old", model, tokenizer, {"name": "old"})
    assert main(arguments(data, tmp_path / "old", tmp_path / "out", "--word-evidence")) == 2
    assert "add --region-head" in capsys.readouterr().err
    grown = grow(load_checkpoint(tmp_path / "old"), region_head=True, word_evidence=True).model
    assert grown.evidence is not None and grown.region_head is not None
    assert float(grown.region_head.rarity.weight.max()) == -6.0
