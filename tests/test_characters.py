"""Characters that a vocabulary lacks: what is made of them, and the way back to what was typed."""

import json
import random
from pathlib import Path

import pytest

from vitdemo.characters import Characters, simplified, unread_of
from vitdemo.tokens import TextTokenizer
from vitdemo.words import split_words, unread_words

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "checkpoints" / "vitdemo-small" / "tokenizer.json"
# The commonest characters that differ, as they stand in traditional Chinese questions.
TRADITIONAL = ("這個們來時說為國會學對開關裡還沒點長門問車貓馬鳥魚雞樹綠紅藍黃顏圖畫電視邊樓飛"
               "頭髮麼動東")


@pytest.fixture(scope="module")
def shipped() -> TextTokenizer:
    return TextTokenizer.load(SHIPPED, 256)


def read(tokenizer: TextTokenizer, text: str) -> list[str]:
    """What stands on screen for each token."""
    ids, spans = tokenizer.pieces(text)
    assert len(ids) == len(spans)
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize("typed, plain", [
    ("ＷＨＡＴ　ｉｓ ｔｈｉｓ？", "what is this?"), ("𝓪 𝕔𝕒𝕥", "a cat"), ("ﬁve ﬂags", "five flags"),
    ("don’t “go”", "don't \"go\""), ("a black–white cat", "a black-white cat"),
    ("Łódź straße smørrebrød Æon ıki", "lodz strasse smorrebrod aeon iki"),
    ("這是什麼動物", "这是什么动物"), ("一隻貓躺著看電視", "一只猫躺着看电视"),
    ("穿白色Ｔ恤", "穿白色T恤"),
    ("⼀⼤⽝", "一大犬"), ("naïve café cafe\u0301", "naive cafe cafe"), ("x² ½ ①", "x2 1/2 1"),
    ("ca\u200bt ca\u00adt", "cat cat"),
])
def test_what_can_be_folded_is_read_as_if_it_were_typed_plainly(
        shipped: TextTokenizer, typed: str, plain: str) -> None:
    assert shipped.pieces(typed)[0] == shipped.pieces(plain)[0]
    assert shipped.unknown not in shipped.pieces(typed)[0]
    assert not shipped.unread(typed).unknown


def test_maps_belong_to_the_words_as_they_were_typed(shipped: TextTokenizer) -> None:
    assert read(shipped, "一隻貓 ＷＡＬＫＳ ㎏") == ["一", "隻", "貓", "ＷＡＬＫＳ", "㎏"]
    words = {word.text: tokens for word, tokens in shipped.word_tokens("ﬁve “cats” 貓咪")}
    assert words == {"ﬁve": [0], "cats": [2], "貓咪": [4, 5]}


def test_traditional_characters_are_known_by_their_simplified_forms(
        shipped: TextTokenizer) -> None:
    lost = [one for one in TRADITIONAL if shipped.unread(one).nothing]
    assert not lost
    assert simplified("後面的乾隆皇帝吃麵") == "后面的乾隆皇帝吃面"


def test_punctuation_of_chinese_stays_as_the_model_has_learnt_it(shipped: TextTokenizer) -> None:
    assert shipped.pieces("這是什麼？")[0][-1] == shipped.unknown
    assert shipped.pieces("what is this？")[0] == shipped.pieces("what is this?")[0]
    assert shipped.unread("“猫”、狗：？！").unknown == ()


@pytest.mark.parametrize("typed, unknown, nothing", [
    ("ネコ", ["ネコ"], True), ("кошка", ["кошка"], True), ("🐱", ["🐱"], True), ("?!", [], True),
    ("\u200b", [], True), ("", [], True), ("a cat🐱on ネコgrass", ["🐱", "ネコ"], False),
    ("👩‍🚒 woman", ["👩‍🚒"], False), ("一只貓咪躑躅", ["躑躅"], False), ("50 €", ["€"], False),
    ("[SEP] [PAD] cat [ZH]", [], False), ("a dog", [], False), ("狗、猫？", [], False),
    ("x" * 65, ["x" * 65], True),
])
def test_what_is_unknown_is_named_as_typed(shipped: TextTokenizer, typed: str,
                                           unknown: list[str], nothing: bool) -> None:
    found = shipped.unread(typed)
    assert [word.text for word in found.unknown] == unknown and found.nothing == nothing
    assert all(typed[word.start:word.end] == word.text for word in found.unknown)
    assert found.cut is None


