"""The match head learns what answers claim."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import make_model

from train.data.batch_sampler import Mixture, MixtureConfig
from train.data.features import VIEWS
from train.data.instructions import Example
from train.data.pixels import NoiseStore
from train.data.reading import Question, Row
from train.objectives.claim_matching import ClaimMaker, claim_loss
from train.objectives.losses import LossConfig, step_losses, take
from vitdemo.tokens import TextTokenizer

COLOURS = ("red", "red", "red", "red", "blue", "green", "black", "white", "brown", "pink")
THINGS = ("dog", "cat", "cup", "lamp", "sofa", "bed", "bike")


def asked(row: int, question: str, answer: str, language: str = "en",
          kind: str = "answer") -> Example:
    return Example(row, question, answer, language, kind)


EXAMPLES = [*(asked(i, "what color is the bag ?", answer) for i, answer in enumerate(COLOURS)),
            *(asked(20 + i, "what is on the table ?", answer) for i, answer in enumerate(THINGS)),
            asked(30, "how many cups are on the table ?", "3"),
            *(asked(31 + i, "how many dogs run ?", str(i + 3)) for i in range(7)),
            *(asked(40 + i, f"{thing}是什么颜色的？", answer, "zh", "colour") for thing, (i, answer)
              in zip("狗猫车马球帽", enumerate(("红色", "蓝色", "绿色", "黑色", "白色", "棕色")),
                     strict=True))]


@pytest.fixture
def maker() -> ClaimMaker:
    rows = [Row(Path(f"{i}.jpg"), (), (), ()) for i in range(50)]
    rows[0] = Row(Path("0.jpg"), (), (), (Question(
        "what color is the bag ?", "red", ("red",) * 6 + ("blue",) * 4, "color", "vqa_v2"),))
    return ClaimMaker(EXAMPLES, rows)


def test_a_wrong_answer_is_one_to_a_question_that_begins_alike(maker: ClaimMaker) -> None:
    draw = random.Random(0)
    drawn: Counter[str] = Counter()
    for _ in range(600):
        (right, yes), (wrong, no) = maker.claims(EXAMPLES[7], draw)
        assert (right, yes, no) == ("white bag", True, False)
        drawn[wrong] += 1
    assert set(drawn) == {f"{colour} bag" for colour in COLOURS if colour != "white"}
    assert drawn["red bag"] > 2.5 * max(drawn[f"{colour} bag"] for colour in ("blue", "pink"))
    chinese = maker.claims(EXAMPLES[-1], draw)
    assert chinese[0] == ("帽棕色", True)
    assert chinese[1][0] in {f"帽{colour}色" for colour in "红蓝绿黑白"}


def test_what_some_people_answered_is_not_wrong(maker: ClaimMaker) -> None:
    draw = random.Random(1)
    found = {maker.claims(EXAMPLES[0], draw)[1][0] for _ in range(300)}
    assert "blue bag" not in found and len(found) == 5


def test_two_answers_that_claim_the_same_are_not_right_and_wrong() -> None:
    examples = [asked(i, "how many dogs ?", answer) for i, answer in
                enumerate(("3", "three", "4", "four", "5", "6"))]
    claims = ClaimMaker(examples, [Row(Path(f"{i}.jpg"), (), (), ()) for i in range(6)])
    draw = random.Random(0)
    for _ in range(100):
        said = claims.claims(examples[0], draw)
        assert said[0] == ("three dogs", True)
        assert [text for text, _ in said[1:]] in ([], ["four dogs"], ["five dogs"], ["six dogs"])


def test_yes_and_no_come_with_what_yes_claims(maker: ClaimMaker) -> None:
    draw = random.Random(0)
    assert maker.claims(asked(1, "Is there a dog?", "yes"), draw) == [("a dog", True)]
    assert maker.claims(asked(1, "Is there a dog?", "no"), draw) == [("a dog", False)]
    assert maker.claims(asked(1, "有狗吗？", "没有", "zh", "yes_no"), draw) == [("有狗", False)]


def test_where_no_wrong_answer_is_known_the_right_one_stands_alone() -> None:
    one = asked(0, "who wins ?", "nobody")
    claims = ClaimMaker([one], [Row(Path("0.jpg"), (), (), ())])
    assert claims.claims(one, random.Random(0)) == [("nobody wins", True)]


@pytest.fixture
def mixture(tokenizer: TextTokenizer) -> Mixture:
    rows = [Row(Path(f"{i}.jpg"), (f"a {thing} sits on the grass",), ("一只狗在草地上",),
                (Question("what is on the grass ?", thing, (), "object", "coco_qa"),))
            for i, thing in enumerate(("dog", "cat", "boy", "girl", "ball", "tree", "house"))]
    store = NoiseStore(make_model(tokenizer), False)
    config = MixtureConfig(caption_pictures=0, questions=0, pairs=2, claims=9)
    return Mixture(rows, store, tokenizer, config, 0, VIEWS[:2])


def test_processes_share_the_claims_of_a_step(mixture: Mixture, tokenizer: TextTokenizer) -> None:
    whole = mixture.draw(3).claims
    assert whole is not None and whole.total == len(whole.right) > 9
    assert len(whole.features) == len(whole.rows) == len(whole.noise) == 9
    parts = [mixture.draw(3, rank, 2).claims for rank in range(2)]
    model = make_model(tokenizer)
    tokens = model.vision.tokens(whole.features)
    sums = torch.zeros(())
    for rank, part in enumerate(parts):
        assert part is not None and part.total == whole.total
        assert part.rows.tolist() == whole.rows[rank::2].tolist()
        assert torch.equal(part.noise, whole.noise[rank::2])
        part = dataclasses.replace(part, features=whole.features[rank::2])  # of noise, each time
        sums = sums + claim_loss(model, part, tokens[rank::2])
    assert sums.item() == pytest.approx(claim_loss(model, whole, tokens).item(), rel=1e-4)
    assert mixture.draw(3).pairs is not None


def test_the_loss_is_that_of_each_pair_alone(mixture: Mixture, tokenizer: TextTokenizer) -> None:
    model, batch = make_model(tokenizer), mixture.draw(0).claims
    assert batch is not None
    places = batch.noise.argsort(1)[:, :5]
    want = 0.0
    for i, picture in enumerate(batch.about.tolist()):
        length = int(batch.mask[i].sum())
        ids, mask = batch.ids[i:i + 1, :length], batch.mask[i:i + 1, :length]
        features = batch.features[picture:picture + 1]
        words, z = model.encode_text(ids, mask)
        memory = model.fuse(model.vision.tokens(features)[:, places[picture]], words, mask, z)
        logit = model.match(memory, mask, model.picture_head(features), z,
                            model.weigh_words(model.regions(features), ids, mask))
        want += F.softplus(-logit if batch.right[i] else logit).item() / len(batch.right)
    tokens = take(model.vision.tokens(batch.features), places)
    assert claim_loss(model, batch, tokens).item() == pytest.approx(want, rel=1e-4)


def test_the_match_head_learns_it(mixture: Mixture, tokenizer: TextTokenizer) -> None:
    model, config = make_model(tokenizer), LossConfig(claim=1.0, contrastive=0.0, match=0.0)
    batch = mixture.draw(0)
    optimizer = torch.optim.AdamW(
        [*model.match_head.parameters(), *model.picture_head.parameters()], lr=0.02)
    losses = []
    for _ in range(40):
        found = step_losses(model, batch, config)
        assert found["loss"].item() == pytest.approx(found["claim"].item())
        losses.append(found["claim"].item())
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
