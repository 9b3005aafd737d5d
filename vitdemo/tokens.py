"""Text to ids and back: one WordPiece vocabulary for English words and Chinese characters.

Shapes: M texts, T tokens. The encoder reads [CLS] text [SEP]; the decoder writes after a start
token of the language and ends with [SEP].
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vitdemo.characters import Characters, unread_of
from vitdemo.errors import CheckpointError
from vitdemo.records import Unread, Word
from vitdemo.words import is_chinese, split_words

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LANGUAGE_STARTS = {"en": "[EN]", "zh": "[ZH]"}
# Marks inside a word: "t - shirt" is "t-shirt", "man ' s" is "man's", "10 : 30" is "10:30".
_TIGHT = re.compile(r"(?<=[^\W_]) ([-'’]) (?=[^\W_])|(?<=\d) ([:.]) (?=\d)")
# Latin words in the Chinese captions that the shipped models learned from (T恤, V领, NBA).
LATIN = ("dj", "nba", "t", "v")
SPECIAL = (PAD, UNKNOWN, START, END, *LANGUAGE_STARTS.values())


class TextTokenizer:
    """Wraps a `tokenizers.Tokenizer` that has the special tokens above."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # who types "[SEP]" means the letters
        self._characters = Characters(tokenizer.get_vocab())
        self.max_tokens = max_tokens
        found = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        lost = [name for name, number in found.items() if number is None]
        if lost:
            raise CheckpointError("checkpoint.lacks_tokens", tokens=", ".join(lost))
        ids = {name: int(number) for name, number in found.items() if number is not None}
        self.pad, self.unknown, self.end = ids[PAD], ids[UNKNOWN], ids[END]
        self.start = ids[START]
        self.language_start = {language: ids[name] for language, name in LANGUAGE_STARTS.items()}
        # What a decoder must never write: everything special but the end.
        self.banned = tuple(ids[name] for name in SPECIAL if name != END)
        self._latin = frozenset(LATIN)
        self._foreign: dict[str, tuple[int, ...]] = {}

    @classmethod
    def load(cls, file: Path, max_tokens: int) -> "TextTokenizer":
        """Read tokenizer.json.

        Raises:
            CheckpointError: the file is missing or broken.
        """
        try:
            return cls(Tokenizer.from_file(str(file)), max_tokens)
        except CheckpointError:
            raise
        except Exception as error:  # the library raises plain Exception for any fault of the file
            raise CheckpointError("checkpoint.no_tokenizer", file=file, why=error) from error

    def save(self, file: Path) -> None:
        """Write tokenizer.json."""
        file.write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self._tokenizer.get_vocab_size())

    def all_pieces(self) -> list[str]:
        """The text of every token, in the order of the ids; a piece inside a word begins with ##.
        """
        return [str(self._tokenizer.id_to_token(i)) for i in range(self.size)]

    def plain(self, text: str) -> str:
        """The text as it is read: see `Characters.fold`."""
        return self._characters.fold(text)[0]

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text without special tokens, and each one's (start, end) in the text.

        What the vocabulary lacks is read as `Characters.fold` writes it; places are those of what
        was typed.
        """
        folded, places = self._characters.fold(text)
        encoding = self._tokenizer.encode(folded, add_special_tokens=False)
        return encoding.ids, [(places[start], places[end - 1] + 1) if end > start else (start, end)
                              for start, end in encoding.offsets]

    def batch_pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """`pieces` of many texts, ids only."""
        encodings = self._tokenizer.encode_batch(list(map(self.plain, texts)),
                                                 add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def unread(self, text: str) -> Unread:
        """What `encode` does not read of a text: characters that are no token, and what is behind
        the last token that there is room for."""
        ids, spans = self.pieces(text)
        room = self.max_tokens - 2
        return unread_of(text, [span for number, span in zip(ids[:room], spans, strict=False)
                                if number == self.unknown],
                         spans[room][0] if len(ids) > room else None)

    @property
    def latin(self) -> tuple[str, ...]:
        """The tokens of Latin letters that may be written in Chinese, in order."""
        return tuple(sorted(self._latin))

    def admit(self, tokens: Iterable[str]) -> None:
        """Let these tokens of Latin letters be written in Chinese, too; unknown ones are passed
        over."""
        self._latin |= {token for token in tokens if self._tokenizer.token_to_id(token) is not None}
        self._foreign.clear()

    def latin_in(self, texts: Sequence[str]) -> set[str]:
        """The tokens of Latin letters that at least two of these Chinese texts hold."""
        counts = Counter(number for row in self.batch_pieces(texts) for number in set(row))
        names = {str(self._tokenizer.id_to_token(number)) for number, count in counts.items()
                 if count > 1}
        return {name for name in names if name not in SPECIAL and _is_latin(name)}

    def foreign(self, language: str) -> tuple[int, ...]:
        """Ids of what is not written in a language: Chinese characters and marks in English, words
        of Latin letters but `latin` in Chinese. Digits and other marks belong to both."""
        if language not in self._foreign:
            strange = _is_wide if language == "en" else (
                lambda token: _is_latin(token) and token not in self._latin)
            self._foreign[language] = tuple(sorted(
                number for token, number in self._tokenizer.get_vocab().items()
                if token not in SPECIAL and strange(token)))
        return self._foreign[language]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """For the text encoder: ids (M, T) and bool mask (M, T); longer texts are cut."""
        room = self.max_tokens - 2
        return self.pad_rows([[self.start, *ids[:room], self.end]
                              for ids in self.batch_pieces(texts)])

    def encode_targets(self, texts: Sequence[str], languages: Sequence[str],
                       ) -> tuple[Tensor, Tensor]:
        """For the decoder: start, text, end as ids (M, T) with bool mask (M, T)."""
        return self.pad_rows([[self.language_start[language], *ids, self.end]
                              for ids, language in zip(self.batch_pieces(texts), languages,
                                                       strict=True)])

    def word_numbers(self, texts: Sequence[str], length: int) -> Tensor:
        """Of which whole word of its text each token of `encode_targets` is a part: (M, length),
        -1 where of none."""
        numbers = torch.full((len(texts), length), -1, dtype=torch.long)
        for row, text in enumerate(texts):
            for number, (_, places) in enumerate(self.word_tokens(text)):
                numbers[row, [place + 1 for place in places]] = number
        return numbers

    def pad_rows(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids to a padded (M, T) and its bool mask."""
        length = max(map(len, rows), default=0)
        ids = torch.full((len(rows), length), self.pad, dtype=torch.long)
        mask = torch.zeros((len(rows), length), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, :len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, :len(row)] = True
        return ids, mask

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to raw text: words with one space between, Chinese characters with none."""
        text = ""
        for number in ids:
            piece = self._tokenizer.id_to_token(int(number))
            if piece is None or piece in SPECIAL:
                continue
            if piece.startswith("##"):
                text += piece[2:]
            elif text and not (is_chinese(text[-1]) and _joins(piece)
                               or is_chinese(piece) and _joins(text[-1])):
                text += " " + piece
            else:
                text += piece
        return _TIGHT.sub(lambda mark: mark.group(1) or mark.group(2), text)

    def word_tokens(self, text: str) -> list[tuple[Word, list[int]]]:
        """The whole words of a text, each with the places of its tokens in `pieces`."""
        _, offsets = self.pieces(text)
        return [(word, [i for i, (start, end) in enumerate(offsets)
                        if start < word.end and end > word.start])
                for word in split_words(text)]


def _is_wide(token: str) -> bool:
    return any(unicodedata.east_asian_width(one) in "WF" for one in token)


def _is_latin(token: str) -> bool:
    return any(one.isalpha() and not is_chinese(one) for one in token)


def _joins(piece: str) -> bool:
    return is_chinese(piece) or not piece[:1].isalnum()
