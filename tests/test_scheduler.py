"""Texts of several visitors in one batch: what each writes is what it writes alone, whoever else
joins and leaves meanwhile."""

import dataclasses
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from conftest import make_model, make_picture
from planted import COLOURS, Planted, picture

from vitdemo import scheduler, wanted
from vitdemo.backends.native import NativeBackend
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.tokens import TextTokenizer
from vitdemo.wanted import NotWanted


class Together(Planted):
    """Writes up to ``together`` texts at once; ``log`` holds how many words each text had before
    each turn, by its instruction."""

    def __init__(self, together: int = 8) -> None:
        super().__init__()
        self.together = together
        self.words: Counter[str] = Counter()
        self.log: list[dict[str, int]] = []
        self.names: dict[Any, str] = {}

    def generate(self, *given: Any) -> Any:
        text = super().generate(*given)
        self.names[text] = given[1]
        return text

    def advance(self, texts: Sequence[Iterator[Any]]) -> list[Any]:
        assert 1 <= len(texts) <= self.together
        mine = [self.names.get(text, "") for text in texts]
        self.log.append({name: self.words[name] for name in mine})
        self.words.update(mine)
        if "break" in mine:
            raise ZeroDivisionError
        return super().advance(texts)


class Visitors:
    """Threads with a call each; ``got`` are their results or errors, by name."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.got, self.threads = engine, dict[str, Any](), list[threading.Thread]()

    def ask_at_once(self, calls: dict[str, Callable[[], Any]]) -> None:
        """All stand in line, in this order, before any of them begins."""
        with self.engine._lock:
            for count, (name, call) in enumerate(calls.items(), 1):
                thread = threading.Thread(target=self._run, args=(name, call), daemon=True)
                thread.start()
                self.threads.append(thread)
                while self.engine.waiting()[0] < count:
                    time.sleep(0.001)

    def _run(self, name: str, call: Callable[[], Any]) -> None:
        try:
            self.got[name] = call()
        except Exception as error:
            self.got[name] = error

    def end(self) -> dict[str, Any]:
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        return self.got


def caption(engine: Engine, said: str, colour: str = "red") -> Callable[[], str]:
    return lambda: engine.caption(picture(colour), said).text


def test_those_who_wait_are_written_for_in_one_batch() -> None:
    backend = Together()
    engine = Engine(backend)
    visitors = Visitors(engine)
    names = [f"word{n}" for n in range(5)]
    visitors.ask_at_once({name: caption(engine, name) for name in names})
    assert visitors.end() == {name: f"A red picture {name}." for name in names}
    assert backend.batches == [1]  # they ask about one picture
    assert max(len(turn) for turn in backend.log) == 5
    assert len(backend.log) <= 6  # words of one text, and not of five
    (count, total) = engine.measures.values()["batch", "write"]
    assert count == len(backend.log) and total == sum(map(len, backend.log))
    assert engine.measures.values()["seconds", "wait"][0] == 5


def test_a_thousand_requests_never_mix() -> None:
    backend = Together()
    backend.pause = 0.0002
    engine = Engine(backend)
    wrong: list[str] = []

    def visit(visitor: int) -> None:
        draw = random.Random(visitor)
        for turn in range(125):
            colour = draw.choice(list(COLOURS))
            said = f"v{visitor}t{turn} " + "on " * draw.randrange(6) + "end"
            if draw.random() < 0.2:
                answer = engine.ask(picture(colour), "which colour?").text
                wrong.extend([answer] * (answer != colour))
                continue
            stream = engine.stream(picture(colour), said)
            if draw.random() < 0.2:  # goes after a word
                next(stream)
                stream.close()
                continue
            text = [one.text for one in stream][-1]
            wrong.extend([text] * (text != f"A {colour} picture {said}."))

    visitors = Visitors(engine)
    visitors.ask_at_once({str(n): lambda n=n: visit(n) for n in range(8)})  # type: ignore[misc]
    assert set(visitors.end().values()) == {None} and not wrong
    assert max(map(len, backend.log)) > 1
    assert not engine._scheduler._jobs


def test_no_text_is_overtaken_where_there_are_more_than_fit() -> None:
    backend = Together(together=3)
    engine = Engine(backend)
    visitors = Visitors(engine)
    names = [f"w{n} " + "on " * 20 + "end" for n in range(8)]
    visitors.ask_at_once({name: caption(engine, name) for name in names})
    visitors.end()
    done: Counter[str] = Counter(dict.fromkeys(names, 0))
    ahead = []  # how far the first is before the last, once all have begun
    for turn in backend.log:
        done.update(list(turn))
        if min(done.values()) >= 10:
            break
        if min(done.values()) >= 1:
            ahead.append(max(done.values()) - min(done.values()))
    assert len(ahead) >= 20 and max(ahead) <= ahead[0] + 1


def test_who_is_not_waited_for_leaves_at_the_next_word() -> None:
    backend, still = Together(), True
    engine = Engine(backend)
    streams = {name: engine.stream(picture(), f"{name} on on on on end") for name in "abc"}
    context = wanted.while_wanted(lambda: still)
    for name, stream in streams.items():
        (context if name == "b" else wanted.while_wanted(lambda: True)).run(next, stream)
    next(streams["a"])
    next(streams["a"])
    assert len(backend.log[-1]) == 3
    still = False
    before = len(backend.log)
    assert [*streams["a"]][-1].text == "A red picture a on on on on end."
    assert all(len(turn) == 2 for turn in backend.log[before:]) and len(backend.log) > before
    with pytest.raises(NotWanted):
        context.run(list, streams["b"])
    before = len(backend.log)
    streams["c"].close()
    other = engine.stream(picture(), "other")
    next(other)
    assert list(backend.log[-1]) == ["other"]


def test_a_fault_ends_those_that_it_is_of_and_no_others() -> None:
    class Refusing(Together):
        def generate(self, *given: Any) -> Any:
            if given[1] == "refused":
                raise TextError("typed.empty", what="The text")
            return super().generate(*given)

    backend = Refusing()
    engine = Engine(backend)
    visitors = Visitors(engine)
    visitors.ask_at_once({name: caption(engine, name) for name in ("one", "refused", "two")})
    got = visitors.end()
    assert isinstance(got.pop("refused"), TextError)
    assert got == {name: f"A red picture {name}." for name in ("one", "two")}
    with pytest.raises(ZeroDivisionError):
        engine.caption(picture(), "break")
    assert caption(engine, "again")() == "A red picture again."
    backend.encode_pictures = lambda pictures: 1 / 0  # type: ignore
    with pytest.raises(ZeroDivisionError):
        engine.caption(picture("blue"))
    assert caption(engine, "again")() == "A red picture again."


def test_a_model_that_writes_one_text_at_a_time_has_batches_of_one() -> None:
    engine = Engine(Planted(pause=0.001))  # asserts that it is never entered twice
    visitors = Visitors(engine)
    visitors.ask_at_once({colour: caption(engine, "", colour) for colour in COLOURS})
    assert visitors.end() == {colour: f"A {colour} picture." for colour in COLOURS}
    count, total = engine.measures.values()["batch", "write"]
    assert count == total


@pytest.mark.parametrize("cores", [1, 2])
def test_new_pictures_are_encoded_as_many_as_there_are_cores(monkeypatch: pytest.MonkeyPatch,
                                                             cores: int) -> None:
    monkeypatch.setattr(scheduler, "width", lambda: cores)
    backend = Together()
    engine = Engine(backend)
    visitors = Visitors(engine)
    colours = ["red", "green", "blue"]
    visitors.ask_at_once({one: caption(engine, "", one) for one in colours})
    assert visitors.end() == {colour: f"A {colour} picture." for colour in colours}
    assert backend.batches == ([1, 1, 1] if cores == 1 else [2, 1])


# With a real decoder

@pytest.fixture(scope="module")
def talkative(tokenizer: TextTokenizer) -> NativeBackend:
    """It writes texts of different lengths, and copies names."""
    made = make_model(tokenizer, seed=5, names=True, pointer=True)
    with torch.no_grad():  # the tied embedding repeats its input; this makes it write
        made.decoder.embedding.weight.mul_(0.3)
        made.decoder.norm.weight.mul_(3.0)
        made.decoder.bias.normal_(0, 1.5, generator=torch.Generator().manual_seed(1))
        made.decoder.bias[tokenizer.end] = 2.5
    if made.names is not None:
        made.names.learn_forms(tokenizer)
    return NativeBackend(made, tokenizer, name="tiny", revision="test", placement=pick("cpu"))


REQUESTS = [(text, language, dataclasses.replace(decoding, max_tokens=6 + number % 7))
            for number, (text, language, decoding) in enumerate(itertools.product(
                ["", "what is there ?", "describe the red ball on the grass"], ["en", "zh"],
                [Decoding(), Decoding("greedy"), Decoding(beams=3, min_tokens=4),
                 Decoding("sample", seed=3), Decoding("greedy", repetition_penalty=2.0)]))]


def test_greedy_beam_and_sampled_texts_are_those_of_each_alone(talkative: NativeBackend) -> None:
    features = talkative.encode_pictures([make_picture(seed) for seed in range(6)])

    def begun() -> list[Any]:
        return [*(talkative.generate(features[n % 6], *given) for n, given in enumerate(REQUESTS)),
                *(talkative.answering(one, "what color is it ?", "en") for one in features)]

    alone = [list(one) for one in begun()]
    assert len({len(states) for states in alone}) > 3  # they end at different words
    draw, waiting = random.Random(0), list(enumerate(begun()))
    draw.shuffle(waiting)
    got: dict[int, list[Any]] = {number: [] for number, _ in waiting}
    going: list[tuple[int, Any]] = []
    while waiting or going:  # some join between any two words
        going += [waiting.pop() for _ in range(min(len(waiting), draw.randrange(3)))]
        some = draw.sample(going, min(len(going), talkative.together))
        states = talkative.advance([text for _, text in some])
        for one, state in zip(some, states, strict=True):
            if state is None:
                going.remove(one)
            else:
                got[one[0]].append(state)
    for number, states in enumerate(alone):
        assert len(got[number]) == len(states)
        for mine, own in zip(got[number], states, strict=True):
            if number < len(REQUESTS):
                assert (mine.text, mine.final) == (own.text, own.final)
                assert mine.log_probability == pytest.approx(own.log_probability, abs=1e-3)
            else:
                assert [one.text for one in mine] == [one.text for one in own]
                assert [one.probability for one in mine] == pytest.approx(
                    [one.probability for one in own], abs=1e-4)


def test_visitors_of_a_real_model_get_what_each_gets_alone(talkative: NativeBackend) -> None:
    photos: list[Picture] = [open_picture(make_picture(seed)) for seed in range(4)]
    asked = [(photos[n % 4], *given) for n, given in enumerate(REQUESTS)]
    alone = [[one.raw_text for one in Engine(talkative).stream(*given)] for given in asked[:12]]
    engine = Engine(talkative)
    visitors = Visitors(engine)
    visitors.ask_at_once({str(n): lambda given=given: [  # type: ignore[misc]
        one.raw_text for one in engine.stream(*given)] for n, given in enumerate(asked[:12])})
    got = visitors.end()
    assert [got[str(n)] for n in range(12)] == alone
    count, total = engine.measures.values()["batch", "write"]
    assert total > 1.5 * count
