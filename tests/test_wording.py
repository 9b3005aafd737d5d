"""No content word twice, and "a" or "an" by the next sound."""

from pathlib import Path

import pytest
import torch
from conftest import make_model, make_tokenizer

from vitdemo.config import Decoding
from vitdemo.models.decoding import Vocabulary, write_all
from vitdemo.models.fusion import Memory
from vitdemo.models.wording import Wording
from vitdemo.tokens import TextTokenizer
from vitdemo.words import content_words, repeated_words


@pytest.fixture(scope="module")
def wording(tokenizer: TextTokenizer) -> Wording:
    return Wording(tokenizer)


def banned(wording: Wording, tokenizer: TextTokenizer, text: str, language: str) -> set[str]:
    ids, _ = tokenizer.pieces(text)
    pieces = tokenizer.all_pieces()
    return {pieces[i] for i in wording.after(tokenizer.language_start[language], ids)}


def test_repeated_words_are_content_words_in_both_languages() -> None:
    assert repeated_words("A man is riding a motorcycle on a motorcycle.") == ["motorcycle"]
    assert repeated_words("A man in a hat and a man in the grass") == ["man"]
    assert repeated_words("The dog is on the grass in front of the house") == []
    assert repeated_words("一只狗在一只狗旁边") == ["狗"]
    assert repeated_words("一个男人和一个女人在草地上") == []
    assert "草地" in content_words("两只狗在草地上")


@pytest.mark.parametrize("text, words", [
    ("a dog runs on the", {"dog", "runs"}),  # not "on", "the"
    ("two girl sits on a green", {"girl", "sits", "green"}),
])
def test_an_english_content_word_is_not_begun_again(wording, tokenizer, text, words) -> None:
    found = banned(wording, tokenizer, text, "en")
    assert words <= found
    assert not found & {"on", "in", "##s"} or "two" in text


def test_a_word_that_was_written_bans_its_plural_and_its_singular(wording, tokenizer) -> None:
    assert "plays" in banned(wording, tokenizer, "plays with", "en")
    assert banned(wording, tokenizer, "plays with", "en").isdisjoint({"dog", "cat"})


def test_the_article_goes_with_the_sound(wording, tokenizer) -> None:
    after_a = banned(wording, tokenizer, "a dog with a", "en")
    after_an = banned(wording, tokenizer, "an", "en")
    assert {"e", "i"} <= after_a and not after_a & {"cat", "house"}
    assert {"dog", "house"} <= after_an and not after_an & {"e", "in"}


def test_no_word_is_written_twice_in_a_row(wording, tokenizer) -> None:
    assert "the" in banned(wording, tokenizer, "a dog on the", "en")
    assert "the" not in banned(wording, tokenizer, "the dog on", "en")


def test_no_plural_follows_an_article(wording) -> None:
    for plural in ("donuts", "dogs", "boxes", "shoes"):
        wording._ids.setdefault(plural, -1)
        wording._ids.setdefault(plural.removesuffix("es" if plural == "boxes" else "s"), -2)
        assert wording._is_plural(plural), plural
    for other in ("glass", "bus", "sports", "this", "gas"):
        assert not wording._is_plural(other), other


@pytest.fixture(scope="module")
def shipped() -> Wording:
    """The rules over the pieces of the model that comes with the app."""
    return Wording(TextTokenizer.load(
        Path(__file__).parents[1] / "checkpoints" / "vitdemo-small" / "tokenizer.json", 64))


@pytest.mark.parametrize("begun, plural", [
    ("a red and white ping pong", "balls"), ("a large brown wooden", "boxes"),
    ("an old and rusty", "cars"), ("a black and white", "cows"), ("a", "dogs")])
def test_no_plural_ends_what_an_article_begins(shipped: Wording, begun: str, plural: str) -> None:
    tokenizer = shipped._tokenizer
    banned = shipped.after(tokenizer.language_start["en"], tokenizer.pieces(begun)[0])
    assert tokenizer.pieces(plural)[0][0] in banned
    assert tokenizer.pieces(plural.removesuffix("es" if plural == "boxes" else "s"))[0][0] \
        not in banned


@pytest.mark.parametrize("text", [
    "a glass of beer bottles", "a man holds balls", "a group of people",
    "a red bus stops at a sign", "a small dog sits on a couch", "an orange sits on a table",
    "a white bird stands on rocks", "a bunch of green bananas",
    "two red and white ping pong balls", "a big brown dog and cats",
    "a little girl holds a blue and white umbrella", "a tall building with windows"])
def test_what_is_right_can_be_written(shipped: Wording, text: str) -> None:
    tokenizer = shipped._tokenizer
    ids, start = tokenizer.pieces(text)[0], tokenizer.language_start["en"]
    assert not [n for n in range(1, len(ids)) if ids[n] in shipped.after(start, ids[:n])]


def test_a_chinese_word_is_not_finished_again(wording, tokenizer) -> None:
    assert banned(wording, tokenizer, "一只狗和一只", "zh") >= {"狗"}
    assert "地" in banned(wording, tokenizer, "在草地上和草", "zh")
    assert "地" not in banned(wording, tokenizer, "在草地上和", "zh")
    assert banned(wording, tokenizer, "一只狗", "zh").isdisjoint({"一", "只"})


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_written_repeats_no_content_word(strategy: str, language: str) -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=3)
    with torch.no_grad():
        model.decoder.embedding.weight.mul_(0.01)
        model.decoder.bias.zero_()
        words = {"en": ("dog", "runs", "on", "in"), "zh": ("狗", "跑", "在", "上")}[language]
        for i, word in enumerate(words):
            model.decoder.bias[tokenizer.pieces(word)[0][0]] = 20.0 - i / 10
    memory = Memory(torch.zeros(1, 2, model.config.width), torch.ones(1, 2, dtype=torch.bool), 2,
                    torch.zeros(1, 2, model.config.width))
    start = [tokenizer.language_start[language]]
    plain = Vocabulary(start, tokenizer.end, tokenizer.banned)
    careful = Vocabulary(start, tokenizer.end, tokenizer.banned, wording=Wording(tokenizer))
    decoding = Decoding(strategy=strategy, max_tokens=12)
    texts = [tokenizer.decode(write_all(model.decoder, memory, words, decoding)[0][0].ids)
             for words in (plain, careful)]
    assert repeated_words(texts[0]), texts
    assert not repeated_words(texts[1]), texts
