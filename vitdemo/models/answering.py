"""From the texts that beam search found to answers with probabilities, by two judges.

The decoder says which answers are likely; the match head, whether what each of them claims fits
the picture. A question alone makes some answers likely, and the match head was trained to tell
pictures apart.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from vitdemo.models.decoding import Hypothesis
from vitdemo.statements import is_no, statement
from vitdemo.words import normalise_answer

ANSWER_TOKENS = 12  # of an answer, at most
_LEAST, _MORE, _MOST = 5, 3, 10  # answers that are weighed; beams than those; beams in all


def answer_beams(count: int) -> int:
    """How many texts beam search keeps where ``count`` answers are wanted. Who wants one gets the
    first of five: an answer that is weighed need not be the likeliest."""
    return min(_MOST, max(count, _LEAST) + _MORE)


def answer_chances(found: Sequence[Hypothesis],
                   decode: Callable[[Sequence[int]], str]) -> dict[str, float]:
    """Different answers with exp(sum log p), those that come to the same added up: those that have
    ended, or where none has the best."""
    sums: dict[str, float] = {}
    for text in found:
        answer = normalise_answer(decode(text.ids))
        if answer and text.ended:
            sums[answer] = sums.get(answer, 0.0) + math.exp(text.log_probability)
    return sums or {normalise_answer(decode(found[0].ids)): math.exp(found[0].log_probability)}


def claims(question: str, answers: Iterable[str]) -> dict[str, str]:
    """What each answer claims, as a sentence. No is none of them: it claims nothing that could be
    seen, and gains as yes loses."""
    return {answer: statement(question, answer) for answer in answers if not is_no(answer)}


def weighed(chances: Mapping[str, float], evidence: Mapping[str, float]) -> dict[str, float]:
    """Probabilities p of answers, with `Querybank.evidence` x for what they claim (0 where there is
    none), to p exp(x), brought to the sum that they had: the rule of Bayes, as x stands for
    log p(picture | claim) / p(picture)."""
    highest = max(evidence.get(answer, 0.0) for answer in chances)
    gained = {answer: chance * math.exp(evidence.get(answer, 0.0) - highest)
              for answer, chance in chances.items()}
    scale = sum(chances.values()) / max(sum(gained.values()), 1e-300)
    return {answer: value * scale for answer, value in gained.items()}
