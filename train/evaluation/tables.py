"""The figures of `evaluate` as text, for a person."""

from collections.abc import Iterator
from typing import Any

from train.evaluation.vqa_metrics import CONDITIONS

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
                           ("vqa", _questions), ("choices", _choices), ("yes_no", _yes_no),
                           ("match", _match)):
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
            best = of["reranked"]["candidates"]
            kinds += [(f", best {best} re-ranked", of["reranked"]),
                      (f", best {best} by match alone", of["reranked"]["match_alone"])]
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


def _match(parts: dict[str, Any]) -> Iterator[str]:
    yield line("right caption or hard wrong one", "right", "blank", "number")
    for language, of in parts.items():
        yield line(f"  {language}", of["accuracy"], of.get("blank"), of["n"])
        for kind, found in of["by_kind"].items():
            title = {"similar": "of a similar picture", "changed": "one word changed"}.get(
                kind, f"{kind} changed")
            yield line(f"  {language}, {title}", found["accuracy"], found.get("blank"), found["n"])


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
