"""A training run that is small enough for a test."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CAPTIONS = ("Two dogs run on the grass .", "A dog is running with a red ball .", "dogs play")
CAPTIONS_ZH = ("两只狗在草地上跑。", "一只狗和红色的球。")


def arguments(data: Path, start: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--from", str(start), "--out", str(out), "--cache",
            str(out.parent / "cache"), "--steps", "12", "--validate-every", "6", "--pairs", "6",
            "--caption-pictures", "4", "--questions", "4", "--texts-per-picture", "2",
            "--mixed-precision", "no", *more]


def interrupted(work: Callable[..., Any], call: int) -> Callable[..., Any]:
    """``work``, with Ctrl-C in the place of its call of that number, from 0."""
    calls = itertools.count()

    def working(*given: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return work(*given)

    return working


def losses_of(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]
