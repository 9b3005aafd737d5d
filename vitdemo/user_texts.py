"""Texts as people type them: cleaned, in a language that the model knows, with words that it knows.

A helper of the engine's.
"""

from collections.abc import Callable, Sequence

from vitdemo.backends.base import Backend, PictureFeatures, Step
from vitdemo.config import Decoding
from vitdemo.errors import TaskError, TextError
from vitdemo.instructions import default_instruction
from vitdemo.records import (
    LANGUAGES,
    Answer,
    Caption,
    Description,
    ModelInfo,
    Request,
    Unread,
    Wishes,
)
from vitdemo.texts import phrase
from vitdemo.words import clean_text, is_chinese, language_of, tidy, unread_note


class UserTexts:
    """What one backend makes of texts before it is asked about them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self, text: str, what: str, task: str, language: str = "",
             may_be_empty: bool = False) -> tuple[str, Unread]:
        """The text cleaned, and what the model that does ``task`` does not read of it. ``language``
        is what it is to write; "" takes the text's own. ``what`` names the text in messages.

        Raises:
            TextError: see `clean_text`; or no word of it is read.
            TaskError: the model does not know the language.
        """
        text = clean_text(text, what, may_be_empty)
        backend = self._backend.doing(task)
        _check_language(backend.info, language or language_of(text), text)
        unread = backend.unread(text) if text else Unread()
        if unread.nothing:
            raise _no_word(backend.info, text, what, unread)
        return text, unread

    def all(self, texts: Sequence[str], task: str) -> list[str]:
        """`read` of each, the texts alone."""
        return [self.read(text, _name(place, texts), task)[0] for place, text in enumerate(texts)]

    def some(self, texts: Sequence[str], task: str) -> list[tuple[str, Unread]]:
        """`read` of each, but it is enough if a word of one of them is read."""
        found, backend = [], self._backend.doing(task)
        for place, text in enumerate(texts):
            text = clean_text(text, _name(place, texts))
            _check_language(backend.info, language_of(text), text)
            found.append((text, backend.unread(text)))
        if found and all(unread.nothing for _, unread in found):
            raise _no_word(backend.info, found[0][0], _name(0, texts), found[0][1])
        return found

    def describer(self, wishes: Wishes, decoding: Decoding
                  ) -> Callable[[Sequence[PictureFeatures]], list[Description]]:
        """What describes a batch of pictures.

        Raises:
            TaskError, TextError: a language or a question that the model does not know.
        """
        backend = self._backend
        backend.require("caption")
        what = phrase("typed.instruction")
        orders = [(self.read(wishes.instruction, what, "caption", language, True)[0]
                   or default_instruction(language), language) for language in wishes.languages]
        if wishes.questions:
            backend.require("ask")
        questions = [self.read(one, phrase("typed.question"), "ask")[0]
                     for one in wishes.questions]

        def describe(features: Sequence[PictureFeatures]) -> list[Description]:
            captions = [[tidy(text, language) for text in backend.captions(
                features, order, language, decoding)] for order, language in orders]
            answers = [backend.answers(features, one, language_of(one)) for one in questions]
            return [Description(tuple(texts[n] for texts in captions),
                                tuple(texts[n] for texts in answers),
                                backend.surely_seen(one, "", wishes.languages[0]))
                    for n, one in enumerate(features)]

        return describe

    def request(self, result: Caption | Answer | str) -> Request:
        """What a result was made from; a sentence is read first."""
        if isinstance(result, Caption):
            return Request(result.instruction, result.raw_text, result.language, "caption")
        if isinstance(result, Answer):
            return Request(result.question, result.text, result.language, "ask")
        self._backend.require("match")
        text, _ = self.read(result, phrase("typed.sentence"), "match")
        return Request("", text, language_of(text), "match")


def caption_of(step: Step, language: str, instruction: str, seconds: float,
             unread: Unread) -> Caption:
    """A step of a text that is being written, as a person reads it."""
    text = tidy(step.text, language)
    if not step.final:  # the full stop comes with the end
        text = text.rstrip(".。")
    return Caption(text, step.text, language, instruction, step.log_probability, seconds, unread)


def _check_language(info: ModelInfo, language: str, text: str) -> None:
    can = ", ".join(LANGUAGES.get(code, code) for code in info.languages)
    if language not in info.languages:
        raise TaskError("typed.language", model=info.name, known=can,
                        language=LANGUAGES.get(language, repr(language)))
    if is_chinese(text) and "zh" not in info.languages:
        raise TaskError("typed.chinese", model=info.name, known=can)


def _no_word(info: ModelInfo, text: str, what: str, unread: Unread) -> TextError:
    can = " / ".join(LANGUAGES.get(code, code) for code in info.languages)
    note = unread_note(text, unread)
    return TextError("typed.no_word_known" if note else "typed.no_word", what=what,
                     model=info.name, known=can, **({"note": note} if note else {}))


def _name(place: int, texts: Sequence[str]) -> str:
    return phrase("typed.text") if len(texts) == 1 else phrase("typed.text_of_several",
                                                               number=place + 1)
