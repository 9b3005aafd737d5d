"""Languages and whole words: what a person sees as one word, in English and in Chinese."""

import functools
import logging
import re
import sys
import unicodedata
from types import ModuleType

from vitdemo.config import LIMITS
from vitdemo.errors import TextError
from vitdemo.records import Word

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_PIECES = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
                     r"|(?:[^\W_][\u0300-\u036f]*)+(?:['’_-](?:[^\W_][\u0300-\u036f]*)+)*")
_MARKS_BEFORE = re.compile(r"\s+([.,!?;:，。！？；：、%)]|['’](?:s|m|d|t|re|ve|ll)\b)")
_CHINESE_GAP = re.compile(r"(?<=[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef])\s+"
                          r"|\s+(?=[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef])")


def is_chinese(text: str) -> bool:
    """Whether a text holds at least one Chinese character."""
    return _CHINESE.search(text) is not None


def language_of(text: str) -> str:
    """"zh" where a text holds Chinese characters, else "en"."""
    return "zh" if is_chinese(text) else "en"


@functools.cache
def _jieba() -> ModuleType:
    import jieba  # slow to load, so only where Chinese is met

    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    module: ModuleType = jieba
    return module


def segment_chinese(text: str) -> list[str]:
    """Cut a Chinese text into words, with jieba; the pieces joined give the text again."""
    return list(_jieba().cut(text, HMM=True))


def split_words(text: str) -> tuple[Word, ...]:
    """The whole words of a text with their places; punctuation is no word.

    English words keep their apostrophes and hyphens; a run of Chinese characters is cut by jieba.
    """
    found = []
    for match in _PIECES.finditer(text):
        start = match.start()
        pieces = segment_chinese(match.group()) if is_chinese(match.group()) else [match.group()]
        for piece in pieces:
            found.append(Word(piece, start, start + len(piece)))
            start += len(piece)
    return tuple(found)


def tidy(text: str, language: str) -> str:
    """A model's raw text as a person writes it: capital letter, no space before a full stop.

    One full stop at the end, none after ! or ?; in Chinese no spaces but between Latin words.
    """
    text = _MARKS_BEFORE.sub(r"\1", re.sub(r"\s+", " ", text.strip()))
    if language == "zh":
        text = _CHINESE_GAP.sub("", text).rstrip(" 。.")
        return text + "。" if text and text[-1] not in "!?！？…" else text
    text = re.sub(r"(?<![\w'’-])i(?![\w-])", "I", text).rstrip(" .")
    text = text[:1].upper() + text[1:]
    return text + "." if text and text[-1] not in "!?…" else text


def normalise_answer(text: str) -> str:
    """Lower case, no punctuation at the ends, one space between words, underscores as spaces."""
    text = re.sub(r"[_\s]+", " ", text.lower()).strip(" .,!?;:。，！？\"'")
    return re.sub(r"\s*,\s*", ", ", text)


def clean_text(text: str, what: str, may_be_empty: bool = False) -> str:
    """A user's text with line breaks and tabs as spaces, in Unicode's composed form.

    Raises:
        TextError: empty, too long, with control characters, or not readable in the terminal's
            encoding; ``what`` names it in the message.
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    if not text and not may_be_empty:
        raise TextError(f"{what} is empty. Write something first.")
    if len(text) > LIMITS.max_text_characters:
        raise TextError(f"{what} has {len(text)} characters; the limit is "
                        f"{LIMITS.max_text_characters}. Shorten it.")
    if any("\udc80" <= character <= "\udcff" for character in text):  # bytes in disguise (PEP 383)
        raise TextError(f"{what} holds bytes that are no characters in the encoding of this "
                        f"terminal, {sys.getfilesystemencoding()}. Let the terminal use UTF-8, as "
                        "with LC_ALL=C.UTF-8, and type the text anew.")
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise TextError(f"{what} holds a control character (U+{ord(character):04X}, at place "
                            f"{place + 1}). Delete it, or type the text anew.")
    return text
