"""Greedy, beam and sampled decoding against slow plain searches."""

import copy
import itertools

import pytest
import torch
from conftest import make_model

from vitdemo.config import Decoding
from vitdemo.models.decoding import Hypothesis, Vocabulary, write, write_all
from vitdemo.models.fusion import Memory
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import is_chinese


@pytest.fixture(scope="module")
def model(tokenizer: TextTokenizer) -> VLM:
    made = make_model(tokenizer, seed=5)
    with torch.no_grad():  # the tied embedding repeats its input; this makes it write
        made.decoder.embedding.weight.mul_(0.3)
        made.decoder.norm.weight.mul_(3.0)
        made.decoder.bias.normal_(0, 1.5, generator=torch.Generator().manual_seed(1))
    return made


def read(model: VLM, tokenizer: TextTokenizer, texts: list[str]) -> Memory:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(texts), model.vision.grid[0] * model.vision.grid[1],
                           model.vision.channels, generator=generator)
    with torch.no_grad():
        ids, mask = tokenizer.encode(texts)
        words, z = model.encode_text(ids, mask)
        return model.fuse(model.vision.tokens(features), words, mask, z)


def vocabulary(tokenizer: TextTokenizer, count: int = 1) -> Vocabulary:
    return Vocabulary([tokenizer.language_start["en"]] * count, tokenizer.end, tokenizer.banned)


def log_chances(model: VLM, memory: Memory, tokenizer: TextTokenizer,
                ids: tuple[int, ...]) -> torch.Tensor:
    """Plain: the next token's log-probabilities with no cache."""
    row = torch.tensor([[tokenizer.language_start["en"], *ids]])
    with torch.no_grad():
        logits = model.decoder(row, memory)[0, -1]
    logits[list(tokenizer.banned)] = -torch.inf
    return logits.log_softmax(-1)


