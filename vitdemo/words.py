"""Languages and whole words: what a person sees as one word, in English and in Chinese."""

import functools
import logging
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from types import ModuleType

from vitdemo.config import LIMITS
from vitdemo.errors import TextError
from vitdemo.records import UNREAD, Unread, Word
from vitdemo.texts import joined, listed, phrase

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LETTERS = re.compile(r"[^\W\d_]+")
_PIECES = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
                     r"|(?:[^\W_][\u0300-\u036f]*)+(?:['’_-](?:[^\W_][\u0300-\u036f]*)+)*")
_MARKS_BEFORE = re.compile(r"\s+([.,!?;:，。！？；：、%)]|['’](?:s|m|d|t|re|ve|ll)\b)")
_CHINESE_GAP = re.compile(r"(?<=[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef])\s+"
                          r"|\s+(?=[\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef])")

_FUNCTION_WORDS = frozenset("""a an the this that these those some any each every all both another
other others one and or but nor so of in on at by to from into onto with without for over under
above below up down off out through across along around behind before after between beside besides
near next against about toward towards inside outside while as than then there here is are was were
be been being am has have had having do does did it its they them their he him his she her i my you
your we us our who whom whose which what when where not no very just also too it's as's""".split())
# Measure words, positions and auxiliaries; a number with its measure word is one, too.
_FUNCTION_WORDS_ZH = frozenset("""的 地 得 了 着 过 在 和 与 及 跟 同 或 而 并 并且 但 是 有 被 把
给 为 对 向 往 朝 从 到 由 以 用 让 于 上 下 里 中 内 外 前 后 左 右 旁 边 间 之间 旁边 前面 后面
上面 下面 里面 外面 左边 右边 前 后 前方 后方 身上 身边 身后 手里 手中 正 正在 正要 也 都 还 又 就
很 最 不 没 没有 这 那 这个 那个 这里 那里 他 她 它 他们 她们 它们 自己 其他 其中 另 另外 另一
另一个 另一只 个 只 条 名 位 群 辆 件 张 匹 头 架 艘 座 棵 朵 块 片 些 种 双 对 副 顶 把 根 等 时
时候 去 来 起 起来 出 进 过去 过来 下来 上去 一起 一边 地上 地面""".split())
_NUMBER_ZH = re.compile(r"[一二两三四五六七八九十几多数半]+.?")
_ARTICLE = re.compile(r"\b(an?) (?=([a-z][\w'’-]*))", re.IGNORECASE)
# Spelled with a vowel, said with a consonant, and the other way round.
_SAID_WITH_CONSONANT = re.compile(r"one\b|once|uni(?!n)|us[eu]|eu|ukulele|utensil")
_SAID_WITH_VOWEL = re.compile(r"hour|honest|honou?r|heir")
_NAMED, _CUTS, _SHOWN = 8, 3, 20  # words and cut texts that a note names; characters of a cut


def is_chinese(text: str) -> bool:
    """Whether a text holds at least one Chinese character."""
    return _CHINESE.search(text) is not None


def language_of(text: str) -> str:
    """"zh" where a text holds Chinese characters, else "en"."""
    return "zh" if is_chinese(text) else "en"


def mainly_chinese(text: str) -> bool:
    """Whether a text has more Chinese characters than words of other letters: "穿 Nike 鞋的男孩"
    is Chinese, "a sign that says 停" is not."""
    return len(_CHINESE.findall(text)) > len(_LETTERS.findall(_CHINESE.sub(" ", text)))


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


def is_function_word(word: str) -> bool:
    """Whether a word, in lower case, only holds a sentence together: articles, prepositions,
    pronouns, forms of to be; in Chinese also positions and numbers with their measure words."""
    return word in _FUNCTION_WORDS or word in _FUNCTION_WORDS_ZH or (
        is_chinese(word) and _NUMBER_ZH.fullmatch(word) is not None)


def is_content_word(word: str) -> bool:
    """Whether a word says something: it is no function word, and no single letter."""
    return not is_function_word(word.lower()) and (len(word) > 1 or is_chinese(word))


def content_words(text: str) -> list[str]:
    """The words of a text that say something, in lower case, as often as they stand there."""
    return [found.text.lower() for found in split_words(text) if is_content_word(found.text)]


def repeated_words(text: str) -> list[str]:
    """The content words that stand in a text more than once, each once."""
    return [word for word, count in Counter(content_words(text)).items() if count > 1]


@functools.cache
def _alone() -> frozenset[str]:
    text = resources.files("vitdemo").joinpath("alone_zh.txt").read_text(encoding="utf-8")
    return frozenset(text) - {"\n"}


