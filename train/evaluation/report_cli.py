"""What the evaluation commands share: data at the start, and at the end a printed table and the
figures as JSON."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.data.reading import Split, find_splits, read_split
from train.evaluation.vqa_metrics import CONDITIONS
from vitdemo.errors import ConfigError, DataError, VitDemoError

Figures = dict[str, Any]


def finish(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], Figures],
           table: Callable[[Figures], str]) -> int:
    """Print what ``run`` finds and write it to ``arguments.json``, if that is given.

    Exit code as `command`.
    """
    def work() -> None:
        if arguments.json is not None and arguments.json.is_dir():
            raise DataError(f"--json {arguments.json} is a folder; give a file name.")
        figures = run(arguments)
        print(table(figures))
        if arguments.json is not None:
            write_json(arguments.json, figures)
    return command(work)


def command(work: Callable[[], None]) -> int:
    """Exit code 0, or 2 with one line on standard error where the input cannot be used."""
    try:
        work()
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_json(file: Path, figures: Figures) -> None:
    """Write figures to a file, in a folder that need not be there.

    Raises:
        DataError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}. "
                        "The figures stand above.") from error


def check(arguments: argparse.Namespace, **least: int) -> None:
    """Refuse options below their least value, by name; one that was not given is fine."""
    for name, low in least.items():
        value = getattr(arguments, name)
        if value is not None and value < low:
            raise ConfigError(f"--{name} is {value}; it must be {low} or more.")


def read_splits(arguments: argparse.Namespace) -> Iterator[Split]:
    """The splits of all ``arguments.data``, each with a name of its own, cut to the limit."""
    for name, folder in _unique(arguments.data, arguments.split):
        split = read_split(folder, skip_bad=arguments.skip_bad)
        if split.skipped:
            print(f"{name}: {len(split.skipped)} bad row(s) left out, the first: "
                  f"{split.skipped[0]}", file=sys.stderr)
        yield replace(split, name=name, rows=split.rows[:arguments.limit])


def _unique(paths: Sequence[Path], split: str) -> Iterator[tuple[str, Path]]:
    """All data folders once, each with a name of its own."""
    folders: dict[str, tuple[str, Path]] = {}
    for name, folder in (found for path in paths for found in find_splits(path, split)):
        folders.setdefault(os.path.realpath(folder), (name, folder))
    seen: Counter[str] = Counter()
    for name, folder in folders.values():
        seen[name] += 1
        yield name + f" ({seen[name]})" * (seen[name] > 1), folder


def rounded(value: Any, digits: int = 2) -> Any:
    """The same figures with so many digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(of, digits) for key, of in value.items()}
    return round(value, digits) if isinstance(value, float) else value


_TITLE = {"text_to_image": "text to picture", "image_to_text": "picture to text"}
_WAYS = tuple(_TITLE)
_CONDITION = {"blank": "blank picture", "wrong_picture": "wrong picture",
              "shuffled": "words shuffled", "no_fusion": "fusion off",
              "no_modulation": "modulation off"}


def table(figures: dict[str, Any]) -> str:
    """The figures of all data sets and what the checkpoint costs, as far as they are there."""
    lines: list[str] = []
    for name, parts in figures.items():
        if name.startswith("_"):
            continue
        lines += ["", name]
        for part, show in (("caption", _captions), ("retrieval", _retrieval),
                           ("vqa", _questions), ("choices", _choices), ("yes_no", _yes_no)):
            if part in parts:
                lines += show(parts[part])
    if "cost" in figures.get("_meta", {}):
        lines += ["", *_cost(figures["_meta"]["cost"])]
    return "\n".join(lines)


def _captions(parts: dict[str, Any]) -> Iterator[str]:
    yield line("captions", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "ROUGE-L", "METEOR",
               "pictures")
    keys = ("bleu1", "bleu2", "bleu3", "bleu4", "cider", "rouge_l", "meteor")
    for language, of in parts.items():
        yield line(f"  {language}", *(cell(of, key) for key in keys), of["pictures"])
    yield line("what is wrong in them", "twice", "person", "unsaid", "said")
    for language, of in parts.items():
        yield line(f"  {language}", *(of[key] for key in (
            "repeated", "person_unsaid", "things_unsaid", "things_said")))


def _retrieval(parts: dict[str, Any]) -> Iterator[str]:
    yield line("retrieval", "R@1", "R@5", "R@10", "median", "pictures", "texts")
    for language, of in parts.items():
        kinds = [("", of)]
        if "reranked" in of:
            kinds += [(f", best {of['reranked']['candidates']} re-ranked", of["reranked"])]
        for kind, found in kinds:
            for way in _WAYS:
                values = (cell(found[way], key) for key in ("r1", "r5", "r10", "median_rank"))
                yield line(f"  {language}, {_TITLE[way]}{kind}", *values, of["pictures"],
                           of["texts"])
    named = {language: of["names"] for language, of in parts.items() if "names" in of}
    if named:
        yield line("search by everyday names", "MRR", "re-ranked", "names")
    for language, of in named.items():
        again = cell(of["reranked"], "mrr") if "reranked" in of else None
        yield line(f"  {language}", cell(of, "mrr"), again, of["names"])


def _questions(parts: dict[str, Any]) -> Iterator[str]:
    yield line("questions", "exact", "VQA", "number")
    for title, of in (("all", parts), *((f"{part[3:]} {key}", of)
                                        for part in ("by_source", "by_type")
                                        for key, of in parts[part].items())):
        yield line(f"  {title}", cell(of, "accuracy"), cell(of, "vqa_score"), of["n"])
    tried = [key for key in CONDITIONS if key in parts]
    if tried:
        yield line("what is lost", "exact", "lost", "VQA", "lost")
    for title, of in (("all", parts), *((f"source {k}", v) for k, v in
                                        parts["by_source"].items())):
        for key in tried:
            yield line(f"  {title}, {_CONDITION[key]}", of[key]["accuracy"], of[key]["difference"],
                       of[key].get("vqa_score"), of[key].get("vqa_score_difference"))


def _choices(parts: dict[str, Any]) -> Iterator[str]:
    yield line("the best of given answers", "right", "blank", "chance", "number")
    yield line("  all", cell(parts, "accuracy"), parts.get("blank"), parts["chance"], parts["n"])
    for kind, right in parts["by_type"].items():
        if kind:
            yield line(f"  type {kind}", right)


def _yes_no(parts: dict[str, Any]) -> Iterator[str]:
    yield line("yes or no, from captions", "right", "said yes", "neither", "number")
    for language, of in parts.items():
        yield line(f"  {language}", of["accuracy"], of["said_yes"], of["neither"], of["n"])


def _cost(parts: dict[str, Any]) -> Iterator[str]:
    yield (f"checkpoint: {parts['megabytes']:.1f} MB, "
           f"{parts['parameters'] / 1e6:.1f} million parameters")
    if parts["caption"]:
        of = parts["caption"]
        yield (f"caption, greedy, picture file to last word: {of['seconds']:.2f} s "
               f"(median of {of['pictures']} pictures, {of['threads']} thread(s))")


def cell(figures: dict[str, Any], key: str) -> float | str | None:
    """A figure with half the width of its 95% interval, where it has one."""
    value, ends = figures.get(key), figures.get("ci", {}).get(key)
    return f"{value:.1f}±{(ends[1] - ends[0]) / 2:.1f}" if ends and value is not None else value


def line(title: str, *values: float | str | None) -> str:
    """One row: a title and numbers, right-aligned; "-" for None."""
    shown = ("-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
             for value in values)
    return f"{title:<44}" + "".join(f" {text:>9}" for text in shown)
