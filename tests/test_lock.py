"""Who has the device next, and how long a slice of long work is. Nothing here hangs on how fast the
machine is: pauses are endless or none, and the clock of slices is moved by hand."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from vitdemo.lock import DeviceLock
from vitdemo.slices import Slices

FOREVER = 1e6  # seconds


class Crowd:
    """Threads that take turns; ``order`` is that of their turns."""

    def __init__(self, lock: DeviceLock) -> None:
        self.lock = lock
        self.order: list[str] = []
        self.threads: list[threading.Thread] = []

    def ask(self, name: str, turn: AbstractContextManager[object]) -> None:
        """One turn, in a thread of its own that stands in line when this returns."""
        before = sum(self.lock.waiting())

        def work() -> None:
            with turn:
                self.order.append(name)

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()
        until(lambda: sum(self.lock.waiting()) > before or name in self.order)

    def end(self) -> None:
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    """Wait for an event that is certain to come."""
    wait = threading.Event()
    while not true():
        wait.wait(0.001)


def test_persons_go_before_checks_and_each_line_is_first_come_first_served() -> None:
    lock = DeviceLock(pause=0)
    crowd = Crowd(lock)
    with lock:
        for number in range(3):
            crowd.ask(f"check {number}", lock.later)
            crowd.ask(f"person {number}", lock)
    crowd.end()
    assert crowd.order == ["person 0", "person 1", "person 2", "check 0", "check 1", "check 2"]
    with lock:  # free again
        pass
    with lock.later:
        pass


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_a_text_waits_for_no_more_slices_beside_many_checks_than_beside_one(jobs: int) -> None:
    lock, ended = DeviceLock(pause=FOREVER, share=16), threading.Event()
    slices: list[int] = []

    def check() -> None:
        while not ended.is_set():
            with lock.later:
                slices.append(1)

    with lock:
        threads = [threading.Thread(target=check) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        until(lambda: lock.waiting() == (0, jobs))
    waits = []
    for _ in range(40):  # words; after each, the text's reader takes as long as it likes
        before = len(slices)
        with lock:
            waits.append(len(slices) - before)
    assert max(waits) <= 1 and sum(waits) <= 3
    ended.set()
    while any(thread.is_alive() for thread in threads):
        with lock:
            pass
    assert len(slices) >= 1


def test_no_check_waits_for_ever() -> None:
    lock = DeviceLock(pause=FOREVER, share=3)
    crowd = Crowd(lock)
    with lock:
        crowd.ask("check", lock.later)
    for number in range(8):
        with lock:
            crowd.order.append(f"person {number}")
    crowd.end()
    assert crowd.order.index("check") == 2  # the turn in which it began to wait is the first


def test_checks_begin_a_pause_after_the_last_person() -> None:
    now = [100.0]
    lock = DeviceLock(pause=5, share=1000, clock=lambda: now[0])
    crowd = Crowd(lock)
    with lock.later:  # nobody was there
        crowd.ask("early", lock.later)
    crowd.end()  # nor now
    with lock:
        pass
    now[0] += 4.99
    crowd.ask("check", lock.later)
    with lock:
        assert crowd.order == ["early"]
    now[0] += 5
    with lock.later:  # second in line: the first one goes before, at once
        assert crowd.order == ["early", "check"]
    crowd.end()


def test_a_turn_is_given_back_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = DeviceLock(pause=0)
    for turn in (lock, lock.later):
        with pytest.raises(ZeroDivisionError), turn:
            raise ZeroDivisionError

    def interrupted(seconds: float | None = None) -> bool:
        raise KeyboardInterrupt

    with lock:
        monkeypatch.setattr(lock._changed, "wait", interrupted)
        for turn in (lock, lock.later):
            with pytest.raises(KeyboardInterrupt), turn:
                pass
        assert lock.waiting() == (0, 0)
    with lock, pytest.raises(KeyboardInterrupt), lock.later:
        pass


# Slices

@pytest.fixture
def now() -> list[float]:
    return [0.0]


def cut(slices: Slices, now: list[float], items: int, pace: float) -> list[int]:
    """How many of the items each slice takes where one takes ``pace`` seconds."""
    def work(some: range) -> int:
        now[0] += pace * len(some)
        return len(some)

    return slices.each(range(items), work, DeviceLock())  # type: ignore[arg-type]


def test_slices_are_as_long_as_they_may_be_and_no_longer(now: list[float]) -> None:
    slices = Slices(2, 128, seconds=0.1, clock=lambda: now[0])
    assert cut(slices, now, 40, 0.011) == [2, 4, 8, 8, 8, 8, 2]
    assert cut(slices, now, 11, 0.011)[:2] == [4, 7] or slices() <= 8


def test_slices_grow_to_a_bound_and_never_below_the_fewest(now: list[float]) -> None:
    slices = Slices(2, 16, seconds=0.1, clock=lambda: now[0])
    assert cut(slices, now, 62, 0.0) == [2, 4, 8, 16, 16, 16]
    assert cut(slices, now, 8, 3.0) == [8]  # it was quick until now
    assert cut(slices, now, 6, 3.0) == [2, 2, 2]
    assert cut(slices, now, 0, 3.0) == []


def test_a_slice_that_fails_teaches_nothing_and_ends_the_work(now: list[float]) -> None:
    lock, slices = DeviceLock(), Slices(1, 16, clock=lambda: now[0])
    with pytest.raises(ZeroDivisionError):
        slices.each([1, 0], lambda some: 1 // some[0], lock)
    assert slices() == 2
    with lock:
        pass
