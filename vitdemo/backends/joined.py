"""Several models that share the work: each task goes to the first of them that can do it.

Legend: P pictures, M texts, E embedding width.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.records import ALL_TASKS, ModelInfo, Unread

HELD = 2**28  # bytes of pictures that some of the models have not encoded yet


class _Seen:
    """One picture: what those models made of it that were asked about it, by their place, and the
    picture itself, for the others."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture: Image.Image | None = picture
        self.features: dict[int, PictureFeatures] = {}

    @property
    def held(self) -> int:
        """Bytes of the picture."""
        return 3 * self.picture.width * self.picture.height if self.picture else 0


def _by(task: str, method: str) -> Any:
    """The ``method`` of the model that does a task, "" being that of the request which is given, on
    what that model made of the picture, or of the pictures."""
    def hand_on(joined: "JoinedBackend", features: Any, *given: Any, **named: Any) -> Any:
        asked = task or given[0].task
        if not task:
            joined._require_words(asked)
        one = isinstance(features, PictureFeatures)
        own = joined._of(asked, [features] if one else features)
        return getattr(joined.doing(asked), method)(own[0] if one else own, *given, **named)

    return hand_on


class JoinedBackend(Backend):
    """Two models or more. A picture is encoded by a model when that is first asked about it, so
    that a gallery is not encoded by those that only write."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        assert len(backends) > 1
        self.backends = tuple(backends)
        self.info = _info([backend.info for backend in backends])
        self._waiting: deque[weakref.ref[_Seen]] = deque()

    def doing(self, task: str) -> Backend:
        """The model that does a task."""
        return self.backends[self._place(task)]

    def _place(self, task: str) -> int:
        self.require(task)
        return next(place for place, backend in enumerate(self.backends)
                    if task in backend.info.tasks)

    def randomised(self, seed: int, turn: AbstractContextManager[object]) -> "JoinedBackend":
        """The same models with random weights."""
        return JoinedBackend([backend.randomised(seed, turn) for backend in self.backends])

    def close(self) -> None:
        """Each of them."""
        for backend in self.backends:
            backend.close()
        super().close()

    # Pictures

    @property
    def picture_side(self) -> int:
        """That of the model that makes vectors."""
        return self.doing("embed").picture_side if "embed" in self.info.tasks else 0

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[PictureFeatures]:
        """Nothing is encoded yet; the pictures are kept, up to `HELD` bytes of them."""
        features = [PictureFeatures(_Seen(picture), picture.size) for picture in pictures]
        self._waiting.extend(weakref.ref(one.data) for one in features)
        while sum(seen.held for seen in self._seen()) > HELD and len(self._waiting) > len(features):
            oldest = self._waiting.popleft()()
            if oldest is not None and oldest.picture is not None:
                for place in range(len(self.backends)):
                    self._encode(place, [oldest])
                oldest.picture = None
        return features

    def _seen(self) -> list[_Seen]:
        """Those that somebody still uses; the others are forgotten."""
        there = [seen for seen in (one() for one in self._waiting) if seen is not None]
        self._waiting = deque(weakref.ref(seen) for seen in there)
        return there

    def _encode(self, place: int, some: Sequence[_Seen]) -> None:
        lacking = [seen for seen in some if place not in seen.features]
        pictures = [seen.picture for seen in lacking if seen.picture is not None]
        assert len(pictures) == len(lacking)
        for seen, one in zip(lacking, self.backends[place].encode_pictures(pictures)
                             if pictures else (), strict=True):
            seen.features[place] = one

    def _of(self, task: str, features: Sequence[PictureFeatures]) -> list[PictureFeatures]:
        """What the model that does a task made of these pictures."""
        place = self._place(task)
        self._encode(place, [one.data for one in features])
        return [one.data.features[place] for one in features]

    # What a task asks for: see `Backend`

    def unread(self, text: str) -> Unread:
        """By the model that is given sentences of a person's own."""
        return self.doing(next(task for task in ("embed", "match", "caption", "ask")
                               if task in self.info.tasks)).unread(text)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """By the model that searches."""
        return self.doing("embed").embed_texts(texts)

    generate = _by("caption", "generate")
    captions = _by("caption", "captions")
    surely_seen = _by("caption", "surely_seen")
    answer = _by("ask", "answer")
    answering = _by("ask", "answering")
    answers = _by("ask", "answers")
    score_pairs = _by("match", "score_pairs")
    embed_pictures = _by("embed", "embed_pictures")
    traces = _by("", "traces")
    explain = _by("", "explain")
    word_probabilities = _by("", "word_probabilities")


def _info(parts: Sequence[ModelInfo]) -> ModelInfo:
    """What several models are together. What belongs to a task is that of the model that does it;
    maps can be made by the methods that all of those know whose words are explained."""
    tasks = frozenset[str]().union(*(part.tasks for part in parts))
    doing = {task: next(part for part in parts if task in part.tasks)
             for task in ALL_TASKS if task in tasks}
    missing = {task: parts[0].missing[task] for task in ALL_TASKS
               if task not in tasks and task in parts[0].missing}
    explained = [part.methods for task, part in doing.items()
                 if task in ("caption", "ask", "match") and part.methods]
    methods = tuple(name for name in (explained or [()])[0]
                    if all(name in others for others in explained))
    speaks = next((doing[task] for task in ("caption", "ask", "match", "embed") if task in doing),
                  parts[0])
    together = ModelInfo(
        name=" + ".join(part.name for part in parts),
        family="+".join(part.family for part in parts),
        revision="+".join(part.revision for part in parts), tasks=tasks,
        languages=speaks.languages,
        dimension=doing["embed"].dimension if "embed" in doing else 0, missing=missing,
        methods=methods, weighs_captions="caption" in doing and doing["caption"].weighs_captions,
        weighs_answers="ask" in doing and doing["ask"].weighs_answers,
        instructions=speaks.instructions, parts=tuple(parts))
    if "match" in doing and doing["match"] is doing.get("embed"):  # its numbers belong together
        together = replace(together, match_weight=doing["match"].match_weight,
                           fit=doing["match"].fit)
    return together
