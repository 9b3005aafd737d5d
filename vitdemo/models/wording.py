"""What may not be written next: a content word once more, any word twice in a row, "a" before a
vowel or a plural, adjectives between them or not.

A caption decoder that was trained for likely sentences likes to say what it is sure of twice ("a
man is riding a motorcycle on a motorcycle"); people hardly ever do.
"""

import re
from collections.abc import Sequence

from vitdemo.tokens import TextTokenizer
from vitdemo.words import begins_with_vowel, content_words, is_function_word

_LETTERS = re.compile(r"[a-z]{2,}")
# Not the plural of a thing, whatever they look like: "a sports car", "a lens".
_NO_PLURALS = frozenset("sports news lens kids arts graphics species series christmas".split())


# What may stand between an article and the noun that it belongs to, and is no noun itself that a
# verb could follow: "a red and white ping pong ball", but "an orange sits".
_BEFORE_A_NOUN = (
    "and , very red green blue yellow black white grey gray brown pink purple golden silver dark "
    "bright light colorful colourful little small tiny big large huge giant long short tall old "
    "young new empty full open round square wooden metal plastic dirty clean wet dry rusty "
    "beautiful pretty cute fluffy furry striped ripe fresh sliced several different ping pong "
    "tennis soccer polka").split()


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
        plurals = tuple(i for piece, i in self._ids.items() if self._is_plural(piece))
        self._plurals = plurals
        self._sounds = {self._ids.get("a"): vowels, self._ids.get("an"): others}
        self._between = {i for word in _BEFORE_A_NOUN for i in tokenizer.pieces(word)[0]}
        self._whole = {i for i, piece in words if _LETTERS.fullmatch(piece) or piece == "a"}

    def _is_plural(self, piece: str) -> bool:
        """Whether a piece is the plural of an English word that is a piece, too."""
        if piece in _NO_PLURALS or piece.endswith("ss") or not _LETTERS.fullmatch(piece):
            return False
        stems = [piece[:-1]] * piece.endswith("s") + [piece[:-2]] * piece.endswith("es")
        return any(len(stem) > 2 and stem in self._ids and not is_function_word(stem)
                   for stem in stems)

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
        singular; the word just written; after "a" and "an" the pieces of the other sound, and
        plurals, also where only adjectives stand between. Chinese: the last character of a content
        word that stands there already, where those before it were just written.
        """
        if start == self._chinese:
            return self._after_chinese(self._tokenizer.decode(ids))
        banned = [other for i in set(ids) for other in self._kin.get(i, ())]
        if not ids:
            return banned
        banned += self._sounds.get(ids[-1], ())
        if next((i for i in reversed(ids) if i not in self._between), -1) in self._sounds:
            banned += self._plurals
        return banned + [ids[-1]] * (ids[-1] in self._whole)

    def _after_chinese(self, text: str) -> list[int]:
        ends = {word[-1] for word in content_words(text) if text.endswith(word[:-1])}
        return [self._ids[end] for end in ends if end in self._ids]
