"""The engine over a planted backend: caching, locking, checks of texts, and what it returns."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch
from planted import Planted, picture

from vitdemo.backends.native import NativeBackend
from vitdemo.config import LIMITS, Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, TaskError, TextError
from vitdemo.lock import DeviceLock
from vitdemo.words import clean_text


@pytest.fixture
def backend() -> Planted:
    return Planted()


@pytest.fixture
def engine(backend: Planted) -> Engine:
    return Engine(backend)


def test_stream_grows_and_ends_with_the_finished_caption(engine: Engine) -> None:
    steps = list(engine.stream(picture("red")))
    assert [step.text for step in steps] == ["A", "A red", "A red picture", "A red picture."]
    last = steps[-1]
    assert last.raw_text == "a red picture ."
    assert last.language == "en" and last.instruction == "Describe the picture."
    assert last.log_probability == -2.0
    assert 0 < last.seconds < 5
    assert engine.caption(picture("red")).text == last.text


def test_caption_passes_instruction_language_and_decoding_on(engine: Engine) -> None:
    assert engine.caption(picture("blue"), "in  the\nsky").text == "A blue picture in the sky."
    assert engine.caption(picture("green"), language="zh").text == "一张绿图。"
    assert engine.caption(picture("green"), language="zh").instruction == "描述这张图片。"
    assert engine.caption(picture("blue"), "in  the\nsky").instruction == "in the sky"
    seeded = engine.caption(picture("red"), decoding=Decoding(strategy="sample", seed=1))
    assert seeded.text == "A very red picture."
    assert engine.caption(picture("red"), decoding=Decoding(max_tokens=2)).text == "A red."


def test_seconds_leave_out_the_time_that_the_caller_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("vitdemo.engine.time.perf_counter", lambda: clock[0])

    class Ticking(Planted):
        def _enter(self) -> threading.Lock:
            clock[0] += 1  # the encoder and each of the four words take a second
            return super()._enter()

    seconds = []
    for caption in Engine(Ticking()).stream(picture("red")):
        seconds.append(caption.seconds)
        clock[0] += 100
    assert seconds == [2, 3, 4, 5]


def test_second_question_on_a_picture_skips_the_vision_encoder(engine: Engine,
                                                              backend: Planted) -> None:
    one = picture("red")
    engine.ask(one, "what colour is it?")
    engine.ask(picture("red"), "and this?")  # the same pixels, another object
    caption = engine.caption(one)
    engine.explain(one, caption)
    engine.explain(one, caption)
    engine.match(one, ["red"])
    engine.embed_pictures([one])
    assert backend.batches == [1, 1]  # the picture, and a grey one to explain words
    engine.ask(picture("blue"), "what colour is it?")
    assert backend.batches == [1, 1, 1]


def test_cache_forgets_the_picture_not_used_for_longest(backend: Planted) -> None:
    engine = Engine(backend, EngineConfig(cached_pictures=2))
    for colour in ("red", "green", "red", "blue", "red"):
        engine.ask(picture(colour), "what colour?")
    assert len(backend.batches) == 3
    engine.ask(picture("green"), "what colour?")
    assert len(backend.batches) == 4


def test_what_is_kept_is_bounded_in_bytes() -> None:
    class Large(Planted):
        def encode_pictures(self, pictures):  # type: ignore[no-untyped-def]
            return [type(one)({"cells": [one.data, np.zeros(2**22, np.uint8)]}, one.size)
                    for one in super().encode_pictures(pictures)]

        def embed_pictures(self, features):  # type: ignore[no-untyped-def]
            return np.ones((len(features), 3), np.float32)

    backend = Large()
    engine = Engine(backend, EngineConfig(cached_megabytes=10))
    for colour in ("red", "green", "red", "blue", "red"):  # 4 MB and some bytes each
        engine.embed_pictures([picture(colour)])
        assert 0 < engine.cached_bytes <= 10 * 2**20
    assert len(backend.batches) == 3
    engine.embed_pictures([picture("green")])
    assert len(backend.batches) == 4


def test_a_batch_does_not_push_pictures_out_of_the_cache(backend: Planted) -> None:
    engine = Engine(backend, EngineConfig(cached_pictures=2))
    engine.ask(picture("red"), "what colour?")
    many = [picture("green", (40, 30 + n)) for n in range(20)]
    vectors = engine.embed_pictures([*many, picture("red")])
    assert vectors.shape == (21, 3) and vectors.dtype == np.float32
    assert vectors[20].argmax() == 0 and vectors[3].argmax() == 1
    assert sum(backend.batches) == 1 + 20  # the red one came from the cache
    engine.ask(picture("red"), "what colour?")
    assert sum(backend.batches) == 1 + 20
    engine.ask(many[-1], "what colour?")
    assert sum(backend.batches) == 1 + 20 + 1  # of the others none was kept


def test_ask_gives_runners_up_and_reads_the_language_off_the_question(engine: Engine) -> None:
    answer = engine.ask(picture("green"), " what colour\tis it? ", count=3)
    assert (answer.text, answer.question, answer.language) == ("green", "what colour is it?", "en")
    assert len(answer.runners_up) == 2 and answer.probability > answer.runners_up[0].probability
    assert engine.ask(picture("green"), "什么颜色？").language == "zh"
    assert engine.ask(picture("green"), "what colour?", count=1).runners_up == ()
    with pytest.raises(ConfigError, match="at least 1"):
        engine.ask(picture("green"), "what colour?", count=0)


def test_match_keeps_the_order_and_picks_the_right_text(engine: Engine) -> None:
    found = engine.match(picture("blue"), ["a red thing", "蓝色的", "green"])
    assert [one.text for one in found] == ["a red thing", "蓝色的", "green"]
    assert np.argmax([one.score for one in found]) == 1
    assert found[1].similarity == pytest.approx(1, abs=1e-4)
    assert found[0].similarity == pytest.approx(0, abs=1e-4)
    assert engine.match(picture("blue"), []) == []


def test_match_without_vectors_gives_no_similarity() -> None:
    class NoVectors(Planted):
        def score_pairs(self, features, texts):  # type: ignore[no-untyped-def]
            return np.full((1, len(texts)), 0.5, np.float32)

    found = Engine(NoVectors(tasks=("match",))).match(picture("red"), ["red"])
    assert found[0].score == 0.5 and np.isnan(found[0].similarity)


def test_explain_takes_captions_answers_and_sentences(engine: Engine) -> None:
    one = picture("red")
    (caption,) = engine.explain(one, engine.caption(one))
    assert caption.source == "caption" and caption.text == "a red picture ."
    assert [word.text for word in caption.words] == ["a", "red", "picture"]
    assert caption.picture_size == (40, 30)
    question, answer = engine.explain(one, engine.ask(one, "what colour is it?"))
    assert (question.source, question.text) == ("question", "what colour is it?")
    assert (answer.source, answer.text) == ("answer", "red")
    (text,) = engine.explain(one, "a red\nthing")
    assert (text.source, text.text) == ("text", "a red thing")


def test_a_caption_without_words_has_no_explanation(engine: Engine) -> None:
    class Silent(Planted):
        def generate(self, features, instruction, language, decoding):  # type: ignore
            for step in super().generate(features, instruction, language, decoding):
                if step.final:
                    yield type(step)("", step.log_probability, True)

    silent = Engine(Silent())
    caption = silent.caption(picture("red"))
    assert caption.text == "" and silent.explain(picture("red"), caption) == ()


def test_embed_of_nothing_and_of_many_texts(engine: Engine) -> None:
    assert engine.embed_pictures([]).shape == (0, 3)
    assert engine.embed_texts([]).shape == (0, 3)
    vectors = engine.embed_texts(["red", "blue"] * 50)
    assert vectors.shape == (100, 3) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors.argmax(1) == [0, 2] * 50).all()


@pytest.mark.parametrize("text, message", [
    ("", "empty. Write"), (" \n\t ", "empty. Write"),
    ("x" * (LIMITS.max_text_characters + 1), "limit is 2000"),
    ("red\0", r"U\+0000"), ("a\x1b[31mred", r"U\+001B.*place 2"), ("\ud800", r"U\+D800"),
])
def test_bad_texts_are_refused_everywhere(engine: Engine, text: str, message: str) -> None:
    calls = [lambda: engine.ask(picture(), text), lambda: engine.match(picture(), ["red", text]),
             lambda: engine.explain(picture(), text), lambda: engine.embed_texts([text])]
    if text.strip():
        calls.append(lambda: engine.stream(picture(), text))  # at once, before the first word
    for call in calls:
        with pytest.raises(TextError, match=message):
            call()


def test_text_at_the_limit_and_in_any_script_is_taken() -> None:
    assert len(clean_text("x" * LIMITS.max_text_characters, "It")) == LIMITS.max_text_characters
    assert clean_text("cafe\u0301", "It") == "caf\u00e9"
    assert clean_text("👩‍🚒 مرحبا", "It") == "👩‍🚒 مرحبا"


def test_too_many_sentences_are_refused(engine: Engine) -> None:
    engine.match(picture(), ["red"] * LIMITS.max_sentences)
    with pytest.raises(TextError, match="at most 100"):
        engine.match(picture(), ["red"] * (LIMITS.max_sentences + 1))


def test_languages_that_the_model_lacks_are_refused_by_name() -> None:
    engine = Engine(Planted(languages=("en",)))
    with pytest.raises(TaskError, match=r"中文.*knows English"):
        engine.stream(picture(), language="zh")
    with pytest.raises(TaskError, match="'fr'"):
        engine.caption(picture(), language="fr")
    for call in (lambda: engine.ask(picture(), "什么颜色？"),
                 lambda: engine.ask(picture(), "什么颜色？", language="en"),
                 lambda: engine.match(picture(), ["red", "红色"]),
                 lambda: engine.explain(picture(), "红色"),
                 lambda: engine.embed_texts(["红色"])):
        with pytest.raises(TaskError, match="English"):
            call()


def test_tasks_that_the_model_lacks_are_refused_with_its_reason() -> None:
    engine = Engine(Planted(tasks=(), missing={"ask": "it has no answer head"}))
    with pytest.raises(TaskError, match="planted cannot answer questions: it has no answer head"):
        engine.ask(picture(), "what?")
    caption = Engine(Planted()).caption(picture())
    for call in (lambda: engine.stream(picture()), lambda: engine.match(picture(), ["red"]),
                 lambda: engine.explain(picture(), caption), lambda: engine.gallery(),
                 lambda: engine.embed_texts(["red"]), lambda: engine.embed_pictures([])):
        with pytest.raises(TaskError, match="planted cannot"):
            call()


def test_a_slow_reader_of_a_stream_does_not_hold_the_device(engine: Engine) -> None:
    stream = engine.stream(picture("red"))
    next(stream)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(engine.ask(picture(), "what?").text))
    thread.start()
    thread.join(timeout=5)
    assert answers == ["red"]  # while the stream is half-way
    assert [caption.text for caption in stream][-1] == "A red picture."


def test_a_stream_left_half_way_frees_everything(engine: Engine, backend: Planted) -> None:
    stream = engine.stream(picture("red"))
    next(stream)
    stream.close()
    assert backend.closed == 1
    other = engine.stream(picture("red"))
    next(other)
    del other
    gc.collect()
    assert backend.closed == 2
    assert engine.ask(picture(), "what?").text == "red"


def test_a_fault_in_the_model_frees_the_device(engine: Engine, backend: Planted) -> None:
    backend.answer = lambda *_: 1 / 0  # type: ignore
    with pytest.raises(ZeroDivisionError):
        engine.ask(picture(), "what?")
    assert engine.caption(picture("red")).text == "A red picture."


def test_many_threads_take_turns() -> None:
    engine = Engine(Planted(pause=0.001))  # asserts that it is never entered twice
    colours = ["red", "green", "blue"]
    wrong: list[str] = []

    def work(number: int) -> None:
        colour = colours[number % 3]
        try:
            for _ in range(5):
                *_, last = engine.stream(picture(colour))
                if last.text != f"A {colour} picture.":
                    wrong.append(last.text)
                if engine.embed_texts([colour])[0].argmax() != number % 3:
                    wrong.append(colour)
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_a_captions_wait_for_an_indexing_thread_is_one_batch() -> None:
    backend = Planted(pause=0.02)
    engine = Engine(backend)
    many = [picture("green", (40, 30 + n)) for n in range(320)]
    indexing = threading.Thread(target=lambda: engine.embed_pictures(many))
    indexing.start()
    while not backend.batches:
        time.sleep(0.001)
    engine.ask(picture("red"), "what?")
    assert indexing.is_alive() and len(backend.batches) < 10
    indexing.join(timeout=30)


class Logged(Planted):
    """Notes what the device does, in order: a "word" of a caption, or how many pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[object] = []

    def encode_pictures(self, pictures):  # type: ignore[no-untyped-def]
        self.log.append(len(pictures))
        return super().encode_pictures(pictures)

    def generate(self, *arguments):  # type: ignore[no-untyped-def]
        for step in super().generate(*arguments):
            self.log.append("word")
            yield step


