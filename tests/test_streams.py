"""Passes side by side, a core each."""

import os
import threading
from collections.abc import Iterator

import pytest
import torch

from vitdemo import streams
from vitdemo.streams import side_by_side


@pytest.fixture
def four_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_from_threads_with_a_core_each(four_cores: None) -> None:
    together = threading.Barrier(4)

    def work(number: int) -> tuple[int, int, str]:
        if number < 4:
            together.wait(10)  # breaks unless four run at a time
        return number * number, torch.get_num_threads(), threading.current_thread().name

    found = list(side_by_side(work, range(9)))
    assert [square for square, _, _ in found] == [n * n for n in range(9)]
    assert {threads for _, threads, _ in found} == {1}
    assert threading.current_thread().name not in {name for _, _, name in found}


def test_the_rest_of_the_program_keeps_its_cores(four_cores: None) -> None:
    list(side_by_side(str, range(3)))
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), seen) == (4, [4])


def test_more_cores_than_streams_are_shared(monkeypatch: pytest.MonkeyPatch,
                                            four_cores: None) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 2)
    streams._streams.cache_clear()
    assert set(side_by_side(lambda _: torch.get_num_threads(), range(6))) == {2}
    streams._streams.cache_clear()


def test_what_goes_wrong_is_raised(four_cores: None) -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda number: 1 / number, [1, 0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_threads_of_its_own(four_cores: None) -> None:
    assert list(side_by_side(abs, [-1, -2])) == [1, 2]
    child = os.fork()
    if not child:  # a thread that was not copied would let it wait for ever
        os._exit(0 if list(side_by_side(abs, [-1, -2])) == [1, 2] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
