"""Data sets of different sizes: the share of each goes with the root of its size."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from learning import NoiseStore, learning

from train.data.batch_sampler import Balanced
from train.data.reading import Question, Row
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer


def test_a_group_is_drawn_by_the_root_of_its_size() -> None:
    items = Balanced(range(100), ["large"] * 90 + ["small"] * 10)
    maker = random.Random(0)
    drawn = Counter(items.draw(maker) for _ in range(20_000))
    small = sum(count for item, count in drawn.items() if item >= 90)
    assert small / 20_000 == pytest.approx(10 ** 0.5 / (10 ** 0.5 + 90 ** 0.5), abs=0.01)
    assert drawn[99] / drawn[0] == pytest.approx(3, rel=0.35)  # root of 90 over 10
    assert len(drawn) == len(items) == 100


def test_a_sample_has_no_item_twice() -> None:
    items = Balanced("abcdefghij", "1111111122")
    maker = random.Random(0)
    found = [items.sample(maker, 4) for _ in range(3000)]
    assert all(len(set(sample)) == 4 for sample in found)
    counts = Counter(item for sample in found for item in sample)
    assert counts["i"] > 1.3 * counts["a"] and min(counts.values()) > 700
    assert sorted(items.sample(maker, 99)) == list("abcdefghij")
    assert Balanced([], []).sample(maker, 3) == []


def test_captions_pairs_and_questions_come_from_all_data_sets(tokenizer: TextTokenizer,
                                                              tiny_model: VLM) -> None:
    asked = Question("what is there ?", "dog", (), "", "one")
    rows = [Row(Path(f"{i}.png"), ("a dog runs .",), (), (asked,), "large/train")
            for i in range(160)]
    rows += [Row(Path(f"s{i}.png"), ("a cat sits .",), (), (replace(asked, source="two"),),
                 "small/train") for i in range(10)]
    found = learning(tiny_model, rows, NoiseStore(tiny_model), tokenizer,
                     caption_pictures=50, pairs=20, questions=50)
    parts = [found.draw(step) for step in range(20)]
    for name in ("caption", "question", "contrastive"):
        drawn = [int(row) for part in parts for row in part[name].rows]
        share = sum(row >= 160 for row in drawn) / len(drawn)
        low, high = (0.12, 0.26) if name != "question" else (0.1, 0.3)
        assert low < share < high, (name, share)
