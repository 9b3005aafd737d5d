"""What the page opens with: an example, what the model says of it, and a map that convinces."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import move_files_to_cache

from vitdemo import viewer
from vitdemo.attention.dependence import (
    depends_on_picture,
    first_word,
    telling_words,
    unsure_words,
)
from vitdemo.config import Decoding
from vitdemo.errors import VitDemoError
from vitdemo.preprocess import open_picture
from vitdemo.records import VERDICTS
from vitdemo.texts import LANGUAGES, language, speaking
from vitdemo.ui.blocks import AppBlocks
from vitdemo.ui.components import MODEL, Context, PageValue, PictureInput
from vitdemo.ui.shown_result import Desk, Result
from vitdemo.ui.tabs.describe import first_language, narrate
from vitdemo.ui.tabs.picture_tab import PictureTab
from vitdemo.ui.tabs.proved_example import ProvedExample
from vitdemo.ui.turns import FIRST, Turn
from vitdemo.ui.viewer_requests import check_after, follow_up

log = logging.getLogger(__name__)


def open_with_result(opening: "Opening", blocks: AppBlocks, tab: PictureTab) -> None:
    """Let the page begin with a result on a tab, unless a link asks for something.

    It comes with the page where it is made by then, else when it is.
    """
    context = opening.context
    if not opening.possible:
        return
    sent = PageValue("")  # the id of the result that came with the page

    def first_values() -> dict[int, Any]:
        if opening.picture_meanwhile() is not None:
            return {}
        made = opening.get()
        return {tab.view._id: made.shown, sent._id: made.shown.get("id", ""),
                tab.picture._id: _file(tab.picture, made.path)}

    def begin(desk: Desk, turn: Turn, there: str, request: gr.Request
              ) -> Iterator[tuple[Any, Any]]:
        if "task" in dict(request.query_params or {}):
            return
        if (picture := opening.picture_meanwhile()) is not None:
            yield {"picture": picture, "writing": ""}, gr.skip()
        made = opening.get()
        with desk.writing():
            desk.result = made.result
        if not there or there != made.shown.get("id"):
            yield made.shown, str(made.path)

    blocks.first_values = first_values
    event = tab.panel.act(blocks.load, begin, [sent], [tab.view, tab.picture],
                          lambda *_: gr.skip(), **MODEL, js=FIRST)
    check_after(context, event, tab.view, tab.panel, tab.picture)
    tab.changes.append(event)
    tab.refusing.append(event)


def _file(field: PictureInput, path: Path) -> Any:
    """What a page is given of a picture file that stands in a field, and may be asked for."""
    shown = field.postprocess(str(path))
    assert shown is not None
    return move_files_to_cache(shown.model_dump(), field, postprocess=True)


@dataclass(frozen=True)
class Opened:
    """An example as the viewer shows it, and what is known of it, which may be nothing."""

    path: Path
    shown: dict[str, Any]
    result: Result | None

    def convinces(self) -> bool:
        """Whether the model is sure of its words, and they depend on the picture."""
        return (self.result is not None and depends_on_picture(self.result.maps[-1])
                and not unsure_words(self.result.maps[-1]))

    def proved(self) -> bool:
        """Whether the map that is shown is the word's own, so far as it was checked."""
        return self.rank() < VERDICTS.index("shared")

    def rank(self) -> int:
        """The place in `VERDICTS` of what the evidence says of the map that is shown, one behind
        the last where it was not checked."""
        known = self.result.evidence.values() if self.result is not None else ()
        return min((VERDICTS.index(one.verdict) for one in known), default=len(VERDICTS))

    def likeness(self) -> float:
        """How like the map that is shown is to the most similar one of another word that tells
        something: the cosine of the two, 0..1."""
        if self.result is None:
            return 1.0
        shown = self.result.maps[-1]
        maps, word = np.nan_to_num(shown.mean_map()), first_word(shown)
        maps = maps / np.maximum(np.linalg.norm(maps, axis=1, keepdims=True), 1e-12)  # (Q, K)
        return max((float(maps[word] @ maps[other]) for other in telling_words(shown)
                    if other != word), default=0.0)

    def copy(self) -> "Opened":
        """One visitor's own, with the evidence that there is by now."""
        if self.result is None:
            return self
        result = replace(self.result, others=dict(self.result.others),
                         evidence=dict(self.result.evidence), shares=dict(self.result.shares))
        return Opened(self.path, result.whole(), result)


