"""What answers claim, and answers chosen by two judges."""

import math

import numpy as np
import pytest
import torch
from conftest import make_model
from PIL import Image

from train.evaluation.predict import ModelPredictor
from vitdemo.backends.native import NativeBackend
from vitdemo.config import Decoding
from vitdemo.device import Placement
from vitdemo.models.answering import (
    answer_beams,
    answer_chances,
    claims,
    weighed,
)
from vitdemo.models.decoding import Hypothesis, Vocabulary, write_all
from vitdemo.models.querybank import Querybank
from vitdemo.models.vlm import VLM
from vitdemo.statements import is_no, statement
from vitdemo.tokens import TextTokenizer


@pytest.mark.parametrize(("question", "answer", "claim"), [
    ("Is there a dog in the picture?", "yes", "a dog"),
    ("Is there a dog in the picture?", "No.", "a dog"),
    ("Can you see two children?", "yes", "two children"),
    ("Is it a cat?", "yes", "a cat"),
    ("Is it raining?", "yes", "it raining"),
    ("Are these zebras?", "no", "zebras"),
    ("Does the dog have a ball?", "yes", "the dog have a ball"),
    ("Dogs?", "yes", "dogs"),
    ('Does this fit the picture: "A dog runs."?', "yes", "a dog runs."),
    ("How many dogs are there?", "2", "two dogs"),
    ("How many people are in the picture?", "three", "three people are"),
    ("What color is the car?", "red", "red car"),
    ("what is the colour of the chairs ?", "white", "white chairs"),
    ("Where is the cat laying?", "sink", "the cat laying in the sink"),
    ("Where is the bus?", "on road", "the bus on road"),
    ("What is the man doing?", "surfing", "the man is surfing"),
    ("What is the man riding?", "horse", "the man is riding a horse"),
    ("What is the dog lying on?", "bench", "the dog is lying on a bench"),
    ("What kind of cake is that?", "chocolate", "chocolate cake is that"),
    ("what is on the wall ?", "tissue_roll", "a tissue roll is on the wall"),
    ("what sits on the grass ?", "zebras", "zebras sits on the grass"),
    ("What does she hold?", "umbrella", "an umbrella does she hold"),
    ("what object is found on the table ?", "lamp", "a lamp is found on the table"),
    ("Which animal is this?", "dog", "a dog is this"),
    ("Is it day or night?", "night", "night"),
    ("Who is it?", "a man", "a man is it"),
    ("Why?", "rain", "why rain"),
    ("图片里有桌子吗？", "没有", "有桌子"),
    ("这张照片里有狗吗?", "有", "有狗"),
    ("这句话符合图片吗：“一只狗”？", "是", "一只狗"),
    ("他在做什么？", "跑步", "他在跑步"),
    ("有几只狗？", "两只", "有两只狗"),
    ("球是什么颜色的？", "红色", "球红色"),
    ("为何如此？", r"\1", r"为何如此\1"),
])
def test_what_an_answer_claims(question: str, answer: str, claim: str) -> None:
    assert statement(question, answer) == claim


def test_only_no_is_no() -> None:
    assert is_no("No.") and is_no("没有") and is_no("NO")
    assert not any(map(is_no, ("yes", "nothing", "no one", "有", "")))
    assert claims("Is there a dog?", ["yes", "no", "cat"]) == {
        "yes": "a dog", "cat": "is there a dog cat"}


def found(*rows: tuple[int, float, bool]) -> list[Hypothesis]:
    return [Hypothesis((word,), chance, ended) for word, chance, ended in rows]


def test_answers_that_come_to_the_same_are_added_up() -> None:
    words = {1: "Two dogs.", 2: "two dogs", 3: "cat", 4: " . "}

    def decode(ids: tuple[int, ...]) -> str:
        return words[ids[0]]

    texts = found((1, -1.0, True), (2, -2.0, True), (3, -1.5, False), (4, -0.1, True))
    assert answer_chances(texts, decode) == {
        "two dogs": pytest.approx(math.exp(-1) + math.exp(-2))}
    assert answer_chances(found((3, -1.5, False)), decode) == {"cat": pytest.approx(math.exp(-1.5))}


