"""The figures by which captions, retrieval and answers are judged, all in percent.

Captions go through pycocoevalcap, the field's own code, on words that are cut here:
- English: Unicode NFKC, lower case, then words and numbers without punctuation. A hyphen stays
  inside a word ("t-shirt", also written "t - shirt"), an apostrophe parts one ("man's" and
  "man 's" are both "man s", as many words as the Penn Treebank tokeniser of the COCO evaluation
  makes of them).
- Chinese: NFKC, lower case, no spaces between characters, then the words of jieba, without
  punctuation; Latin words and numbers in it as in English.
"""

import math
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.evaluation.bootstrap import draw, interval, mean_interval
from train.grounding.coco_words import categories
from vitdemo.words import is_chinese, normalise_answer, repeated_words, segment_chinese

RECALLS = (1, 5, 10)

_LATIN = r"[^\W_\u3400-\u9fff]+"
_PIECES = re.compile(rf"[\u3400-\u4dbf\u4e00-\u9fff]+|\d+(?:[.,]\d+)+|{_LATIN}(?:-{_LATIN})*")
_BETWEEN_CHARACTERS = re.compile(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])")
_SPACED_HYPHEN = re.compile(r"(?<=[^\W_]) - (?=[^\W_])")
_INNER_MARK = re.compile(r"(?<=\w)\s*([-':/&.])\s*(?=\w)")
_METEOR_SECONDS = 900  # it needs about 10 s for 1,000 captions

# Steps of the official VQA evaluation (Antol et al. 2015); see `normalise_vqa`.
_VQA_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_VQA_NUMBERS = {word: str(number) for number, word in enumerate(
    "zero one two three four five six seven eight nine ten".split())} | {"none": "0"}
_VQA_CONTRACTION = re.compile(
    r"\b(\w+)'((?<=n')t|ve|re|ll|d|m)\b|\b(he|she|that|there|what|when|where|who|why|how|let|"
    r"somebody|someone|something)'(s)\b")


def caption_words(text: str) -> list[str]:
    """The words of a caption that are compared, as the module's docstring says."""
    text = _BETWEEN_CHARACTERS.sub("", unicodedata.normalize("NFKC", text).lower())
    text = _SPACED_HYPHEN.sub("-", text)
    words: list[str] = []
    for piece in _PIECES.findall(text):
        words += segment_chinese(piece) if is_chinese(piece) else [piece]
    return words


def caption_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]],
                   language: str) -> dict[str, Any]:
    """Corpus scores of one caption per picture against that picture's human captions.

    Returns "bleu1".."bleu4" (with brevity penalty against the closest reference), "cider" (100
    times the library's figure, as usual: it may exceed 100), "rouge_l" and "meteor", which is
    None in Chinese and where Java is missing. A reference without any word is left out. "ci" has
    the 95% intervals of "bleu4" and "cider"; that of CIDEr is of the mean of the pictures' own,
    with what the whole split says of how rare a word is.
    """
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, wanted = _cut(hypotheses, references)
    scores: dict[str, Any] = {**_bleu(said, wanted)}
    cider, of_pictures = Cider().compute_score(wanted, said)
    scores["cider"] = 100 * float(cider)
    scores["rouge_l"] = 100 * float(Rouge().compute_score(wanted, said)[0])
    hypothesis_lines = [texts[0] for texts in said.values()]
    scores["meteor"] = meteor(hypothesis_lines, list(wanted.values())) if language == "en" else None
    sums = draw(len(said)) @ bleu_counts(said, wanted)
    scores["ci"] = {"bleu4": interval(100 * bleu4_of(sums)),
                    "cider": mean_interval(of_pictures, np.arange(len(said)))}
    return scores


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """"bleu1".."bleu4" in percent alone, for a quick look; as in `caption_scores`."""
    return _bleu(*_cut(hypotheses, references))


def _cut(hypotheses: Sequence[str], references: Sequence[Sequence[str]],
         ) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """What the library takes: words with one space between, by picture, said and wanted."""
    said: dict[int, list[str]] = {}
    wanted: dict[int, list[str]] = {}
    for i, (hypothesis, texts) in enumerate(zip(hypotheses, references, strict=True)):
        kept = [joined for text in texts if (joined := " ".join(caption_words(text)))]
        if kept:
            said[i], wanted[i] = [" ".join(caption_words(hypothesis))], kept
    if not wanted:
        raise ValueError("there is no reference caption with a word in it")
    return said, wanted