class Opening:
    """Made by the model itself, once a language, for all visitors of a server.

    It is the example whose map was found to be the word's own at an earlier start, else the first
    that convinces, or where none does, the first one; once the evidence is known, one that
    convinces and whose map is the word's own, or where there is none, the one with the best
    verdict.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._lock = threading.Lock()
        self._made: dict[str, Opened] = {}
        self._kept: ProvedExample | None = None  # on the disk, where `start` looks

    @property
    def possible(self) -> bool:
        """Whether the page is to open so, and can."""
        context = self.context
        return bool(context.settings.open_with_result and context.examples
                    and context.can("caption"))

    def start(self) -> None:
        """Make it now, in the background; a borrowed GPU is not used before somebody comes."""
        if self.possible and self.context.settings.check_at_once:
            threading.Thread(target=self._start, name="opening", daemon=True).start()

    def _start(self) -> None:
        try:
            self._kept = ProvedExample(self.context.engine.info, self.context.examples)
            for code in LANGUAGES:
                with speaking(code):
                    self.get()
            for code in LANGUAGES:  # then what takes longer: the evidence
                with speaking(code):
                    self._prove()
        except (OSError, VitDemoError) as error:  # who comes sees a page without it
            log.warning("the page cannot open with a result: %s", error)

    def _prove(self) -> None:
        """Check the map, and those of the other examples until one is the word's own."""
        code, checked = language(), []
        first = self._made[code]
        for one in self._candidates(first):
            self._check(one)
            checked.append(one)
            if one.proved():
                break
        best = self._made[code] = min(checked, key=lambda one: (one.rank(), one is not first))
        if self._kept is not None:
            self._kept.put(code, self.context.examples.index(best.path) if best.proved() else None)

    def _candidates(self, first: Opened) -> Iterator[Opened]:
        """What was proved before; then, with the others that convince, first the one whose map is
        least like those of the other words of its sentence: the evidence holds against a map that
        these serve as well."""
        kept = self._kept is not None and self._kept.get(language()) is not None
        if kept:
            yield first
        others = [self._describe(path) for path in self.context.examples if path != first.path]
        found = [*filter(Opened.convinces, others), *([] if kept else [first])]
        yield from sorted(found, key=Opened.likeness)

    def _check(self, made: "Opened") -> None:
        desk = Desk()
        desk.result = made.result
        for _ in follow_up(self.context.engine, desk, open_picture(made.path)):
            pass

    def picture_meanwhile(self) -> dict[str, Any] | None:
        """What the viewer shows until it is made; None where it is."""
        if language() in self._made:
            return None
        return viewer.display(open_picture(self.context.examples[0]))

    def get(self) -> Opened:
        """It, in the current language, made if it was not yet; one's own copy.

        Raises:
            VitDemoError: the model cannot do it.
        """
        with self._lock:
            if language() not in self._made:
                examples = []
                for path in self._kept_first():
                    examples.append(self._describe(path))
                    if examples[-1].convinces():
                        break
                self._made[language()] = next(filter(Opened.convinces, examples), examples[0])
            return self._made[language()].copy()

    def _kept_first(self) -> list[Path]:
        """The examples, that which is kept as proved before the others."""
        kept = self._kept.get(language()) if self._kept is not None else None
        paths = list(self.context.examples)
        return paths if kept is None else [paths.pop(kept), *paths]

    def _describe(self, path: Path) -> Opened:
        engine, desk = self.context.engine, Desk()
        *_, shown = narrate(engine, open_picture(path), "", first_language(engine), Decoding(),
                            desk, self.context.settings.check_at_once)
        return Opened(path, shown, desk.result)
