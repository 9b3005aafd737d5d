"""Which word is shown first, and the line that says how sure the model is."""

import numpy as np
import pytest
from fake_engine import planted_engine
from PIL import Image
from viewer_page import explanation as made

from vitdemo.attention.dependence import (
    confidence_sentence,
    depends_on_picture,
    first_word,
    unsure_words,
)
from vitdemo.preprocess import Picture, open_picture
from vitdemo.records import Explanation
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.tabs.ask import reply

CAPTION = ("This caption hardly depends on the picture: the model would say much the same without "
           "it.")
ANSWER = "This answer hardly depends on the picture: its words are about as likely without it."


def explanation(sure: tuple[float, ...] = (), blank: tuple[float, ...] = (),
                text: str = "a dog and a red ball", maps: np.ndarray | None = None,
                **changes: object) -> Explanation:
    words = len(text.split())
    one = made(np.full((words, 12), 0.05) if maps is None else maps, text)
    return Explanation(**{**vars(one), "word_probabilities": sure, "blank_probabilities": blank,
                          **changes})


def noise() -> Picture:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return open_picture(Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST))


def test_the_content_word_that_the_picture_gives_most_is_first() -> None:
    sure = (0.9, 0.6, 0.8, 0.9, 0.02, 0.7)
    # "a" gains most, but says nothing; "red" gains the largest factor, but is a guess.
    blank = (0.01, 0.03, 0.7, 0.8, 0.00001, 0.2)
    assert first_word(explanation(sure, blank)) == 1
    maps = np.full((6, 12), 0.05)
    maps[1] = 0  # no map, nothing to show
    assert first_word(explanation(sure, blank, maps=maps)) == 5
    assert first_word(explanation(sure, blank, unread=("", "unknown", "", "", "", ""))) == 5


def test_a_thing_that_depends_on_the_picture_is_before_what_it_does() -> None:
    text = "an airplane is flying in the air"
    blank = (0.9, 0.01, 0.9, 0.001, 0.9, 0.9, 0.9)
    assert first_word(explanation((0.9, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9), blank, text)) == 1
    # Nor is a thing chosen that the model would have written without the picture, or guessed.
    assert first_word(explanation((0.9, 0.02, 0.9, 0.9, 0.9, 0.9, 0.9), blank, text)) == 3


@pytest.mark.parametrize("blank", [(), (0.9,) * 6])  # unknown; no word is likelier with the picture
def test_else_the_most_concentrated_map_is_first(blank: tuple[float, ...]) -> None:
    maps = np.full((6, 12), 0.05)
    maps[0, 0] = 0.9  # an article
    maps[4, 3] = 0.3
    maps[5, 7] = 0.2
    assert first_word(explanation((0.8,) * 6, blank, maps=maps)) == 4


def test_without_content_words_or_maps() -> None:
    maps = np.full((2, 12), 0.05)
    maps[1, 2] = 0.3
    assert first_word(explanation(text="on it", maps=maps)) == 1
    assert first_word(explanation(maps=np.zeros((6, 12)))) == -1


@pytest.mark.parametrize("sure, said", [
    ((0.1, 0.6, 0.1, 0.1, 0.5, 0.9), "Sure of every word."),  # articles do not count
    ((0.9, 0.6, 0.9, 0.9, 0.3, 0.9), "Fairly sure. Least sure of: red (30%)."),
    ((0.9, 0.9, 0.9, 0.9, 0.04, 0.9), "Not sure of: red (4%)."),
    ((0.9, 0.1, 0.9, 0.9, 0.004, 0.9), "Not sure of: dog (10%), red (under 1%)."),
    ((), "")])
def test_one_line_says_how_sure(sure: tuple[float, ...], said: str) -> None:
    one = explanation(sure)
    assert confidence_sentence(one) == said
    assert unsure_words(one) == [q for q in (1, 4, 5) if sure and sure[q] < 0.15]