@pytest.mark.parametrize("kind", ["evidence", "indexing", "second look", "share"])
@pytest.mark.parametrize("jobs", [1, 5])
def test_a_word_waits_for_one_short_slice_beside_any_number_of_checks(kind: str,
                                                                     jobs: int) -> None:
    backend, ended = Logged(), threading.Event()
    engine = Engine(backend, lock=DeviceLock(pause=1e6, share=16))  # none begins by itself
    many = [picture("green", (40, 30 + n)) for n in range(40)]
    checks = {
        "evidence": lambda n: engine.evidence(many[n % 40], "red words on green", seed=n),
        "indexing": lambda n: engine.embed_pictures(many),
        "second look": lambda n: engine.match_pictures(many, ["red", "a green one"]),
        "share": lambda n: engine.picture_share(many[n % 40], "a red thing"),
    }

    def work(number: int) -> None:
        while not ended.is_set():
            checks[kind](number)
            number += jobs

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(jobs)]
    with engine._lock:
        for thread in threads:
            thread.start()
        while engine._lock.waiting() != (0, jobs):
            time.sleep(0.001)
    caption = engine.caption(picture("red"), "and " * 60, decoding=Decoding(max_tokens=70))
    assert len(caption.text.split()) > 60
    words = [place for place, what in enumerate(backend.log) if what == "word"]
    between = [backend.log[a + 1:b] for a, b in itertools.pairwise(words)]
    assert max(len(others) for others in between) <= 1
    assert sum(len(others) for others in between) <= len(words) / 16 + 1
    ended.set()
    while any(thread.is_alive() for thread in threads):
        with engine._lock:  # persons go on, and yet the checks come to their end
            pass


