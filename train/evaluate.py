"""How good a checkpoint is on a data set: captions, retrieval and answers.

    python -m train.evaluate --checkpoint checkpoints/vitdemo-small --data my_pictures
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from train.data import Question, Split, find_splits, read_split
from train.figures import finish
from train.metrics import caption_scores, caption_words, exact_match, retrieval_scores, vqa_score
from train.predict import ModelPredictor, Predictor
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import load_checkpoint

LANGUAGES = ("en", "zh")
_PEOPLE = 10  # answers to a question that the official VQA score needs


@dataclass
class _Said:
    """Everything the model said about one split."""

    captions: dict[str, list[str]]  # for the rows that have captions in the language
    vectors: np.ndarray  # (rows, E)
    answers: list[str]
    blank_answers: list[str]


def evaluate_split(predictor: Predictor[Any], split: Split, *, blank: bool = False,
                   quiet: bool = False) -> dict[str, Any]:
    """All figures of one split, in percent; a part is there only where the split has such rows.

    "caption" -> language -> "bleu1".."bleu4", "cider", "rouge_l", "meteor" (None without Java),
    "pictures". "retrieval" -> language -> "text_to_image" and "image_to_text" -> "r1", "r5",
    "r10", "median_rank" (a rank); "pictures", "texts". "vqa" -> "accuracy" (exact), "n",
    "vqa_score" and "vqa_score_n" where questions have ten answers, "blank" (with ``blank``) ->
    "accuracy" and "difference" to the accuracy above; and the same by "by_source" and "by_type".
    """
    said = _predict(predictor, split, blank, quiet)
    figures: dict[str, Any] = {}
    for language in LANGUAGES:
        texts = [row.captions if language == "en" else row.captions_zh for row in split.rows]
        places = [i for i, of_row in enumerate(texts) if of_row]
        references = [texts[i] for i in places]
        if not any(caption_words(text) for of_row in references for text in of_row):
            continue
        scores = caption_scores(said.captions[language], references, language)
        figures.setdefault("caption", {})[language] = {**scores, "pictures": len(places)}
        flat = [text for of_row in references for text in of_row]
        picture_of = np.repeat(np.arange(len(places)), [len(of_row) for of_row in references])
        with tqdm(total=len(flat), desc=f"{split.name}: sentences ({language})", unit="text",
                  disable=quiet) as bar:
            vectors = predictor.embed_texts(flat, bar.update)
        figures.setdefault("retrieval", {})[language] = {
            **retrieval_scores(said.vectors[places], vectors, picture_of),
            "pictures": len(places), "texts": len(flat)}
    questions = [question for row in split.rows for question in row.questions]
    if questions:
        figures["vqa"] = _vqa_figures(questions, said, split.name)
    return figures


def _predict(predictor: Predictor[Any], split: Split, blank: bool, quiet: bool) -> _Said:
    said = _Said({language: [] for language in LANGUAGES}, np.zeros((0, 0)), [], [])
    vectors: list[np.ndarray] = []
    without_content = predictor.blank() if blank else None
    with tqdm(total=len(split.rows), desc=f"{split.name}: pictures", unit="picture",
              disable=quiet) as bar:
        for places, features in predictor.batches([row.path for row in split.rows]):
            rows = [split.rows[i] for i in places]
            for language in LANGUAGES:
                wanted = [i for i, row in enumerate(rows)
                          if (row.captions if language == "en" else row.captions_zh)]
                if wanted:
                    said.captions[language] += predictor.captions(features, wanted, language)
            vectors.append(predictor.embed_pictures(features))
            asked = [(i, q.question) for i, row in enumerate(rows) for q in row.questions]
            if asked:
                about, questions = [i for i, _ in asked], [text for _, text in asked]
                said.answers += predictor.answers(features, about, questions)
                if blank:
                    said.blank_answers += predictor.answers(without_content, [0] * len(asked),
                                                            questions)
            bar.update(len(rows))
    said.vectors = np.concatenate(vectors)
    return said


def _vqa_figures(questions: Sequence[Question], said: _Said, name: str) -> dict[str, Any]:
    """Over all questions, and by source (the data set's name where a row does not say) and type."""
    figures = _accuracy(questions, said, range(len(questions)))
    keys: tuple[tuple[str, Callable[[Question], str]], ...] = (
        ("by_source", lambda q: q.source or name), ("by_type", lambda q: q.type))
    for part, key in keys:
        groups: dict[str, list[int]] = {}
        for i, question in enumerate(questions):
            if key(question):
                groups.setdefault(key(question), []).append(i)
        figures[part] = {k: _accuracy(questions, said, groups[k]) for k in sorted(groups)}
    return figures


def _accuracy(questions: Sequence[Question], said: _Said, places: Sequence[int]) -> dict[str, Any]:
    def exact(answers: Sequence[str]) -> float:
        right = [exact_match(answers[i], questions[i].answer) for i in places]
        return 100 * float(np.mean(right))

    figures: dict[str, Any] = {"accuracy": exact(said.answers), "n": len(places)}
    by_people = [i for i in places if len(questions[i].answers) == _PEOPLE]
    if by_people:
        scores = [vqa_score(said.answers[i], questions[i].answers) for i in by_people]
        figures |= {"vqa_score": 100 * float(np.mean(scores)), "vqa_score_n": len(by_people)}
    if said.blank_answers:
        accuracy = exact(said.blank_answers)
        figures["blank"] = {"accuracy": accuracy, "difference": figures["accuracy"] - accuracy}
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures of all data sets as text, for a person."""
    lines: list[str] = []
    for name, parts in figures.items():
        if name.startswith("_"):
            continue
        lines += ["", name]
        if "caption" in parts:
            lines.append(_line("captions", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr",
                               "ROUGE-L", "METEOR", "pictures"))
            keys = ("bleu1", "bleu2", "bleu3", "bleu4", "cider", "rouge_l", "meteor", "pictures")
            lines += [_line(f"  {language}", *(of[key] for key in keys))
                      for language, of in parts["caption"].items()]
        if "retrieval" in parts:
            lines.append(_line("retrieval", "R@1", "R@5", "R@10", "median", "pictures", "texts"))
            lines += [_line(f"  {language}, {way.replace('_', ' ')}",
                            *(of[way][key] for key in ("r1", "r5", "r10", "median_rank")),
                            of["pictures"], of["texts"])
                      for language, of in parts["retrieval"].items()
                      for way in ("text_to_image", "image_to_text")]
        if "vqa" in parts:
            lines.append(_line("questions", "exact", "VQA", "blank", "gain", "number"))
            lines.append(_vqa_line("  all", parts["vqa"]))
            lines += [_vqa_line(f"  {part[3:]} {key}", of) for part in ("by_source", "by_type")
                      for key, of in parts["vqa"][part].items()]
    return "\n".join(lines)


def _vqa_line(title: str, of: dict[str, Any]) -> str:
    blank = of.get("blank", {})
    return _line(title, of["accuracy"], of.get("vqa_score"), blank.get("accuracy"),
                 blank.get("difference"), of["n"])


def _line(title: str, *values: float | str | None) -> str:
    def cell(value: float | str | None) -> str:
        return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)

    return f"{title:<24}" + "".join(f"{cell(value):>9}" for value in values)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate as the command line says: the content of the JSON file.

    Raises:
        VitDemoError: the checkpoint, the data or an option cannot be used.
    """
    for name in ("limit", "batch"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be 1 or more.")
    Decoding(beams=arguments.beams)  # a bad number is refused before anything is read
    placement = pick(arguments.device)
    checkpoint = load_checkpoint(arguments.checkpoint, placement.device)
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=arguments.beams,
                               batch=arguments.batch)
    started = time.time()
    figures: dict[str, Any] = {}
    for name, folder in _unique(arguments.data, arguments.split):
        split = read_split(folder, skip_bad=arguments.skip_bad)
        if split.skipped:
            print(f"{name}: {len(split.skipped)} bad row(s) left out, the first: "
                  f"{split.skipped[0]}", file=sys.stderr)
        split = replace(split, name=name, rows=split.rows[:arguments.limit])
        figures[name] = evaluate_split(predictor, split, blank=arguments.blank)
    return {**_rounded(figures), "_meta": {
        "checkpoint": checkpoint.folder.name, "revision": checkpoint.revision,
        "split": arguments.split, "limit": arguments.limit, "beams": arguments.beams,
        "device": str(placement.device), "seconds": round(time.time() - started, 1)}}


def _unique(paths: Sequence[Path], split: str) -> Iterator[tuple[str, Path]]:
    """All data folders once, each with a name of its own."""
    seen: dict[str, str] = {}
    for name, folder in [found for path in paths for found in find_splits(path, split)]:
        real = os.path.realpath(folder)
        if real in seen.values():
            continue
        title, number = name, 2
        while title in seen:
            title, number = f"{name} ({number})", number + 1
        seen[title] = real
        yield title, folder


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(of) for key, of in value.items()}
    return round(value, 2) if isinstance(value, float) else value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.evaluate", description=(
        "Figures of a checkpoint on pictures with captions or questions: BLEU, CIDEr, ROUGE-L "
        "(METEOR where Java is), recall@1/5/10, VQA accuracy."))
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add("--data", type=Path, required=True, action="append", metavar="DIR", help=(
        "a folder with a metadata.jsonl, a data set with splits inside, or a folder of data "
        "sets; may be given several times"))
    add("--split", default="validation", help="which split of a data set (default: validation)")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("--limit", type=int, metavar="N", help="only the first N pictures of each data set")
    add("--beams", type=int, default=3, help="beams of the search for words, 1 is greedy (3)")
    add("--batch", type=int, default=32, help="pictures at a time (32)")
    add("--blank", action="store_true", help=(
        "ask every question about a blank picture too: what the model knows without looking"))
    add("--skip-bad", action="store_true", help="leave bad rows out instead of stopping")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    return finish(parser().parse_args(argv), run, table)


if __name__ == "__main__":
    sys.exit(main())
