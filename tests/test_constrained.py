"""Beam search for texts that must hold certain words, against the plain one and slow sums."""

import pytest
import torch
from conftest import make_model, make_tokenizer
from test_decoding import read, vocabulary

from vitdemo.config import Decoding
from vitdemo.models.constrained import Wanted, write_with
from vitdemo.models.decoding import write_all
from vitdemo.models.vlm import VLM
from vitdemo.models.wording import Wording
from vitdemo.tokens import TextTokenizer

BEAM = Decoding(beams=4, max_tokens=8)


@pytest.fixture(scope="module")
def model(tokenizer: TextTokenizer) -> VLM:
    made = make_model(tokenizer, seed=5)
    with torch.no_grad():
        made.decoder.embedding.weight.mul_(0.3)
        made.decoder.norm.weight.mul_(3.0)
        made.decoder.bias.normal_(0, 1.5, generator=torch.Generator().manual_seed(1))
        made.decoder.bias[tokenizer.end] += 8
    return made


def wanted(tokenizer: TextTokenizer, *words: str) -> Wanted:
    """Words whose forms are parted by |."""
    return Wanted([[tuple(ids) for ids in tokenizer.batch_pieces(word.split("|"))]
                   for word in words], Wording(tokenizer).inner)


def ids_of(tokenizer: TextTokenizer, text: str) -> list[int]:
    return tokenizer.pieces(text)[0]


def test_a_word_is_held_where_all_its_pieces_stand_and_no_more(tokenizer) -> None:
    want = wanted(tokenizer, "dog|red ball", "cat")
    assert want.held(ids_of(tokenizer, "a dog runs")) == {0}
    assert want.held(ids_of(tokenizer, "red dogs")) == set()  # "dog ##s" is another word
    assert want.held(ids_of(tokenizer, "a red ball and a cat")) == {0, 1}
    assert want.all_held(ids_of(tokenizer, "cat on a dog"))
    dog, red, ball, cat = (ids_of(tokenizer, word)[0] for word in ("dog", "red", "ball", "cat"))
    assert want.begun([], frozenset()) == {dog: 1, red: 1, cat: 1}
    longer = Wanted(want.words, want.inner, least=2)
    assert longer.begun([], frozenset()) == {red: 1, cat: 1} and longer.held([dog]) == {0}
    assert want.begun([red], frozenset({1})) == {dog: 1, red: 1, ball: 2}


@pytest.mark.parametrize("words", [("dog",), ("red ball",), ("woman|girl", "tree"), ("草地",)])
@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_every_text_holds_the_words_and_has_its_probability(model, tokenizer, words,
                                                            length_penalty) -> None:
    decoding = Decoding(beams=4, max_tokens=8, length_penalty=length_penalty)
    memory, want = read(model, tokenizer, ["a dog"]), wanted(tokenizer, *words)
    found = write_with(model.decoder, memory, vocabulary(tokenizer), decoding, want)
    assert len(found) == 4
    scores = [text.score(length_penalty) for text in found]
    assert scores == sorted(scores, reverse=True)
    for text in found:
        assert text.ended and want.all_held(text.ids)
        row = [tokenizer.language_start["en"], *text.ids, tokenizer.end]
        with torch.no_grad():
            logits = model.decoder(torch.tensor([row[:-1]]), memory)[0]
        logits[:, list(tokenizer.banned)] = -torch.inf
        chances = logits.log_softmax(-1).gather(1, torch.tensor(row[1:])[:, None]).sum()
        assert text.log_probability == pytest.approx(float(chances), abs=1e-3)


def test_it_finds_what_the_plain_search_finds_where_that_holds_the_word(model, tokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    plain = [text for text in write_all(model.decoder, memory, vocabulary(tokenizer), BEAM)[0]
             if text.ended]
    (first, *_) = (text for text in plain if text.ids)
    want = Wanted([[first.ids[:1]]], Wording(tokenizer).inner)
    found = write_with(model.decoder, memory, vocabulary(tokenizer), BEAM, want)
    best = max(text.score(0.7) for text in plain if want.all_held(text.ids))
    assert found[0].score(0.7) >= best - 1e-4


def test_without_room_for_the_words_nothing_is_found() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=5)
    decoding = Decoding(beams=3, max_tokens=2)
    assert write_with(model.decoder, read(model, tokenizer, ["a dog"]), vocabulary(tokenizer),
                      decoding, wanted(tokenizer, "a red ball")) == []
