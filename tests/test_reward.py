"""Captions that the model writes itself and learns from: the judge, the drawing, the gradient."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from conftest import make_model
from learning import Learning, learning
from small_run import CAPTIONS, arguments
from torch import Tensor

from train.data.features import open_features
from train.data.reading import Row, read_split
from train.evaluation.metrics import caption_words
from train.finetune import main
from train.objectives.self_critical import (
    END,
    TEMPERATURE,
    Judge,
    RewardBatch,
    faults,
    reward_loss,
    sentence_bleu,
)
from train.objectives.writing import draw_captions, memory_of
from vitdemo.models.fusion import Memory
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

DRAWN = {"loss_reward": 1.0, "reward_pictures": 4}


@pytest.fixture(autouse=True)
def no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.objectives.self_critical.FAULT", 0.0)


@pytest.fixture
def rows(data: Path) -> list[Row]:
    return list(read_split(data / "train").rows)


@pytest.fixture
def model(tokenizer: TextTokenizer) -> VLM:
    return make_model(tokenizer).eval()


def draw(model: VLM, rows: list[Row], tokenizer: TextTokenizer, cache: Path,
         **settings: float) -> Learning:
    store = open_features(model, [row.path for row in rows], cache, quiet=True)
    return learning(model, rows, store, tokenizer, **{**DRAWN, **settings})


@pytest.fixture
def batch(model: VLM, rows: list[Row], tokenizer: TextTokenizer, tmp_path: Path) -> RewardBatch:
    found: RewardBatch = draw(model, rows, tokenizer, tmp_path / "c").draw(0)["reward"]
    return found


def test_the_judge_is_the_librarys_cider(tokenizer: TextTokenizer) -> None:
    from pycocoevalcap.cider.cider import Cider

    texts = {"en": [("Two dogs run on the grass .", "dogs play on grass"),
                    ("A man's red t-shirt", "a man in a red shirt , a red one"), ("a boat",)],
             "zh": [("两只狗在草地上跑。", "狗在草地上"), ("一个穿红衬衫的男人",), ("一条船",)]}
    said = {"en": ["two dogs dogs dogs run", "a man in a red shirt and a", "a bird"],
            "zh": ["两只狗在跑", "穿红衬衫的男人", "水"]}
    rows = [Row(Path(f"{i}.png"), en, zh, ())
            for i, (en, zh) in enumerate(zip(texts["en"], texts["zh"], strict=True))]
    judge = Judge(rows, tokenizer)
    for language, references in texts.items():
        cut = {i: [" ".join([*caption_words(text), "END"]) for text in found]
               for i, found in enumerate(references)}
        ours = {i: [" ".join([*caption_words(text), "END"])]
                for i, text in enumerate(said[language])}
        _, wanted = Cider().compute_score(cut, ours)
        got = [judge.judge([*caption_words(text), END], references[i], language)
               for i, text in enumerate(said[language])]
        assert got == pytest.approx(list(wanted), abs=1e-9)
        assert got[0] > got[2] >= 0


def slow_bleu(words: list[str], references: list[list[str]]) -> float:
    product = 1.0
    for n in range(1, 5):
        said = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
        hits = sum(min(said.count(one), max(list(zip(*(text[k:] for k in range(n)),
                                                     strict=False)).count(one)
                                            for text in references)) for one in set(said))
        product *= hits / len(said) if n == 1 else (hits + 1) / (len(said) + 1)
    mean = sum(len(text) for text in references) / len(references)
    return product ** 0.25 * (1 if len(words) >= mean else math.exp(1 - mean / len(words)))


@pytest.mark.parametrize("said", ["two dogs run on the grass", "dogs dogs dogs", "a boat", "a",
                                  "a dog in the water and a man in the grass and two dogs"])
def test_bleu_of_a_sentence_is_the_formula(said: str) -> None:
    people = [caption_words(text) for text in
              ("Two dogs run on the grass .", "A dog runs in the water", "a man and two dogs")]
    found = sentence_bleu(said.split(), tuple(map(tuple, people)))
    assert found == pytest.approx(slow_bleu(said.split(), people))


def test_bleu_of_a_sentence_at_its_ends() -> None:
    people = (("two", "dogs", "run", "on", "grass"),)
    assert sentence_bleu([], people) == 0
    assert sentence_bleu(["cat"], people) == 0
    assert sentence_bleu(people[0], people) == pytest.approx(1)
    assert sentence_bleu(people[0][:4], people) == pytest.approx(math.exp(1 - 5 / 4))


def test_the_judge_adds_its_share_of_bleu(rows: list[Row], model: VLM, tokenizer: TextTokenizer,
                                          batch: RewardBatch) -> None:
    ids, real = tokenizer.encode_targets([row.captions[0] for row in rows[:4]], ["en"] * 4)
    same = dataclasses.replace(batch, references=[[row.captions[0]] for row in rows[:4]],
                               languages=["en"] * 4)
    ended = torch.ones(4, dtype=torch.bool)
    drawn = ids[:, 1:].masked_fill(~real[:, 1:], tokenizer.end)
    plain = Judge(rows, tokenizer).judge_all(drawn, ended, same)
    more = Judge(rows, tokenizer, 2.0).judge_all(drawn, ended, same)
    assert torch.allclose(more - plain, torch.full((4, 1), 2.0), atol=1e-5)


@pytest.mark.parametrize("said, people, count", [
    ("a cat on a chair", ("a cat sits", "an old chair"), 0),
    ("a man with a cat", ("a cat sits", "an old chair"), 1),  # nobody named the man
    ("a woman with a cat", ("a man holds a cat",), 0),  # a person is a person
    ("a dog and a ball", ("a cat sits",), 2),
    ("a red dog and a red dog", ("a dog",), 2),  # both words stand there twice
    ("the cat is in the box", ("the cat",), 0),  # "the" may stand twice
    ("一个男人和一只猫", ("猫在椅子上",), 1),
    ("一只猫在一张椅子上", ("猫在椅子上",), 0),
])
def test_what_nobody_named_and_what_is_said_twice_are_faults(
        said: str, people: tuple[str, ...], count: int) -> None:
    assert faults(said, people) == count


def test_the_judge_takes_off_what_faults_cost(rows: list[Row], tokenizer: TextTokenizer,
                                              batch: RewardBatch) -> None:
    people = ["a dog runs"]
    said = ["a dog runs", "a dog and a man"]
    ids, real = tokenizer.encode_targets(said, ["en"] * 2)
    drawn = ids[:, 1:].masked_fill(~real[:, 1:], tokenizer.end)
    same = dataclasses.replace(batch, references=[people], languages=["en"], said=[people])
    ended = torch.ones(2, dtype=torch.bool)
    plain = Judge(rows, tokenizer).judge_all(drawn, ended, same)
    less = Judge(rows, tokenizer, fault=0.5).judge_all(drawn, ended, same)
    decoded = [tokenizer.decode(row) for row in ids[:, 1:-1].tolist()]
    expected = [0.5 * faults(text, tuple(people)) for text in decoded]
    assert (plain - less).flatten().tolist() == pytest.approx(expected)


def test_a_caption_that_stops_in_the_middle_is_worth_less(tokenizer: TextTokenizer) -> None:
    rows = [Row(Path("1.png"), CAPTIONS, (), ()), Row(Path("2.png"), ("a boat",), (), ())]
    judge = Judge(rows, tokenizer)
    words = caption_words(CAPTIONS[0])
    assert judge.judge([*words, END], CAPTIONS, "en") > judge.judge(words, CAPTIONS, "en") > \
        judge.judge([*words[:-2], END], CAPTIONS, "en")
    assert judge.judge([], CAPTIONS, "en") == 0


def test_captions_are_drawn_by_their_probability(model: VLM, batch: RewardBatch,
                                                 tokenizer: TextTokenizer) -> None:
    memory = memory_of(model, batch.texts, batch.texts.features)
    pictures, _, length = batch.draws.shape
    many = 4000
    batch.draws = torch.rand(pictures, many, length, generator=torch.Generator().manual_seed(1))
    ids, ended = draw_captions(model, memory, batch.vocabulary, batch.draws)
    assert ids.shape[0] == len(ended) == pictures * many and ids.shape[1] <= length
    assert not set(ids.unique().tolist()) & (set(tokenizer.banned) - {tokenizer.end})
    for row, over in zip(ids[:50].tolist(), ended[:50].tolist(), strict=True):
        assert over == (tokenizer.end in row)
        if over:  # after the end nothing but the end
            assert set(row[row.index(tokenizer.end):]) == {tokenizer.end}
    logits = model.decoder(batch.texts.targets[:, :1], memory)[:, 0].float()
    logits[:, list(tokenizer.banned)] = -torch.inf
    counts = torch.stack([torch.bincount(part, minlength=logits.shape[1])
                          for part in ids[:, 0].view(pictures, many)])
    assert (counts / many - logits.softmax(-1)).abs().max() < 5 * 0.5 / many ** 0.5


def one_of(memory: Memory, picture: int) -> Memory:
    only = slice(picture, picture + 1)
    return Memory(memory.tokens[only], memory.mask[only], memory.picture_tokens, memory.text[only])


def slow_gradient(model: VLM, batch: RewardBatch, judge: Judge) -> tuple[Tensor, float]:
    """Of the output's bias, caption by caption: -mean (r - b) d log p(caption)."""
    memory = memory_of(model, batch.texts, batch.texts.features)
    ids, ended = draw_captions(model, memory, batch.vocabulary, batch.draws, TEMPERATURE)
    each = batch.draws.shape[1]
    rewards = judge.judge_all(ids, ended, batch)
    total = torch.zeros_like(model.decoder.bias)
    for i, row in enumerate(ids.tolist()):
        picture, own = divmod(i, each)
        length = row.index(judge.tokenizer.end) + 1 if ended[i] else len(row)
        written = torch.tensor([[int(batch.texts.targets[picture, 0]), *row[:length]]])
        others = [float(rewards[picture, k]) for k in range(each) if k != own]
        gain = float(rewards[picture, own]) - sum(others) / len(others)
        model.zero_grad()
        alone = one_of(memory_of(model, batch.texts, batch.texts.features), picture)
        logits = model.decoder(written[:, :-1], alone)[0].float()
        logits[:, list(judge.tokenizer.banned)] = -torch.inf
        chances = (logits / TEMPERATURE).log_softmax(-1).gather(1, written[0, 1:, None])
        (-gain * chances.sum()).backward()
        grad = model.decoder.bias.grad
        assert grad is not None
        total += grad / len(ids)
    return total, float(rewards.mean())