def test_of_a_sentence_that_answers_the_words_are_judged() -> None:
    one = explanation((0.9, 0.6, 0.9, 0.9, 0.3, 0.9), source="answer")
    assert confidence_sentence(one, 0.004) == "Fairly sure. Least sure of: red (30%)."


def test_a_long_list_is_cut() -> None:
    one = explanation((0.1,) * 5, text="dogs cats birds cows sheep")
    assert confidence_sentence(one) == (
        "Not sure of: dogs (10%), cats (10%), birds (10%) and 2 more.")


@pytest.mark.parametrize("sure, blank, looks", [
    ((0.9, 0.018, 0.9, 0.9, 0.03, 0.2), (0.9, 0.022, 0.9, 0.1, 0.024, 0.19), False),
    ((0.9, 0.3, 0.9, 0.9, 0.03, 0.2), (0.9, 0.03, 0.9, 0.9, 0.024, 0.19), False),  # odds 14
    ((0.9, 0.3, 0.9, 0.9, 0.03, 0.2), (0.9, 0.02, 0.9, 0.9, 0.024, 0.19), True),  # odds 21
    ((0.9, 0.03, 0.9, 0.9, 0.03, 0.2), (0.9, 0.0001, 0.9, 0.9, 0.02, 0.19), False),  # a guess
    ((0.9,) * 6, (0.3,) * 6, True), ((0.9,) * 6, (), True)])
def test_a_text_that_hardly_depends_on_the_picture(sure: tuple[float, ...],
                                                   blank: tuple[float, ...], looks: bool) -> None:
    one = explanation(sure, blank)
    assert depends_on_picture(one) is looks
    assert (confidence_sentence(one) == CAPTION) is not looks


@pytest.mark.parametrize("chance, start", [(0.1, "Not sure"), (0.4, "Fairly sure"), (0.8, "Sure")])
def test_an_answer_has_the_probability_that_stands_beside_it(chance: float, start: str) -> None:
    one = explanation((0.01,), (0.0001,), "red", source="answer")
    assert confidence_sentence(one, chance) == f"{start} of this answer ({100 * chance:.0f}%)."
    yes = explanation((0.6,), (0.5,), "yes", source="answer")
    assert confidence_sentence(yes, chance) == ANSWER
    two = explanation((0.6,), (0.25,), "two", source="answer")
    assert confidence_sentence(two, chance).startswith(start)


@pytest.mark.parametrize("text, told", [("yes", True), ("No.", True), ("是的", True),
                                        ("two", False), ("no dog", False)])
def test_a_yes_or_no_is_as_good_as_the_model_was_measured(text: str, told: bool) -> None:
    words = len(text.split())
    one = explanation((0.9,) * words, (0.1,) * words, text, source="answer")
    line = ("Of people’s yes-or-no questions this model gets 54% right (51% without the picture); "
            "a coin gets 50%.")
    assert (confidence_sentence(one, 0.9, (0.536, 0.511)) == line) is told
    assert confidence_sentence(one, 0.9) == "Sure of this answer (90%)."


def test_the_engine_tells_what_a_blank_picture_gives() -> None:
    engine = planted_engine()
    caption = engine.caption(noise())
    (one,) = engine.explain(noise(), caption)
    (share,) = engine.picture_share(noise(), caption)
    assert one.blank_probabilities == share.blank
    assert one.words[first_word(one)].text == "left"
    assert engine.explain(noise(), "a dog")[0].blank_probabilities == ()  # nothing was written
    assert engine.explain(noise(), caption, "relevancy")[0].blank_probabilities == ()


def test_a_result_comes_with_its_line_and_its_first_word() -> None:
    engine = planted_engine()
    plain = open_picture(Image.new("RGB", (80, 60), "white"))
    for photo, said in ((noise(), "Sure of this answer (61%)."),
                        (plain, ANSWER)):
        *_, (shown, _) = reply(engine, photo, "what is on the right?", Desk())
        assert shown["sure"] == said
        assert [text["first"] for text in shown["texts"]] == [4, 0]