def broken_words(text: str) -> list[str]:
    """The single Chinese characters of a text that are a part of a word, the rest of which is not
    there (食 of 食物): content words of one character that people do not write alone. What they do
    write alone stands in `alone_zh.txt`, from 30,937 captions, each at least twice."""
    return [word for word in content_words(text)
            if len(word) == 1 and is_chinese(word) and word not in _alone()]


def unread_words(words: Sequence[Word], unread: Unread) -> tuple[str, ...]:
    """For each word of a text "", or why nothing of it was read (`UNREAD`); () where all were."""
    unknown, cut = UNREAD
    end = math.inf if unread.cut is None else unread.cut
    lost = {place for one in unread.unknown for place in range(one.start, one.end)}
    found = tuple(cut if word.start >= end else
                  unknown if lost.issuperset(range(word.start, word.end)) else ""
                  for word in words)
    return found if any(found) else ()


def unread_note(text: str, unread: Unread) -> str:
    """What was not read of a text, in a sentence or two for a person; "" where all was."""
    said = []
    if unread.unknown:
        said.append(phrase("typed.unknown", words=_listed([one.text for one in unread.unknown])))
    if unread.cut is not None:
        before, after = text[:unread.cut][-_SHOWN:].lstrip(), text[unread.cut:][:_SHOWN].rstrip()
        said.append(phrase("typed.cut", before=before.rstrip(), after=after))
    return joined(said)


def unread_notes(texts: Sequence[str], unread: Sequence[Unread]) -> list[str]:
    """`unread_note` for several texts together, in a few sentences, those without a word last."""
    if len(texts) == 1:
        return [note] if (note := unread_note(texts[0], unread[0])) else []
    words = tuple(word for one in unread for word in one.unknown)
    said = [unread_note("", Unread(words))] if words else []
    said += [unread_note(text, replace(one, unknown=())) for text, one
             in zip(texts, unread, strict=True) if one.cut is not None][:_CUTS]
    lost = [text for text, one in zip(texts, unread, strict=True) if one.nothing]
    if lost:
        said.append(phrase("typed.no_score", texts=_listed(lost)))
    return said


def _listed(texts: Sequence[str]) -> str:
    """“a”, “b” and 3 more."""
    names = list(dict.fromkeys(f"“{_short(text)}”" for text in texts))
    return listed(names[:_NAMED], max(0, len(names) - _NAMED))


def _short(text: str) -> str:
    return text if len(text) <= 2 * _SHOWN else f"{text[:2 * _SHOWN]}…"


def begins_with_vowel(word: str) -> bool:
    """Whether an English word begins with the sound of a vowel."""
    word = word.lower()
    if word[0] in "aeiou":
        return _SAID_WITH_CONSONANT.match(word) is None
    return _SAID_WITH_VOWEL.match(word) is not None


def tidy(text: str, language: str) -> str:
    """A model's raw text as a person writes it: capital letter, no space before a full stop, "a"
    or "an" by the sound that follows. The words stay (`same_words`), but "man 's" becomes one.

    One full stop at the end, none after ! or ?; in Chinese no spaces but between Latin words.
    """
    text = _MARKS_BEFORE.sub(r"\1", re.sub(r"\s+", " ", text.strip()))
    if language == "zh":
        text = _CHINESE_GAP.sub("", text).rstrip(" 。.")
        return text + "。" if text and text[-1] not in "!?！？…" else text
    text = re.sub(r"(?<![\w'’-])i(?![\w-])", "I", text).rstrip(" .")
    text = _ARTICLE.sub(_article, text)
    text = text[:1].upper() + text[1:]
    return text + "." if text and text[-1] not in "!?…" else text


def _article(found: re.Match[str]) -> str:
    """"a" or "an" before a word; a letter a that is no article stays ("plan a is")."""
    if not is_content_word(found[2]):
        return found[0]
    return found[1][0] + ("n " if begins_with_vowel(found[2]) else " ")


def same_words(raw: Sequence[Word], shown: Sequence[Word]) -> bool:
    """Whether words are those of the same text before and after `tidy`: case and "a" or "an" may
    differ."""
    plain = [["a" if (text := word.text.casefold()) == "an" else text for word in words]
             for words in (raw, shown)]
    return plain[0] == plain[1]


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
        raise TextError("typed.empty", what=what)
    if len(text) > LIMITS.max_text_characters:
        raise TextError("typed.long", what=what, length=len(text),
                        most=LIMITS.max_text_characters)
    if any("\udc80" <= character <= "\udcff" for character in text):  # bytes in disguise (PEP 383)
        raise TextError("typed.bytes", what=what, encoding=sys.getfilesystemencoding())
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise TextError("typed.control", what=what, code=f"U+{ord(character):04X}",
                            place=place + 1)
    return text
