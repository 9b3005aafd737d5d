"""Languages, whole words, and how a model's text is shown to a person."""

import itertools

import pytest

from vitdemo.words import (
    is_chinese,
    language_of,
    normalise_answer,
    same_words,
    segment_chinese,
    split_words,
    tidy,
)


def texts(text: str) -> list[str]:
    words = split_words(text)
    for word in words:
        assert text[word.start:word.end] == word.text
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    return [word.text for word in words]


@pytest.mark.parametrize("text, words", [
    ("a dog runs .", ["a", "dog", "runs"]),
    ("The dog's well-known T-shirt, isn't it?", ["The", "dog's", "well-known", "T-shirt",
                                                 "isn't", "it"]),
    ("two dogs' bones", ["two", "dogs", "bones"]),
    ("it’s café naïve", ["it’s", "café", "naïve"]),
    ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
    ("garbage_bin 3 people", ["garbage_bin", "3", "people"]),
    ("", []), (" ... !? ", []), ("👩‍🚒 a firefighter 🔥", ["a", "firefighter"]),
    ("--dash- -ed", ["dash", "ed"]),
])
def test_english_words_and_their_places(text: str, words: list[str]) -> None:
    assert texts(text) == words


def test_chinese_is_cut_into_words() -> None:
    assert texts("一只狗在草地上奔跑。") == ["一只", "狗", "在", "草地", "上", "奔跑"]
    assert "".join(segment_chinese("两个孩子在海滩上玩耍")) == "两个孩子在海滩上玩耍"
    mixed = texts("一个人穿着 Nike T恤，骑bike！")
    assert "Nike" in mixed and "穿着" in mixed and "bike" in mixed
    assert "".join(mixed) == "一个人穿着NikeT恤骑bike"
    assert "".join(texts("2个人")) == "2个人"


def test_language_is_read_off_the_text() -> None:
    assert is_chinese("a 狗") and not is_chinese("a dog, été, 犬かな"[:9])
    assert language_of("什么颜色?") == "zh"
    assert language_of("what colour?") == "en"
    assert language_of("") == "en"


@pytest.mark.parametrize("raw, shown", [
    ("a dog runs .", "A dog runs."), ("a dog runs", "A dog runs."),
    ("a dog runs . . ", "A dog runs."),
    ("the man 's hat , and i", "The man's hat, and I."), ("i'm here", "I'm here."),
    ("hawai'i in wi-fi", "Hawai'i in wi-fi."), ("what is it ?", "What is it?"),
    ("stop !", "Stop!"), ("a\n dog   runs", "A dog runs."), ("50 % ( of it )", "50% ( of it)."),
    ("a orange and an dog", "An orange and a dog."), ("an hour at a one", "An hour at a one."),
    ("a airplane", "An airplane."), ("plan a is an idea", "Plan a is an idea."),
    ("", ""), (" . ", ""), ("été", "Été."), ("he said 3 . 5", "He said 3. 5."),
])
def test_english_is_tidied(raw: str, shown: str) -> None:
    assert tidy(raw, "en") == shown


@pytest.mark.parametrize("raw, shown", [
    ("一只 狗 在 奔跑 。", "一只狗在奔跑。"), ("一只狗", "一只狗。"), ("一只狗.", "一只狗。"),
    ("这是什么？", "这是什么？"), ("一个 穿着 nike shoes 的 人", "一个穿着nike shoes的人。"),
    ("", ""), (" 。 ", ""), ("2 个 人 ， 一 只 狗", "2个人，一只狗。"),
])
def test_chinese_is_tidied(raw: str, shown: str) -> None:
    assert tidy(raw, "zh") == shown


@pytest.mark.parametrize("raw", ["a orange , and an old hat .", "i saw a hour", "an dog"])
def test_tidying_changes_no_words_place(raw: str) -> None:
    """Maps belong to the raw words; the shown ones stand in for them one by one."""
    assert same_words(split_words(raw), split_words(tidy(raw, "en")))
    assert not same_words(split_words(raw), split_words("Something else entirely."))


def test_tidy_text_stays_as_it_is() -> None:
    for language, raw in (("en", "the man 's dog runs ."), ("zh", "一只 狗 ， 在 奔跑")):
        assert tidy(tidy(raw, language), language) == tidy(raw, language)


def test_answers_are_compared_in_one_form() -> None:
    assert normalise_answer(" Garbage_Bin. ") == "garbage bin"
    assert normalise_answer("red ,  Blue") == "red, blue"
    assert normalise_answer("“") == "“" and normalise_answer("红色。") == "红色"
    assert normalise_answer("") == ""
