"""What may not be written next: a content word once more, or "a" before a vowel.

A caption decoder that was trained for likely sentences likes to say what it is sure of twice ("a
man is riding a motorcycle on a motorcycle"); people hardly ever do.
"""

import re
from collections.abc import Sequence

from vitdemo.tokens import TextTokenizer
from vitdemo.words import begins_with_vowel, content_words, is_function_word

_LETTERS = re.compile(r"[a-z]{2,}")


class Wording:
    """The rules of both languages over a tokenizer's pieces; see `after`."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._chinese = tokenizer.language_start["zh"]
        pieces = tokenizer.all_pieces()
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        self._kin = {i: self._forms(piece) for i, piece in enumerate(pieces)
                     if _LETTERS.fullmatch(piece) and not is_function_word(piece)}
        words = [(i, piece) for i, piece in enumerate(pieces) if piece[:1].isascii()
                 and piece[:1].isalpha()]
        vowels = tuple(i for i, piece in words if begins_with_vowel(piece))
        others = tuple(i for i, piece in words if not begins_with_vowel(piece))
        self._articles = {self._ids.get("a"): vowels, self._ids.get("an"): others}

    def _forms(self, word: str) -> tuple[int, ...]:
        """A word's own id and its plural's or singular's, where they are one piece each."""
        found = [word, word + "s", word + "es"]
        found += [word[:-1]] if word.endswith("s") else []
        found += [word[:-2]] if word.endswith("es") else []
        return tuple(self._ids[form] for form in found
                     if form in self._ids and len(form) > 1 and not is_function_word(form))

    def after(self, start: int, ids: Sequence[int]) -> list[int]:
        """The tokens that may not follow what has been written after a language's start token.

        English: the first piece of a content word that stands there already, and of its plural or
        singular; after "a" and "an" the pieces of the other sound. Chinese: the last character of
        a content word that stands there already, where those before it were just written.
        """
        if start == self._chinese:
            return self._after_chinese(self._tokenizer.decode(ids))
        banned = [other for i in set(ids) for other in self._kin.get(i, ())]
        return banned + list(self._articles.get(ids[-1], ()) if ids else ())

    def _after_chinese(self, text: str) -> list[int]:
        ends = {word[-1] for word in content_words(text) if text.endswith(word[:-1])}
        return [self._ids[end] for end in ends if end in self._ids]