def test_answers_are_weighed_by_the_rule_of_bayes() -> None:
    chances = {"yes": 0.3, "no": 0.6, "two": 0.05}
    by_hand = {"yes": 0.3 * math.exp(2), "no": 0.6, "two": 0.05 * math.exp(-1)}
    scale = 0.95 / sum(by_hand.values())
    got = weighed(chances, {"yes": 2.0, "two": -1.0})
    assert got == pytest.approx({answer: value * scale for answer, value in by_hand.items()})
    assert max(got, key=lambda answer: got[answer]) == "yes"
    assert weighed(chances, {"yes": -1.0, "two": 0.0})["no"] > 0.6
    assert weighed(chances, {}) == pytest.approx(chances)
    for huge in (1e4, -1e4):  # nothing overflows, nothing is lost
        assert sum(weighed(chances, {"yes": huge, "two": huge}).values()) == pytest.approx(0.95)
    assert weighed({"cat": 0.4}, {"cat": -900.0})["cat"] == pytest.approx(0.4)


def banked(tokenizer: TextTokenizer) -> VLM:
    """A model with a bank of random vectors, so that what fits differs from text to text."""
    model = make_model(tokenizer)
    bank = Querybank(4, model.config.embedding_width)
    made = torch.Generator().manual_seed(3)
    for part in (bank.texts, bank.pictures):
        part.copy_(torch.nn.functional.normalize(torch.randn(part.shape, generator=made), dim=-1))
    model.querybank = bank
    for word in ("red", "blue", "two", "dog", "有"):  # random weights have thousands of answers
        model.decoder.bias.data[tokenizer.pieces(word)[0]] += 6
    model.decoder.bias.data[tokenizer.end] += 7
    return model.eval()


def test_the_app_and_the_evaluation_weigh_alike(tokenizer: TextTokenizer) -> None:
    model = banked(tokenizer)
    backend = NativeBackend(model, tokenizer, name="m", revision="r",
                            placement=Placement(torch.device("cpu"), torch.float32, ""))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    [features] = backend.encode_pictures([picture])
    questions = ["what color is the dog?", "is there a ball?", "how many dogs?", "有狗吗？"]
    predictor = ModelPredictor(model, tokenizer, beams=5)
    answers = [backend.answer(features, question, "zh" if "狗" in question else "en", 5)
               for question in questions]
    assert predictor.answers(features.data, [0] * 4, questions) == [of[0].text for of in answers]
    decoding = Decoding(beams=answer_beams(5), length_penalty=0.0, max_tokens=12)
    bank = model.querybank
    assert bank is not None
    with torch.inference_mode():
        picture_vector = model.picture_head(features.data)
        hub = bank.of_pictures(picture_vector).item()
    for question, of in zip(questions, answers, strict=True):
        with torch.inference_mode():
            memory = backend.memory(features.data, question)
        vocabulary = Vocabulary.of(tokenizer, ["zh" if "狗" in question else "en"])
        texts = write_all(model.decoder, memory, vocabulary, decoding)[0]
        chances = answer_chances(texts, tokenizer.decode)
        said = claims(question, chances)
        model.querybank = None  # what the match head alone says
        scores = backend.score_pairs([features], list(said.values()))[0].astype(float)
        model.querybank = bank
        z = torch.from_numpy(backend.embed_texts(list(said.values())))
        near = bank.information(picture_vector, z).numpy() + hub
        x = 0.4 * np.log(scores / (1 - scores)) + 0.4 * near + 0.7
        want = weighed(chances, dict(zip(said, x, strict=True)))
        best = sorted(want.items(), key=lambda item: -item[1])[:5]
        assert [one.text for one in of] == [text for text, _ in best] and len(of) > 1
        assert [one.probability for one in of] == pytest.approx([p for _, p in best], rel=1e-3)


def test_a_model_without_a_bank_answers_by_its_decoder_alone(tokenizer: TextTokenizer) -> None:
    model = banked(tokenizer)
    picture = Image.new("RGB", (64, 64), "red")
    given = []
    for bank in (model.querybank, None):
        model.querybank = bank
        backend = NativeBackend(model, tokenizer, name="m", revision="r",
                                placement=Placement(torch.device("cpu"), torch.float32, ""))
        features = backend.encode_pictures([picture])[0]
        given.append({one.text: one.probability for one in backend.answer(
            features, "what is it?", "en", 7)})
        with torch.inference_mode():
            memory = backend.memory(features.data, "what is it?")
    decoding = Decoding(beams=10, length_penalty=0.0, max_tokens=12)
    texts = write_all(model.decoder, memory, Vocabulary.of(tokenizer, ["en"]), decoding)[0]
    chances = answer_chances(texts, tokenizer.decode)
    best = sorted(chances.items(), key=lambda item: -item[1])[:7]
    assert given[1] == pytest.approx(dict(best), rel=1e-4) and len(best) > 1
    assert given[0] != pytest.approx(given[1], rel=1e-3)


def test_wants_no_more_beams_than_there_may_be() -> None:
    assert [answer_beams(count) for count in (1, 5, 6, 50)] == [8, 8, 9, 10]
