"""The memory that `benchmarks.backends` tells of, and its models' words."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.backends import with_memory
from benchmarks.random_models import words


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_memory_is_what_is_held_at_most_meanwhile() -> None:
    def way() -> int:
        np.ones(2**23)  # 64 MB, let go at once
        return len(np.ones(2**22))

    peaks: list[float] = []
    for _ in range(2):
        assert with_memory(way, peaks)() == 2**22
    with_memory(lambda: None, peaks)()
    assert all(2**25.9 < one < 2**27 for one in peaks[:2]), peaks
    assert peaks[2] < 2**23, peaks


def test_a_text_reads_back_as_the_same_words() -> None:
    tokenizer = words(100, "</s>", ("<image>",))
    assert len(tokenizer) == 100 and tokenizer.eos_token_id == 99
    ids = [5, 17, 96, 5]
    text = tokenizer.decode(ids)
    assert text == "w5 w17 w96 w5"
    assert tokenizer(f"<image> {text}")["input_ids"] == [98, *ids]
