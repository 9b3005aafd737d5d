"""What vitdemo raises for a user's input; each message says what is wrong and what to do."""

from vitdemo.reasons import reason
from vitdemo.texts import DEFAULT, Message, catalogue


class VitDemoError(Exception):
    """Base of every error that a user can cause.

    It is made of a key of the catalogue and its values, which may be errors themselves: of one that
    is not ours the catalogue's reason is told. ``str`` words it in the language of whoever is shown
    it. Errors that only a developer or somebody who trains can meet are English sentences instead.
    """

    def __init__(self, key: str | Message, /, **values: object) -> None:
        super().__init__(key)
        self.message: str | Message = key
        if not isinstance(key, Message) and key in catalogue(DEFAULT):
            self.message = Message(key, **{
                name: value.message if isinstance(value, VitDemoError) else
                reason(value) if isinstance(value, Exception) else value
                for name, value in values.items()})

    def __str__(self) -> str:
        return str(self.message)


class PictureError(VitDemoError):
    """A file is no picture, is broken, or is over a limit."""


class BusyError(PictureError):
    """A picture is not opened now for want of memory; the picture itself is not at fault."""


class TextError(VitDemoError):
    """A text is empty or too long for the model."""


class CheckpointError(VitDemoError):
    """A checkpoint folder is missing, incomplete, changed or of another format version."""


class ConfigError(VitDemoError):
    """A setting has a value outside its range."""


class TaskError(VitDemoError):
    """The chosen model cannot do what was asked of it."""


class ServingError(VitDemoError):
    """The model's machines cannot be reached, or do not do what was asked."""


class DataError(VitDemoError):
    """A row or a file of a data set is bad; the message names the file and the line."""


class StoreError(VitDemoError):
    """A picture index cannot be opened, or was made by another model."""


class DiskError(VitDemoError):
    """A file cannot be written, for want of room say; what was there before is still there."""


class TrainingError(VitDemoError):
    """A training run cannot go on; what it saved before is untouched."""


def shortened(value: object, most: int = 200) -> str:
    """A value as a message repeats it: no more than its first ``most`` characters."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