def test_greedy_takes_the_likeliest_word_each_time(model: VLM, tokenizer: TextTokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    found = write_all(model.decoder, memory, vocabulary(tokenizer),
                      Decoding(strategy="greedy", max_tokens=6))[0][0]
    ids: tuple[int, ...] = ()
    total = 0.0
    for _ in range(6):
        chances = log_chances(model, memory, tokenizer, ids)
        total += float(chances.max())
        if int(chances.argmax()) == tokenizer.end:
            break
        ids = (*ids, int(chances.argmax()))
    assert found.ids == ids
    assert found.log_probability == pytest.approx(total, abs=1e-3)


def test_beam_equals_a_plain_beam_search(model: VLM, tokenizer: TextTokenizer) -> None:
    memory, beams, steps = read(model, tokenizer, ["red ball"]), 3, 4
    decoding = Decoding(beams=beams, max_tokens=steps, length_penalty=1.0)
    found = write_all(model.decoder, memory, vocabulary(tokenizer), decoding)[0]
    alive, done = [((), 0.0)], []
    for _ in range(steps):
        grown = []
        for ids, total in alive:
            chances = log_chances(model, memory, tokenizer, ids)
            grown += [(ids, token, total + float(chances[token]))
                      for token in range(len(chances)) if chances[token] > -torch.inf]
        grown.sort(key=lambda item: -item[2])
        alive = []
        for rank, (ids, token, total) in enumerate(grown[:2 * beams]):
            if token == tokenizer.end:
                if rank < beams:
                    done.append(Hypothesis(ids, total, True))
            elif len(alive) < beams:
                alive.append(((*ids, token), total))
        if len(done) >= beams:
            break
    pool = done or [Hypothesis(ids, total, False) for ids, total in alive]
    best = max(pool, key=lambda text: text.score(1.0))
    assert found[0].ids == best.ids
    assert found[0].log_probability == pytest.approx(best.log_probability, abs=1e-3)


def test_a_wide_beam_finds_the_best_of_all_short_texts(model: VLM,
                                                       tokenizer: TextTokenizer) -> None:
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.decoder.bias[tokenizer.end] = 4.0  # short texts become likely
    memory = read(model, tokenizer, ["what ?"])
    decoding = Decoding(beams=10, max_tokens=2, length_penalty=0.0)
    found = [text for text in write_all(model.decoder, memory, vocabulary(tokenizer), decoding)[0]
             if text.ended]
    first = log_chances(model, memory, tokenizer, ())
    single = {(): float(first[tokenizer.end])}
    for token in first.topk(30).indices.tolist():
        if token != tokenizer.end:
            after = log_chances(model, memory, tokenizer, (token,))
            single[(token,)] = float(first[token] + after[tokenizer.end])
    assert found, "no text ended"
    for text in found:
        assert text.log_probability == pytest.approx(single[text.ids], abs=1e-3)


def test_a_batch_gives_what_each_alone_gives(model: VLM, tokenizer: TextTokenizer) -> None:
    texts = ["a dog", "what color is the ball ?", "一只狗"]
    decoding = Decoding(beams=3, max_tokens=6)
    memory = read(model, tokenizer, texts)
    together = write_all(model.decoder, memory, vocabulary(tokenizer, 3), decoding)
    for i in range(3):
        alone = Memory(memory.tokens[i:i + 1], memory.mask[i:i + 1], memory.picture_tokens,
                       memory.text[i:i + 1])
        single = write_all(model.decoder, alone, vocabulary(tokenizer), decoding)[0]
        assert together[i][0].ids == single[0].ids


def test_sampling_keeps_to_the_nucleus_and_the_seed(model: VLM, tokenizer: TextTokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    first = log_chances(model, memory, tokenizer, ()).exp()
    ordered, order = first.sort(descending=True)
    size = int((ordered.cumsum(0) - ordered < 0.6).sum())
    nucleus = set(order[:size].tolist())
    drawn = set()
    for seed in range(40):
        decoding = Decoding(strategy="sample", top_p=0.6, seed=seed, max_tokens=1)
        text = write_all(model.decoder, memory, vocabulary(tokenizer), decoding)[0][0]
        again = write_all(model.decoder, memory, vocabulary(tokenizer), decoding)[0][0]
        assert text == again
        drawn.add(text.ids[0] if text.ids else tokenizer.end)
    assert drawn <= nucleus
    assert len(drawn) > 1


def test_limits_and_bans_are_kept(model: VLM, tokenizer: TextTokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    for strategy, tokens in itertools.product(("greedy", "beam", "sample"), (1, 5)):
        decoding = Decoding(strategy=strategy, max_tokens=5, min_tokens=tokens)
        text = write_all(model.decoder, memory, vocabulary(tokenizer), decoding)[0][0]
        assert tokens <= len(text.ids) <= 5
        assert not set(text.ids) & {*tokenizer.banned, tokenizer.end}


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
def test_what_is_written_keeps_to_its_language(model: VLM, tokenizer: TextTokenizer,
                                               strategy: str) -> None:
    languages = ["en", "zh", "en", "zh"]
    memory = read(model, tokenizer, ["a dog", "一只狗", "what ?", "a red ball"])
    words = Vocabulary.of(tokenizer, languages)
    said = {"en": "", "zh": ""}
    for seed in range(20 if strategy == "sample" else 1):
        decoding = Decoding(strategy=strategy, seed=seed, max_tokens=10, min_tokens=9, top_p=1.0,
                            temperature=3.0)
        for language, found in zip(languages, write_all(model.decoder, memory, words, decoding),
                                   strict=True):
            said[language] += "".join(tokenizer.decode(text.ids) for text in found)
    assert not is_chinese(said["en"]) and not set(said["en"]) & set("。，？！"), said["en"]
    letters = {one for one in said["zh"] if one.isascii() and one.isalpha()}
    assert letters <= {"t", "v"}, said["zh"]
    free = Vocabulary(words.starts, words.end, words.banned)
    mixed = "".join(tokenizer.decode(found[0].ids) for seed in range(20) for found in write_all(
        model.decoder, memory, free, Decoding(strategy="sample", seed=seed, max_tokens=10)))
    assert is_chinese(mixed) and any(one.isascii() and one.isalpha() for one in mixed)


def test_a_repetition_penalty_makes_words_differ(model: VLM, tokenizer: TextTokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    plain, fresh = (write_all(model.decoder, memory, vocabulary(tokenizer), Decoding(
        strategy="greedy", max_tokens=12, min_tokens=12, repetition_penalty=p))[0][0].ids
        for p in (1.0, 3.0))
    assert len(set(fresh)) > len(set(plain))


def test_every_state_grows(model: VLM, tokenizer: TextTokenizer) -> None:
    memory = read(model, tokenizer, ["a dog"])
    with torch.inference_mode():
        states = list(write(model.decoder, memory, vocabulary(tokenizer),
                            Decoding(strategy="greedy", max_tokens=5, min_tokens=5)))
    assert [len(state[0][0].ids) for state in states] == [1, 2, 3, 4, 5]
