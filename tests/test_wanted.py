"""What nobody waits for any more stops using the model."""

import threading

import pytest
from fake_engine import PlantedBackend
from PIL import Image

from vitdemo import wanted
from vitdemo.engine import Engine
from vitdemo.lock import DeviceLock
from vitdemo.preprocess import open_picture
from vitdemo.wanted import NotWanted


def photo() -> object:
    return open_picture(Image.effect_noise((80, 60), 80).convert("RGB"))


def test_a_caption_ends_at_the_next_word() -> None:
    engine, still = Engine(PlantedBackend()), True
    context = wanted.while_wanted(lambda: still)
    steps = context.run(engine.stream, photo())  # type: ignore[arg-type]
    first = context.run(next, steps)
    still = False
    with pytest.raises(NotWanted):
        context.run(next, steps)
    assert first.text
    assert engine.caption(photo())  # type: ignore[arg-type]  # others are not held up


def test_evidence_ends_at_the_next_batch_also_in_another_thread() -> None:
    backend = PlantedBackend()
    engine, done = Engine(backend), 0

    def still() -> bool:
        return backend.pictures < 16

    def work() -> None:
        nonlocal done
        caption = engine.caption(photo())  # type: ignore[arg-type]
        with pytest.raises(NotWanted):
            engine.evidence(photo(), caption)  # type: ignore[arg-type]
        done = backend.pictures

    context = wanted.while_wanted(still)
    thread = threading.Thread(target=context.run(wanted.for_a_thread, work))
    thread.start()
    thread.join()
    assert 16 <= done <= 48  # of more than a hundred pictures


def test_what_is_not_wanted_when_its_turn_comes_hands_the_device_on() -> None:
    lock, still, order, asked = DeviceLock(), True, [], threading.Event()

    def ask() -> bool:
        asked.set()
        return still

    def take(name: str) -> None:
        try:
            with lock:
                order.append(name)
        except NotWanted:
            order.append(f"not {name}")

    with lock:
        late = threading.Thread(target=wanted.while_wanted(ask).run, args=(take, "late"))
        late.start()
        asked.wait()  # it was wanted when it came
        still = False
    late.join()
    take("next")
    assert order == ["not late", "next"]


def test_work_within_work_ends_with_it() -> None:
    outer = inner = True
    context = wanted.while_wanted(lambda: outer)
    within = context.run(wanted.while_wanted, lambda: inner)
    within.run(wanted.check)
    outer = False
    with pytest.raises(NotWanted):
        within.run(wanted.check)
    wanted.check()  # nothing of it outside
