"""The figures by which captions and answers are judged, all in percent, and their 95% intervals, by
bootstrap (Efron 1979) over pictures and not over captions or questions: those of one picture are
not independent.

Captions go through pycocoevalcap, the field's own code, on words that are cut here:
- English: Unicode NFKC, lower case, then words and numbers without punctuation. A hyphen stays
  inside a word ("t-shirt", also written "t - shirt"), an apostrophe parts one ("man's" and
  "man 's" are both "man s", as many words as the Penn Treebank tokeniser of the COCO evaluation
  makes of them).
- Chinese: NFKC, lower case, no spaces between characters, then the words of jieba, without
  punctuation; Latin words and numbers in it as in English.

Shapes: P pictures, S draws of the bootstrap, R rows (texts, questions) of these pictures.
"""

import functools
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.coco_words import categories
from vitdemo.words import is_chinese, normalise_answer, repeated_words, segment_chinese

DRAWS = 200  # of a bootstrap
_INTERVAL = (2.5, 97.5)  # percent: 95% in between

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
    counts = bleu_counts(said, wanted)
    scores: dict[str, Any] = {**_bleu(counts)}
    cider, of_pictures = Cider().compute_score(wanted, said)
    scores["cider"] = 100 * float(cider)
    scores["rouge_l"] = 100 * float(Rouge().compute_score(wanted, said)[0])
    hypothesis_lines = [texts[0] for texts in said.values()]
    scores["meteor"] = meteor(hypothesis_lines, list(wanted.values())) if language == "en" else None
    scores["ci"] = {"bleu4": interval(100 * bleu_of(draw(len(said)) @ counts)[:, 3]),
                    "cider": mean_interval(of_pictures, np.arange(len(said)))}
    return scores


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """"bleu1".."bleu4" in percent alone, for a quick look; as in `caption_scores`."""
    return _bleu(bleu_counts(*_cut(hypotheses, references)))


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


def _bleu(counts: np.ndarray) -> dict[str, float]:
    of_all = bleu_of(counts.sum(0, keepdims=True))[0]
    return {f"bleu{n}": 100 * float(value) for n, value in enumerate(of_all, 1)}


def bleu_counts(said: dict[int, list[str]], wanted: dict[int, list[str]]) -> np.ndarray:
    """What BLEU adds up over pictures: (P, 10), of 1 to 4 words in a row how many are right and
    how many there are, then the words said and those of the reference nearest to that in length."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    cooked = [cook_test(said[i][0], cook_refs(wanted[i]), eff="closest") for i in said]
    return np.array([[*of["correct"], *of["guess"], of["testlen"], of["reflen"]]
                     for of in cooked], np.float64)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to 4, 0..1, of sums (S, 10) of `bleu_counts`: (S, 4), with the library's small
    numbers."""
    right, there, (words, wanted) = sums[:, :4], sums[:, 4:8], sums[:, 8:].T
    precision = (right + 1e-15) / (there + 1e-9)
    ratio = (words + 1e-15) / (wanted + 1e-9)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    return np.asarray(precision.cumprod(1) ** (1 / np.arange(1, 5)) * brevity[:, None])


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


@functools.lru_cache(8)
def draw(pictures: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each draw has each picture: int (S, P), each row adding up to P."""
    random = np.random.default_rng(seed)
    return random.multinomial(pictures, np.full(pictures, 1 / pictures), draws)


def interval(values: np.ndarray, digits: int = 2) -> list[float] | None:
    """The ends of the middle 95% of a figure's values in the draws; None where there are none."""
    if not len(values):
        return None
    return [round(float(value), digits) for value in np.percentile(values, _INTERVAL)]


def mean_interval(values: np.ndarray, picture: np.ndarray) -> list[float] | None:
    """Of the mean over rows, in percent: values 0..1 (R,), and the picture int (R,) of each."""
    _, place = np.unique(picture, return_inverse=True)
    above = np.bincount(place, np.asarray(values, np.float64))  # (P,)
    draws = draw(len(above))
    return interval(100 * (draws @ above) / (draws @ np.bincount(place)))