def test_the_known_word_beside_an_unknown_sign_is_read(shipped: TextTokenizer) -> None:
    cat = shipped.pieces("cat")[0][0]
    for text in ("cat🐱", "🐱cat", "ネコcat", "cat®", "™cat"):
        assert cat in shipped.pieces(text)[0], text


def test_typed_names_of_special_tokens_are_letters(shipped: TextTokenizer) -> None:
    special = {shipped.pad, shipped.unknown, shipped.start, shipped.end,
               *shipped.language_start.values()}
    assert not special & set(shipped.pieces("[PAD][UNK] [CLS] a [SEP] [EN] [ZH]")[0])


def test_a_text_that_is_too_long_says_where_it_was_cut(shipped: TextTokenizer) -> None:
    text = ", ".join(["a dog runs"] * 40 + ["a cat sleeps"] * 60)
    found = shipped.unread(text)
    ids, spans = shipped.pieces(text)
    assert len(ids) > 254 and found.cut == spans[254][0] and not found.nothing
    words = split_words(text)
    flags = unread_words(words, found)
    assert {why for word, why in zip(words, flags, strict=True) if word.start < found.cut} == {""}
    assert {why for word, why in zip(words, flags, strict=True) if word.start >= found.cut} == {
        "cut"}
    assert shipped.unread("a " * 254).cut is None and shipped.unread("a " * 255).cut == 508


def test_whatever_is_typed_keeps_its_places(shipped: TextTokenizer) -> None:
    """A fuzzer: every token lies in the text, in order, and every letter is read or told."""
    chance = random.Random(5)
    alphabet = ("a cat 猫貓🐱ネкß½㎏ﬁ’“”？。,.-_#\u200b\u0301\ufe0f\u200d１Ａ𠮷⼤\u3000é€™①…—"
                + "".join(chr(chance.randrange(0x21, 0x2fff)) for _ in range(300)))
    for _ in range(300):
        text = "".join(chance.choices(alphabet, k=chance.randrange(1, 30)))
        ids, spans = shipped.pieces(text)
        assert all(0 <= start < end <= len(text) for start, end in spans), repr(text)
        assert spans == sorted(spans), repr(text)
        assert ids == shipped.batch_pieces([text])[0]
        found = shipped.unread(text)
        told = {place for word in found.unknown for place in range(word.start, word.end)}
        seen = {place for number, (start, end) in zip(ids, spans, strict=True)
                if number != shipped.unknown for place in range(start, end)}
        for word in split_words(text):
            assert told & set(range(word.start, word.end)) or seen & set(
                range(word.start, word.end)), (text, word)


def test_a_vocabulary_that_has_a_character_keeps_it() -> None:
    characters = Characters(["貓", "？", "##ø", "a"])
    assert characters.fold("貓？øa") == ("貓？øa", [0, 1, 2, 3])
    assert characters.fold("ａ") == ("a", [0])
    assert characters.fold("狗a")[0].split() == ["狗", "a"]


def test_unread_spans_side_by_side_are_one() -> None:
    assert [word.text for word in unread_of("ab cd", [(0, 1), (1, 2), (3, 5)]).unknown] == [
        "ab", "cd"]


def test_the_shipped_vocabulary_is_the_one_that_is_meant() -> None:
    held = json.loads(SHIPPED.read_text("utf-8"))["model"]["vocab"]
    assert "猫" in held and "貓" not in held and "？" not in held