def test_doubting_a_word_gives_the_device_back_after_every_word() -> None:
    class Held(DeviceLock):
        def __enter__(self):  # type: ignore[no-untyped-def]
            turns.append(1)
            return super().__enter__()

    turns: list[int] = []
    engine = Engine(Planted(), lock=Held())
    caption = engine.caption(picture("red"), "very much")
    turns.clear()
    engine.what_if(picture("red"), caption, 1)
    assert len(turns) >= 2 * len(caption.text.split())  # it is written twice


def test_the_real_backend_keeps_to_the_engine(native_backend: NativeBackend) -> None:
    """Streams that take turns give what each gives alone, and leave no mode of torch behind."""
    engine = Engine(native_backend)
    pictures = [picture("red"), picture("blue", (64, 48))]
    decoding = Decoding(max_tokens=6, min_tokens=3)
    alone = [engine.caption(one, decoding=decoding).raw_text for one in pictures]
    streams = [engine.stream(one, decoding=decoding) for one in pictures]
    last = ["", ""]
    for _ in range(8):
        for number, stream in enumerate(streams):
            caption = next(stream, None)
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            if caption is not None:
                last[number] = caption.raw_text
                engine.match(pictures[1 - number], ["a dog runs"])
                engine.explain(pictures[0], "a red dog")
    assert last == alone
    answer = engine.ask(pictures[0], "what colour is it?")
    assert 0 <= answer.probability <= 1 and len(answer.runners_up) <= 4
    (text,) = engine.explain(pictures[0], "a red dog")
    assert [word.text for word in text.words] == ["a", "red", "dog"]
    assert text.picture_size == (40, 30)
    gallery = engine.gallery()
    gallery.add([("red", pictures[0]), ("blue", pictures[1])])
    assert gallery.search_picture(pictures[1])[0].path == "blue"
