"""What one visitor has on screen in one tab: kept so that its maps can be checked afterwards."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vitdemo import viewer
from vitdemo.attention.dependence import confidence_sentence, depends_on_picture, unsure_words
from vitdemo.attention.methods import label_of
from vitdemo.checks import RAW
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.errors import PictureError
from vitdemo.preprocess import Picture
from vitdemo.records import Answer, Caption, Evidence, Explanation, PictureShare
from vitdemo.texts import phrase
from vitdemo.ui.components import at_fault
from vitdemo.ui.turns import Turns
from vitdemo.words import clean_text, unread_note

Said = Caption | Answer | str


@dataclass
class Result:
    """One finished text with its maps, and everything that was found out about them since.

    ``digest`` is that of the picture's pixels. ``maps`` are dressed in the words on screen.
    ``decoding`` is how a caption was written, ``settings`` what a report tells of it. ``others``
    is keyed by source and method, ``evidence`` by source, method and word, ``shares`` by source.
    ``shown`` is the viewer's payload of it.
    """

    id: str
    digest: str
    said: Said
    maps: tuple[Explanation, ...]
    decoding: Decoding
    settings: dict[str, str]
    others: dict[tuple[str, str], Explanation] = field(default_factory=dict)
    evidence: dict[tuple[str, str, int], Evidence] = field(default_factory=dict)
    shares: dict[str, PictureShare] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    def whole(self) -> dict[str, Any]:
        """The payload with all that was found out since."""
        return {**self.shown, "texts": viewer.texts(
            self.maps, list(self.others.values()), list(self.evidence.values()),
            list(self.shares.values()))}

    def patch(self, message: str = "", busy: bool = False, **parts: Any) -> dict[str, Any]:
        """A payload that changes what is on screen: ``parts`` are those of `viewer.patch`."""
        return {"id": self.id, "patch": viewer.patch(self.maps, **parts),
                "patch_message": message, "patch_busy": busy}

    def evidence_patch(self, busy: bool = False) -> dict[str, Any]:
        """All evidence so far, with how much the picture counted."""
        return self.patch(busy=busy, evidence=list(self.evidence.values()),
                          shares=list(self.shares.values()))


class Desk(Turns):
    """The result on screen, if any, the one before it, until there is a new one, and what a link
    asked the viewer to choose."""

    def __init__(self, wanted: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.result: Result | None = None
        self.former: Result | None = None
        self.wanted = wanted or {}

    def clear(self) -> None:
        """Nothing is on screen now."""
        self.former, self.result = self.result, None

    def put_back(self, error: Exception) -> dict[str, Any]:
        """The payload of an error: where a picture cannot be used, the result that it was to take
        the place of stays."""
        said = {"message": str(error)}
        if self.former is None or not at_fault(error):
            return said
        with self.changed:
            self.result, self.former = self.former, None
            self.turn.followed = True  # what follows a new result
        return {**self.result.whole(), **said, "checking": False}

    def fitting(self, result_id: object, photo: Picture | None = None) -> Result:
        """The result on screen, if it is the one meant and belongs to the picture.

        Raises:
            PictureError: it is another one, or the picture was changed since.
        """
        if self.result is None or (result_id and result_id != self.result.id):
            raise PictureError("checking.gone")
        if photo is not None and photo.digest != self.result.digest:
            raise PictureError("checking.other_picture")
        return self.result

    def finish(self, engine: Engine, photo: Picture, shown: dict[str, Any], said: Said, text: str,
               *, settings: dict[str, str] | None = None, decoding: Decoding = Decoding(),
               checking: bool = False) -> dict[str, Any]:
        """Explain a finished text and put it on screen: the viewer's whole payload.

        ``shown`` is the payload's part about the picture, ``text`` what the person sees of
        ``said``. ``checking`` says that evidence follows.
        """
        settings = dict(settings or {})
        if missed := not_read(engine, said):
            settings[phrase("setting.unread")] = missed
            shown = {**shown, "unread": missed}
        if "explain" not in engine.info.tasks:
            return {**shown, "written": text, "reason": str(engine.info.missing.get("explain", ""))}
        maps = tuple(dressed(engine.explain(photo, said), said, text))
        if not maps:  # no word to explain
            return {**shown, "written": text or phrase("describe.nothing")}
        result = Result(uuid.uuid4().hex[:12], photo.digest, said, maps, decoding, settings)
        if RAW in engine.methods and maps[0].method != RAW:
            add_method(engine, photo, result, RAW)  # its layers and heads cost next to nothing
        wanted = self.wanted
        method = wanted.get("method", "")
        if method in engine.methods and method not in (maps[0].method, RAW):
            add_method(engine, photo, result, method)
        with self.writing():
            self.result, self.former = result, None
            self.wanted = {}  # once: after that the person's own choice rules
        info = engine.info.behind(maps[-1])
        result.shown = {
            **shown, "id": result.id, "model": info.name, "choose": _choice(wanted, maps[-1]),
            "checking": checking,
            "methods": [[name, label_of(name)] for name in engine.methods],
            "settings": {**result.settings,
                         phrase("report.model"): f"{info.name} ({info.revision})"},
            "offer": _offer(engine, photo, said, maps[-1]),
            "sure": confidence_sentence(
                maps[-1], said.probability if isinstance(said, Answer) else None, info.yes_no),
            "texts": viewer.texts(maps, others=list(result.others.values()))}
        return result.shown


def _offer(engine: Engine, photo: Picture, said: Said, maps: Explanation) -> str:
    """What the model surely sees, in place of a caption that it is not sure of."""
    if not isinstance(said, Caption) or (depends_on_picture(maps) and not unsure_words(maps)):
        return ""
    names = engine.surely_seen(photo, said)
    return phrase("describe.offer", names=", ".join(names)) if names else ""


def _choice(wanted: dict[str, Any], maps: Explanation) -> dict[str, Any]:
    """What the viewer is to choose, the word by its place; a word that is not there is left out."""
    said = str(wanted.get("word", "")).casefold()
    places = [place for place, word in enumerate(maps.words) if word.text.casefold() == said]
    choice = {name: value for name, value in wanted.items() if name != "word"}
    return {**choice, "word": places[0]} if places else choice


def not_read(engine: Engine, said: Said) -> str:
    """What the model did not read of an instruction, a question or a sentence; "" where it read
    all of it."""
    if isinstance(said, str):
        text = clean_text(said, phrase("typed.sentence"), may_be_empty=True)
        return unread_note(text, engine.unread(text))
    return unread_note(said.question if isinstance(said, Answer) else said.instruction, said.unread)


def add_method(engine: Engine, photo: Picture, result: Result, method: str) -> None:
    """Add the maps of another method, over the same words, to a result."""
    texts = {one.source: one.text for one in result.maps}
    for one in engine.explain(photo, result.said, method):
        result.others[one.source, method] = viewer.dress(one, texts.get(one.source, one.text))


def dressed(maps: Sequence[Explanation], said: Said, text: str) -> list[Explanation]:
    """Explanations over the texts as a person sees them."""
    question = said.question if isinstance(said, Answer) else ""
    return [viewer.dress(one, question if one.source == "question" else text) for one in maps]