def test_the_gradient_is_the_formula(model: VLM, batch: RewardBatch, rows: list[Row],
                                     tokenizer: TextTokenizer,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(rows, tokenizer)
    # This model writes noise, which nobody's captions share a word with: judged by its length.
    monkeypatch.setattr(judge, "judge", lambda words, references, language: 1 / (1 + len(words)))
    wanted, mean = slow_gradient(model, batch, judge)
    model.zero_grad()
    loss = reward_loss(model, batch, judge)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-mean, abs=1e-5)
    assert float(wanted.abs().max()) > 1e-4
    found = model.decoder.bias.grad
    assert found is not None and torch.allclose(found, wanted, atol=1e-6)


def test_what_is_rewarded_is_said_more_often(model: VLM, rows: list[Row], data: Path,
                                             tokenizer: TextTokenizer, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(rows, tokenizer)
    monkeypatch.setattr(judge, "judge", lambda words, references, language: 1 / (1 + len(words)))
    found = draw(model, rows, tokenizer, tmp_path / "c", loss_caption=0, loss_question=0,
                 loss_contrastive=0, loss_region=0)
    monkeypatch.setattr(found.objectives["reward"], "judge", judge)
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=0.005)
    values = []
    for step in range(25):
        optimizer.zero_grad()
        losses = found.losses(found.draw(step))
        values.append(float(losses["reward"].detach()))
        losses["loss"].backward()
        optimizer.step()
    assert sum(values[-5:]) < sum(values[:5]) - 0.2


def test_a_run_is_rewarded_and_says_how_much(data: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(arguments(data, start, out, "--reward-pictures", "4", "--loss-reward", "1")) == 0
    assert '"reward"' in (out / "log.jsonl").read_text()
