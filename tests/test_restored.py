"""Captions restored from questions that a program made of captions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_picture
from learning import NoiseStore, learning

from train.data.reading import Question, Row
from train.data.stand_ins import restored_caption, stand_ins
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer


def asked(question: str, answer: str, kind: str = "object", source: str = "coco_qa") -> Question:
    return Question(question, answer, (), kind, source)


@pytest.mark.parametrize(("question", "answer", "caption"), [
    ("what is laying on the patterned couch ?", "dog", "a dog is laying on the patterned couch ."),
    ("What are eating from a pile of hay ?", "zebras", "zebras are eating from a pile of hay ."),
    ("what is seen cutting through paper ?", "scissors",
     "scissors are seen cutting through paper ."),
    ("what rolls down the tracks ?", "fire_truck", "a fire truck rolls down the tracks ."),
    ("what is flying through the air ?", "airplane", "an airplane is flying through the air ."),
    ("what is in a bowl ?", "water", "water is in a bowl ."),
    ("the man wearing what sits atop an elephant ?", "hat",
     "the man wearing a hat sits atop an elephant ."),
    ("fresh what sitting on the counter ?", "vegetables",
     "fresh vegetables sitting on the counter ."),
    ("a large what next to a fence ?", "dog", "a large dog next to a fence ."),
    ("what are people riding on a temporary road ?", "bicycles",
     "people are riding bicycles on a temporary road ."),
    ("what is the bear walking up ?", "hill", "the bear is walking up a hill ."),
    ("what is the man riding ?", "horse", "the man is riding a horse ."),
    ("how many ducks swim near a boat ?", "two", "two ducks swim near a boat .")])
def test_the_answer_goes_where_the_question_word_stood(question: str, answer: str,
                                                       caption: str) -> None:
    kind = "number" if question.startswith("how many") else "object"
    assert restored_caption(asked(question, answer, kind)) == caption


@pytest.mark.parametrize("question", [
    asked("what is the color of the cat ?", "black", "color"),
    asked("what is the color of the cat ?", "black"),
    asked("what does the woman hold up to the mirror ?", "bird"),
    asked("what did two officers cut with two civilians ?", "cake"),
    asked("where is the cat sleeping ?", "sink", "location"),
    asked("what is there ?", "dog"),  # too short for a caption
    asked("what is near what in the field ?", "dog"),
    asked("what is on the table ?", "cup", "object", "vqa_v2")])
def test_where_it_is_not_sure_nothing_is_restored(question: Question) -> None:
    assert restored_caption(question) is None


def test_a_caption_that_two_questions_were_made_of_comes_once() -> None:
    twice = (asked("what sits on the grass ?", "dog"), asked("a dog sits on the what ?", "grass"))
    row = Row(Path("a.jpg"), (), (), (*twice, asked("how many dogs run there ?", "2", "number")))
    assert stand_ins(row) == ("a dog sits on the grass .", "2 dogs run there .")


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Ten pictures with a caption, five with a question that was one, one with another question."""
    made = []
    for i in range(16):
        make_picture(i).save(tmp_path / f"{i}.png")
        path = tmp_path / f"{i}.png"
        if i < 10:
            made.append(Row(path, ("a man runs on grass .",), (), (), "people/train"))
        else:
            question = ("what sits on the grass ?" if i < 15 else "what does he do ?")
            made.append(Row(path, (), (), (asked(question, "cat"),), "questions/train"))
    return made


def test_stand_ins_are_those_of_one_data_set_more(rows: list[Row], tiny_model: VLM,
                                                  tokenizer: TextTokenizer) -> None:
    found = learning(tiny_model, rows, NoiseStore(tiny_model), tokenizer, pairs=8,
                     caption_pictures=8, loss_reward=1.0, reward_pictures=4)
    steps = [found.draw(step) for step in range(25)]
    share = 5 ** 0.5 / (5 ** 0.5 + 10 ** 0.5)
    for name in ("caption", "contrastive"):
        drawn = torch.cat([parts[name].rows for parts in steps])
        assert set(drawn[drawn >= 10].tolist()) == {10, 11, 12, 13, 14}
        assert float((drawn >= 10).float().mean()) == pytest.approx(share, abs=0.12)
    for parts in steps:
        assert int(parts["reward"].texts.rows.max()) < 10  # one caption is too few to be judged by
        texts = [tokenizer.decode(ids.tolist()) for ids in parts["caption"].targets]
        for text, row in zip(texts, parts["caption"].rows.repeat_interleave(2), strict=True):
            assert ("cat sits on the grass" in text) == (int(row) >= 10), text


def test_nothing_is_restored_of_other_questions(rows: list[Row], tiny_model: VLM,
                                                tokenizer: TextTokenizer) -> None:
    plain = [replace(row, questions=tuple(replace(q, source="other") for q in row.questions))
             for row in rows]
    found = learning(tiny_model, plain, NoiseStore(tiny_model), tokenizer)
    assert max(int(found.draw(step)["caption"].rows.max()) for step in range(12)) < 10