def _bleu(said: dict[int, list[str]], wanted: dict[int, list[str]]) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu

    found, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    return {f"bleu{n}": 100 * float(value) for n, value in enumerate(found, 1)}


def bleu_counts(said: dict[int, list[str]], wanted: dict[int, list[str]]) -> np.ndarray:
    """What BLEU adds up over pictures: (P, 10), of 1 to 4 words in a row how many are right and
    how many there are, then the words said and those of the reference nearest to that in length."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    cooked = [cook_test(said[i][0], cook_refs(wanted[i]), eff="closest") for i in said]
    return np.array([[*of["correct"], *of["guess"], of["testlen"], of["reflen"]]
                     for of in cooked], np.float64)


def bleu4_of(sums: np.ndarray) -> np.ndarray:
    """BLEU-4, 0..1, of sums (S, 10) of `bleu_counts`: (S,), with the library's small numbers."""
    right, there, (words, wanted) = sums[:, :4], sums[:, 4:8], sums[:, 8:].T
    precision = ((right + 1e-15) / (there + 1e-9)).prod(1) ** 0.25
    ratio = (words + 1e-15) / (wanted + 1e-9)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float | None:
    """METEOR 1.5 (Denkowski, Lavie 2014) of English captions, or None where it cannot run.

    It runs as one Java process over files, under a time limit: the library's own wrapper talks to
    the process line by line and hangs for ever when Java fails. A picture with fewer references
    than another repeats its last one, which changes nothing: the best reference counts.
    """
    import pycocoevalcap.meteor.meteor as library

    java = shutil.which("java")
    if java is None:
        return None
    most = max(len(texts) for texts in references)
    padded = [[*texts, *[texts[-1]] * (most - len(texts))] for texts in references]
    with tempfile.TemporaryDirectory() as folder:
        said, wanted = Path(folder, "said"), Path(folder, "wanted")
        said.write_text("".join(f"{text}\n" for text in hypotheses), encoding="utf-8")
        wanted.write_text("".join(f"{t}\n" for texts in padded for t in texts), encoding="utf-8")
        command = [java, "-Xmx2G", "-jar", library.METEOR_JAR, str(said), str(wanted),
                   "-r", str(most), "-l", "en", "-norm"]
        try:
            done = subprocess.run(command, cwd=Path(str(library.__file__)).parent, check=True,
                                  capture_output=True, text=True, timeout=_METEOR_SECONDS)
        except (OSError, subprocess.SubprocessError):
            return None  # Java is there but does not work; the other scores stand
    found = re.search(r"^Final score:\s+([\d.]+)", done.stdout, re.MULTILINE)
    return 100 * float(found.group(1)) if found else None


