"""Which words belong to which picture: those that its captions and questions name."""

from collections import Counter
from collections.abc import Sequence

from train.data.mentions import WORDS
from train.data.reading import Row
from vitdemo.tokens import TextTokenizer

_LEAST = 8  # rows that must name a word before its place can be learnt
_NOTHING = {"yes", "no", "none", "0", "nothing"}


def word_bags(rows: Sequence[Row], tokenizer: TextTokenizer) -> tuple[list[set[int]], list[int]]:
    """For each row the tokens that its texts name and a picture can show; and all of those.

    A token counts when at least `_LEAST` rows have it and it is no function word. Of questions,
    those answered with yes, no or nothing are left out: what they ask for may not be there.
    """
    texts = [_about(row) for row in rows]
    pieces = iter(tokenizer.batch_pieces([text for own in texts for text in own]))
    bags = [set().union(*(next(pieces) for _ in own)) for own in texts]
    counts = Counter(token for bag in bags for token in bag)
    function_words = {token for ids in tokenizer.batch_pieces(WORDS["function_words"])
                      for token in ids}
    kept = {token for token, count in counts.items()
            if count >= _LEAST and token not in function_words}
    return [bag & kept for bag in bags], sorted(kept)


def _about(row: Row) -> list[str]:
    asked = [f"{question.question} {question.answer}" for question in row.questions
             if question.answer.casefold() not in _NOTHING]
    return [text.lower() for text in (*row.captions, *row.captions_zh, *asked)]
