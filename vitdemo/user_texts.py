"""Texts as people type them: cleaned, in a language that the model knows, with words that it knows.

A helper of the engine's.
"""

from collections.abc import Sequence

from vitdemo.backends.base import Backend
from vitdemo.errors import TaskError, TextError
from vitdemo.records import LANGUAGES, Unread
from vitdemo.words import clean_text, is_chinese, language_of, unread_note


class UserTexts:
    """What one backend makes of texts before it is asked about them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self, text: str, what: str, language: str = "",
             may_be_empty: bool = False) -> tuple[str, Unread]:
        """The text cleaned, and what the model does not read of it. ``language`` is what the model
        is to write; "" takes the text's own. ``what`` names the text in messages.

        Raises:
            TextError: see `clean_text`; or no word of it is read.
            TaskError: the model does not know the language.
        """
        text = clean_text(text, what, may_be_empty)
        self._check_language(language or language_of(text), text)
        unread = self._backend.unread(text) if text else Unread()
        if unread.nothing:
            raise self._no_word(text, what, unread)
        return text, unread

    def all(self, texts: Sequence[str]) -> list[str]:
        """`read` of each, the texts alone."""
        return [self.read(text, _name(place, texts))[0] for place, text in enumerate(texts)]

    def some(self, texts: Sequence[str]) -> list[tuple[str, Unread]]:
        """`read` of each, but it is enough if a word of one of them is read."""
        found = []
        for place, text in enumerate(texts):
            text = clean_text(text, _name(place, texts))
            self._check_language(language_of(text), text)
            found.append((text, self._backend.unread(text)))
        if found and all(unread.nothing for _, unread in found):
            raise self._no_word(found[0][0], _name(0, texts), found[0][1])
        return found

    def _check_language(self, language: str, text: str) -> None:
        info = self._backend.info
        can = ", ".join(LANGUAGES.get(code, code) for code in info.languages)
        if language not in info.languages:
            raise TaskError(f"{info.name} does not know the language "
                            f"{LANGUAGES.get(language, repr(language))}; it knows {can}.")
        if is_chinese(text) and "zh" not in info.languages:
            raise TaskError(f"{info.name} does not read Chinese; write in {can}.")

    def _no_word(self, text: str, what: str, unread: Unread) -> TextError:
        info = self._backend.info
        can = " or ".join(LANGUAGES.get(code, code) for code in info.languages)
        note = unread_note(text, unread)
        return TextError(f"{what} holds no word that {info.name} knows. {note}{' ' * bool(note)}"
                         f"Say it in other words, in {can}.")


def _name(place: int, texts: Sequence[str]) -> str:
    return "The text" if len(texts) == 1 else f"Text {place + 1}"