def fault_figures(captions: Sequence[str],
                  references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """What is wrong in one caption per picture, beside all that people said of that picture in any
    language: words said twice, people who are not there, things that no person named. The last is
    CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning"), by what people said
    alone, as there are no boxes.

    "repeated": captions in which a content word stands twice, in percent. "person_unsaid": those
    that name a person where nobody did, in percent. "things_unsaid": COCO's categories that were
    named and that nobody named, per caption; "things_said": the share of the categories that
    people named that were named, in percent, None where people named none.
    """
    said = [categories(text) for text in captions]
    wanted = [set[str]().union(*map(categories, texts)) for texts in references]
    people = sum(map(len, wanted))
    wrong = [one - of for one, of in zip(said, wanted, strict=True)]
    right = sum(len(one & of) for one, of in zip(said, wanted, strict=True))
    count = len(captions)
    return {"repeated": 100 * sum(bool(repeated_words(text)) for text in captions) / count,
            "person_unsaid": 100 * sum("person" in of for of in wrong) / count,
            "things_unsaid": sum(map(len, wrong)) / count,
            "things_said": 100 * right / people if people else None}


def retrieval_scores(pictures: np.ndarray, texts: np.ndarray, picture_of: np.ndarray,
                     chunk: int = 512) -> dict[str, dict[str, Any]]:
    """Recall@1/5/10 in percent with 95% intervals, and median rank (from 1), both ways.

    ``pictures`` float32 (P, E) and ``texts`` float32 (M, E) are unit vectors, ``picture_of`` int
    (M,) is each text's picture. Text to image ranks all P pictures for each text; image to text
    ranks all M texts for each picture, and the best of its own counts. Equal similarities (to
    six places) are broken at random in expectation, so a model that sees no difference scores
    exactly chance.
    """
    texts = np.asarray(texts, np.float32)
    by_text, by_picture, judged = [], [], np.unique(picture_of)
    for start in range(0, len(texts), chunk):
        rows = slice(start, start + chunk)
        own = picture_of[rows, None] == np.arange(len(pictures))  # (chunk, P)
        by_text.append(best_places(texts[rows] @ pictures.T, own))
    for start in range(0, len(judged), chunk):
        some = judged[start:start + chunk]  # a picture with no text cannot be judged
        own = some[:, None] == picture_of  # (chunk, M)
        by_picture.append(best_places(pictures[some] @ texts.T, own))
    return {"text_to_image": recalls(np.concatenate(by_text), picture_of),
            "image_to_text": recalls(np.concatenate(by_picture), judged)}


def best_places(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """For each row the best own item's place: int (rows, 3) of how many items are certainly
    before it, how many are tied with it, and how many of those are its own."""
    similarity = similarity.round(6)
    best = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    tied = similarity == best
    return np.stack([(similarity > best).sum(1), tied.sum(1), (tied & own).sum(1)], axis=1)


def hits(places: np.ndarray) -> dict[str, np.ndarray]:
    """"r1", "r5" and "r10" of each row of `best_places`, the chance 0..1 that one of its own is
    among the first so many: (rows,) each."""
    rows = places.tolist()
    return {f"r{k}": np.array([_hit(before, tied, own, k) for before, tied, own in rows])
            for k in RECALLS}


def ranks(places: np.ndarray) -> np.ndarray:
    """The expected rank from 1 of the first own item, for each row of `best_places`: (rows,)."""
    before, tied, own = places.T
    return np.asarray(before + (tied + 1) / (own + 1))  # the smallest of `own` out of `tied`


def recalls(places: np.ndarray, picture: np.ndarray) -> dict[str, Any]:
    """Means in percent of `hits`, the median of `ranks`, and 95% intervals of the former, by draws
    of the pictures that the queries (rows,) belong to; what is searched through stays."""
    found = hits(places)
    return {**{key: 100 * float(of.mean()) for key, of in found.items()},
            "median_rank": float(np.median(ranks(places))),
            "ci": {key: mean_interval(of, picture) for key, of in found.items()}}


def _hit(before: int, tied: int, own: int, k: int) -> float:
    """The chance that one of ``own`` among ``tied`` items falls into the first k places."""
    slots = k - before
    if slots <= 0 or own == tied:
        return float(slots > 0)
    return 1 - math.comb(max(0, tied - slots), own) / math.comb(tied, own)


def exact_match(prediction: str, answer: str) -> bool:
    """Whether two answers are the same after `vitdemo.words.normalise_answer`; spaces around a
    mark inside a word or number ("10 : 30") do not count, since tokens do not keep them."""
    return normalise_answer(_join_marks(prediction)) == normalise_answer(_join_marks(answer))


def _join_marks(text: str) -> str:
    return _INNER_MARK.sub(r"\1", text.replace("’", "'"))


def vqa_score(prediction: str, answers: Sequence[str]) -> float:
    """The VQA score 0..1 of one answer against those of ten people (Antol et al. 2015).

    min(1, matches / 3), averaged over the subsets that leave out one person; both sides go
    through `normalise_vqa`.
    """
    said = normalise_vqa(prediction)
    same = [normalise_vqa(answer) == said for answer in answers]
    matches = sum(same)
    return float(np.mean([min(1.0, (matches - left_out) / 3) for left_out in same]))


def normalise_vqa(text: str) -> str:
    """An answer as the official VQA evaluation compares it.

    Contractions with and without apostrophe are one ("dont", "don't"), punctuation goes (next to
    a space or in a number such as 1,000 it vanishes, else it becomes a space), a full stop stays
    only before a digit, number words to ten become digits, articles go.
    """
    text = _join_marks(" ".join(text.lower().split()))
    text = _VQA_CONTRACTION.sub(lambda found: found.group().replace("'", ""), text)
    number = re.search(r"\d,\d", text) is not None
    whole = text
    for mark in _VQA_PUNCTUATION:
        near_space = f"{mark} " in whole or f" {mark}" in whole
        text = text.replace(mark, "" if near_space or number else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = [_VQA_NUMBERS.get(word, word) for word in text.split()]
    return " ".join(word for word in words if word not in ("a", "an", "the"))
