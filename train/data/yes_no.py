"""Yes/no questions made from captions, balanced so that the question alone tells nothing.

Each question that is right about one picture is asked, word for word, about another picture that
surely has no such thing: whoever does not look is right in exactly half of them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from train.data.instructions import ask_for
from train.data.mentions import things_absent, things_named
from train.data.reading import Row


@dataclass(frozen=True)
class YesNo:
    """A question about the row at ``row``; ``there`` says whether yes is right."""

    row: int
    question: str
    there: bool


def make_yes_no(rows: Sequence[Row], language: str, seed: int = 0) -> list[YesNo]:
    """For each row one thing that its captions name, as a question, and the same question for a row
    without it, no row being asked in vain twice; a question without such a partner is left out.

    Only rows with English captions take part, and for Chinese questions with Chinese ones too. How
    they are drawn depends on the rows and the seed alone.
    """
    generator = random.Random(f"{seed}:{language}")
    usable = [i for i, row in enumerate(rows) if row.captions
              and (language == "en" or row.captions_zh)]
    free = generator.sample(usable, len(usable))
    absent = {i: things_absent(rows[i]) for i in usable}
    questions: list[YesNo] = []
    for i in generator.sample(usable, len(usable)):
        there = sorted(things_named(rows[i]))
        partners = ((thing, j) for thing in generator.sample(there, len(there)) for j in free
                    if thing in absent[j])
        thing, partner = next(partners, (0, None))
        if partner is None:
            continue
        free.remove(partner)
        question = ask_for(thing, generator)[language]
        questions += [YesNo(i, question, True), YesNo(partner, question, False)]
    return sorted(questions, key=lambda question: question.row)
