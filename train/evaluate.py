"""How good a checkpoint is on a data set: captions, retrieval and answers.

    python -m train.evaluate --checkpoint checkpoints/vitdemo-small --data my_pictures
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from train.data.reading import Row, Split
from train.evaluation.corruptions import corrupted
from train.evaluation.metrics import caption_scores, caption_words, fault_figures
from train.evaluation.predict import ModelPredictor
from train.evaluation.report_cli import check, finish, read_splits, rounded, table
from train.evaluation.retrieval import (
    name_search,
    names_said,
    reranked_scores,
    retrieval_scores,
)
from train.evaluation.steering import steering_figures
from train.evaluation.vqa_metrics import (
    YesNo,
    choice_figures,
    choice_scores,
    make_yes_no,
    shuffled,
    vqa_figures,
    wrong_pictures,
    yes_no_figures,
)
from vitdemo.allocator import keep_freed_memory
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.instructions import known
from vitdemo.models.checkpoint import FILES, Checkpoint, load_checkpoint
from vitdemo.models.names import read_names

LANGUAGES = ("en", "zh")
_TIMED = 40  # timed at most
_WARM_UP = 3  # captions before the clock counts


@dataclass(frozen=True)
class Parts:
    """What is evaluated beside captions, vectors and questions."""

    blank: bool = False  # every question about a blank picture too
    wrong_picture: bool = False  # every question about another row's picture too
    shuffled: bool = False  # every question with its words in another order too
    rerank: int = 0  # so many candidates are ranked anew by the match head; 0: none
    made: bool = False  # yes/no questions made from captions
    retrieval: bool = True  # vectors of all sentences and names, and what they find
    ablate: bool = False  # every question with parts of the model switched off too
    instructions: tuple[str, ...] = ("describe",)  # keys of those that are followed


@dataclass
class _Said:
    """Everything the model said about one split."""

    # language -> instruction -> texts of the rows that have captions in the language
    texts: dict[str, dict[str, list[str]]]
    vectors: np.ndarray  # (rows, E)
    kept: list[Any]  # of each picture what `match_logits` takes; empty where nothing is matched
    answers: dict[str, list[str]]  # what was asked -> answers in the order of the rows
    choices: dict[str, list[list[float]]]  # picture -> scores of the choices of questions with such


def evaluate_split(predictor: ModelPredictor, split: Split, parts: Parts = Parts(), *,
                   quiet: bool = False) -> dict[str, Any]:
    """All figures of one split, in percent; a part is there only where the split has such rows.

    "caption" -> language -> "bleu1".."bleu4", "cider", "rouge_l", "meteor" (None without Java),
    those of `fault_figures`, "pictures". "retrieval" -> language -> "text_to_image" and
    "image_to_text" -> "r1", "r5", "r10", "median_rank" (a rank); "pictures", "texts", "names" ->
    see `name_search`, and "reranked" -> see `reranked_scores`. "vqa" -> see `vqa_figures`.
    "choices" -> see `choice_figures`. "yes_no" -> language -> see `yes_no_figures`.
    "instructions" -> language -> see `steering_figures`. "ci" beside figures has their 95%
    intervals, by bootstrap.
    """
    made = {language: make_yes_no(split.rows, language) for language in LANGUAGES} \
        if parts.made else {}
    said = _predict(predictor, split, parts, made, quiet)
    figures: dict[str, Any] = {}
    for language in LANGUAGES:
        places = [i for i, row in enumerate(split.rows) if row.texts(language)]
        references = [split.rows[i].texts(language) for i in places]
        if not any(caption_words(text) for of_row in references for text in of_row):
            continue
        captions = said.texts[language]["describe"]
        scores = caption_scores(captions, references, language)
        everyone = [split.rows[i].captions + split.rows[i].captions_zh for i in places]
        figures.setdefault("caption", {})[language] = {
            **scores, **fault_figures(captions, everyone), "pictures": len(places)}
        if len(parts.instructions) > 1:
            figures.setdefault("instructions", {})[language] = steering_figures(
                [split.rows[i] for i in places], language, said.texts[language])
        if parts.retrieval:
            figures.setdefault("retrieval", {})[language] = _retrieval(
                predictor, said, places, references, language, parts.rerank,
                f"{split.name}: %s ({language})", quiet)
    questions = [(i, question) for i, row in enumerate(split.rows) for question in row.questions]
    if questions:
        figures["vqa"] = vqa_figures(questions, said.answers, split.name)
    if said.choices:
        figures["choices"] = choice_figures([each for each in questions if each[1].choices],
                                            said.choices)
    for language, asked in made.items():
        if asked:
            figures.setdefault("yes_no", {})[language] = yes_no_figures(
                asked, said.answers[f"yes_no {language}"], language)
    return figures


def _predict(predictor: ModelPredictor, split: Split, parts: Parts,
             made: dict[str, list[YesNo]], quiet: bool) -> _Said:
    rows, others = split.rows, wrong_pictures(split.rows) if parts.wrong_picture else {}
    said = _Said({language: {key: [] for key in parts.instructions} for language in LANGUAGES},
                 np.zeros((0, 0)), [], {}, {})
    asks, switched_off = _asks(rows, parts, made, others), {}
    if parts.ablate:
        switched_off = dict(predictor.ablations())
        asks.update(dict.fromkeys(switched_off, asks["right"]))
    answers: dict[str, list[list[str]]] = {name: [[] for _ in rows] for name in asks}
    vectors: list[np.ndarray] = []
    blank = predictor.blank() if parts.blank else None
    with tqdm(total=len(rows), desc=f"{split.name}: pictures", unit="picture",
              disable=quiet) as bar:
        for places, features in predictor.batches([row.path for row in rows]):
            for language in LANGUAGES:
                wanted = [i for i, place in enumerate(places) if rows[place].texts(language)]
                if wanted:
                    for key, written in said.texts[language].items():
                        written += predictor.captions(features, wanted, language, key)
            vectors.append(predictor.embed_pictures(features))
            if parts.rerank:
                said.kept += predictor.keep(features)
            for name, texts in asks.items():
                about = [i for i, place in enumerate(places) for _ in texts[place]]
                asked = [text for place in places for text in texts[place]]
                if not asked:
                    continue
                seen: Any = blank if name == "blank" else features
                places_seen = [0] * len(asked) if name == "blank" else about
                with switched_off.get(name, nullcontext)():
                    found = predictor.answers(seen, places_seen, asked)
                for i, answer in zip(about, found, strict=True):
                    answers[name][places[i]].append(answer)
            about = [i for i, place in enumerate(places) for q in rows[place].questions
                     if q.choices]
            choosing = [q for place in places for q in rows[place].questions if q.choices]
            if choosing:
                said.choices.setdefault("right", []).extend(
                    choice_scores(predictor, features, about, choosing))
            if choosing and blank is not None:
                said.choices.setdefault("blank", []).extend(
                    choice_scores(predictor, blank, [0] * len(about), choosing))
            bar.update(len(places))
    said.vectors = np.concatenate(vectors)
    for name, of_rows in answers.items():
        order = list(others.values()) if name == "wrong_picture" else range(len(rows))
        said.answers[name] = [answer for i in order for answer in of_rows[i]]
    return said


def _asks(rows: Sequence[Row], parts: Parts, made: dict[str, list[YesNo]],
          others: dict[int, int]) -> dict[str, list[list[str]]]:
    """What is asked, by name, of each row's picture, or of the blank one."""
    own = [[question.question for question in row.questions] for row in rows]
    asks = {"right": own}
    if parts.blank:
        asks["blank"] = own
    if parts.shuffled:
        asks["shuffled"] = [[shuffled(text) for text in texts] for texts in own]
    if others:
        asks["wrong_picture"] = [[] for _ in rows]
        for row, other in others.items():
            asks["wrong_picture"][other] = own[row]
    for language, questions in made.items():
        asks[f"yes_no {language}"] = [[] for _ in rows]
        for question in questions:  # by row, as the answers will be
            asks[f"yes_no {language}"][question.row].append(question.question)
    return asks


def _retrieval(predictor: ModelPredictor, said: _Said, places: Sequence[int],
               references: Sequence[Sequence[str]], language: str, count: int, title: str,
               quiet: bool) -> dict[str, Any]:
    flat = [text for of_row in references for text in of_row]
    picture_of = np.repeat(np.arange(len(places)), [len(of_row) for of_row in references])
    with tqdm(total=len(flat), desc=title % "sentences", unit="text", disable=quiet) as bar:
        vectors = predictor.embed_texts(flat, bar.update)
    pictures = said.vectors[places]
    figures: dict[str, Any] = {**retrieval_scores(pictures, vectors, picture_of),
                               "pictures": len(places), "texts": len(flat)}
    kept = [said.kept[i] for i in places] if count else []

    def match(texts: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        with tqdm(total=len(pairs), desc=title % "matching", unit="pair", disable=quiet) as bar:
            return predictor.match_logits(kept, texts, pairs, bar.update)

    if count:
        figures["reranked"] = reranked_scores(pictures, vectors, picture_of,
                                              partial(match, flat), count)
    by_name = np.array([names_said(of_row, read_names(), language) for of_row in references]).T
    known = np.asarray(by_name.any(axis=1))  # of names (W,)
    if known.any():
        words = [name.words[language] for name, is_known in zip(read_names(), known, strict=True)
                 if is_known]
        figures["names"] = name_search(predictor.embed_texts(words), pictures, by_name[known],
                                       partial(match, words), count)
    return figures


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate as the command line says: the content of the JSON file.

    Raises:
        VitDemoError: the checkpoint, the data or an option cannot be used.
    """
    check(arguments, limit=1, batch=1, threads=1, rerank=0)
    Decoding(beams=arguments.beams)  # a bad number is refused before anything is read
    keep_freed_memory()  # as the app does: it is timed, too
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.checkpoint, pick(arguments.device).device)
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=arguments.beams,
                               batch=arguments.batch)
    parts = Parts(arguments.blank, arguments.wrong_picture, arguments.shuffled, arguments.rerank,
                  arguments.made, ablate=arguments.ablate)
    if arguments.instructions:
        parts = replace(parts, instructions=known(checkpoint.meta.get("instructions")))
    started = time.time()
    figures: dict[str, Any] = {}
    timed: tuple[Row, ...] = ()
    for split in read_splits(arguments):
        figures[split.name] = evaluate_split(predictor, split, parts)
        for title, damaged in corrupted(split) if arguments.corruptions else ():
            figures[f"{split.name}, {title}"] = evaluate_split(predictor, damaged,
                                                               Parts(retrieval=False))
        timed = timed or split.rows
    return {**rounded(figures), "_meta": {
        "checkpoint": checkpoint.folder.name, "revision": checkpoint.revision,
        "split": arguments.split, "limit": arguments.limit, "beams": arguments.beams,
        "device": str(predictor.device), "seconds": round(time.time() - started, 1),
        "cost": rounded(cost(checkpoint, timed), 4)}}


def cost(checkpoint: Checkpoint, rows: Sequence[Row]) -> dict[str, Any]:
    """"megabytes" (millions of bytes of the folder's files), "parameters", and "caption": the
    median "seconds" from a picture's file to the last word, greedy, one picture at a time, with the
    slowest of ten in "seconds_p90", over how many "pictures", and with how many "threads".

    ``rows`` are those to draw from, evenly spread; "caption" is None where there are none.
    """
    files = [checkpoint.folder / name for name in (*FILES, "meta.json")]
    return {"megabytes": sum(file.stat().st_size for file in files) / 1e6,
            "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
            "caption": _caption_time(checkpoint, [row.path for row in rows])}


def _caption_time(checkpoint: Checkpoint, paths: Sequence[Path]) -> dict[str, Any] | None:
    if not paths:
        return None
    chosen = paths[::-(-len(paths) // _TIMED)]
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=1, batch=1)

    def seconds(path: Path) -> float:
        began = time.perf_counter()
        _, features = next(predictor.batches([path]))
        predictor.captions(features, [0], "en")
        return time.perf_counter() - began

    for i in range(_WARM_UP):
        seconds(chosen[i % len(chosen)])
    taken = sorted(seconds(path) for path in chosen)
    return {"seconds": statistics.median(taken),
            "seconds_p90": taken[min(len(taken) - 1, round(0.9 * len(taken)))],
            "pictures": len(taken), "threads": torch.get_num_threads()}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.evaluate", description=(
        "Figures of a checkpoint on pictures with captions or questions: BLEU, CIDEr, ROUGE-L "
        "(METEOR where Java is), recall@1/5/10 and search by everyday names before and after "
        "re-ranking, VQA accuracy, each with its 95% interval, yes/no questions from captions, "
        "size and speed."))
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add("--data", type=Path, required=True, action="append", metavar="DIR", help=(
        "a folder with a metadata.jsonl, a data set with splits inside, or a folder of data "
        "sets; may be given several times"))
    add("--split", default="validation", help="which split of a data set (default: validation)")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("--limit", type=int, metavar="N", help="only the first N pictures of each data set")
    add("--beams", type=int, default=Decoding.beams,
        help=f"beams of the search for words, 1 is greedy ({Decoding.beams})")
    add("--batch", type=int, default=32, help="pictures at a time (32)")
    add("--threads", type=int, metavar="N", help="CPU threads (default: what PyTorch chooses)")
    add("--skip-bad", action="store_true", help="leave bad rows out instead of stopping")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    add("--blank", action=argparse.BooleanOptionalAction, default=True, help=(
        "ask every question about a blank picture too: what the model knows without looking"))
    add("--wrong-picture", action=argparse.BooleanOptionalAction, default=True,
        help="ask every question about another row's picture too")
    add("--shuffled", action=argparse.BooleanOptionalAction, default=True,
        help="ask every question with its words in another order too")
    add("--rerank", type=int, default=50, metavar="K", help=(
        "rank the best K found anew by the match head (50; 0: do not). On a CPU the slowest part"))
    add("--made", action=argparse.BooleanOptionalAction, default=True,
        help="yes/no questions made from the captions")
    add("--corruptions", action="store_true", help=(
        "captions and answers about damaged pictures too, in five ways of three strengths"))
    add("--instructions", action="store_true", help=(
        "follow every other instruction that the checkpoint knows, too"))
    add("--ablate", action="store_true", help=(
        "ask every question with the fusion, and with the modulation, switched off too"))
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    return finish(parser().parse_args(argv), run, table)


if __name__ == "__main__":
    sys.exit(main())
