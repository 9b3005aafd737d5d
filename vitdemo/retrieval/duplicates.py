"""Pictures that are almost the same: the same one saved twice, resized, or taken in a burst.

Two pictures count as almost the same where two independent tests agree: the model's vectors lie
close together (the same things are seen), and so do the perceptual hashes (light and dark lie in
the same places). The first alone takes two photographs of one beach for one; the second alone
takes any two plain skies for one. Nothing is ever deleted here. N pictures, E embedding width.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from vitdemo.errors import ConfigError, PictureError
from vitdemo.preprocess import open_small
from vitdemo.records import Hit
from vitdemo.retrieval.base import Condition, Found, Index, pages
from vitdemo.texts import phrase
from vitdemo.video import second_of

COSINE = 0.6  # at least, of the vectors: a copy of half the size may be as far apart
DISTANCE = 10  # at most, of the 64 bits of their perceptual hashes (pHash, DCT)
FOLD_COSINE = 0.75  # at least, of hits that stand as one: few others have to be opened
MOST = 100_000  # pictures compared at once
SIDE = 256  # pixels of the copy that hash and sharpness are taken from
NEIGHBOURS = 10  # of each picture, whose hashes are compared with its own
_ROWS = 512  # vectors compared with all others in one step
BY = ("largest", "sharpest", "oldest", "newest")

Tell = Callable[[int, int], None]
HashOf = Callable[[str], np.ndarray | None]  # of a path: bool (64,), None where it cannot be read


@dataclass(frozen=True)
class Twin:
    """One picture of a group. ``sharpness`` is the variance of the Laplacian of its copy of at
    most `SIDE` pixels, so that sizes compare; ``cosine`` and ``distance`` are against the one that
    should be kept."""

    id: str
    path: str
    width: int
    height: int
    bytes: int
    day: str
    sharpness: float
    cosine: float
    distance: int


@dataclass(frozen=True)
class Group:
    """Pictures that are almost the same; the first is the one to keep, ``reason`` says why."""

    pictures: tuple[Twin, ...]
    reason: str


@dataclass(frozen=True)
class Groups:
    """What was found among ``compared`` pictures; ``gone`` of them could not be opened. ``more``
    says that the store holds more than `MOST`, which were not looked at."""

    groups: tuple[Group, ...]
    compared: int
    gone: int
    more: bool


@dataclass(frozen=True)
class _Look:
    """What the second test, and the choice, need of a picture."""

    hash: np.ndarray  # bool (64,)
    sharpness: float


def find_duplicates(index: Index, where: Sequence[Condition] = (), keep: str = "largest",
                    cosine: float = COSINE, distance: int = DISTANCE,
                    progress: Tell | None = None) -> Groups:
    """Groups of pictures that are almost the same, the largest group first. Frames of videos are
    left out: none of them can be deleted alone.

    Every picture of a group passes both tests with the one to keep, so that a group does not
    drift from one picture to quite another. ``keep`` is one of `BY`. ``progress(done, total)`` is
    called now and then; what it raises ends the work.

    Raises:
        StoreError: the store cannot be read.
        ConfigError: a setting out of its range.
    """
    if keep not in BY:
        raise ConfigError(f"keep is {keep!r}; it must be one of {', '.join(BY)}.")
    if not 0 < cosine <= 1 or not 0 <= distance <= 64:
        raise ConfigError(f"cosine is {cosine:g} and distance {distance}; they must be over 0 and "
                          "at most 1, and from 0 to 64.")
    found: list[Found] = []
    more = False
    for page in pages(index, where, vectors=True):
        found += [one for one in page if second_of(one.path) is None]
        if len(found) > MOST:
            found, more = found[:MOST], True
            break
    if not found:
        return Groups((), 0, 0, False)
    vectors = np.stack([one.vector for one in found if one.vector is not None])  # (N, E)
    near: dict[int, set[int]] = {}
    for one, other in _close(vectors, cosine, progress):
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    looks = _looks(found, sorted(near), progress)
    return Groups(tuple(_groups(found, vectors, near, looks, keep, distance)), len(found),
                  sum(one not in looks for one in near), more)


def fold(hits: Sequence[Hit], vectors: Mapping[str, np.ndarray], hash_of: HashOf,
         unfolded: Collection[str] = ()) -> list[list[Hit]]:
    """Hits in their order, each with the later ones that are almost the same as it.

    ``vectors`` are theirs, (E,), by their ids. The ids in ``unfolded`` stand for themselves, as do
    those that are almost the same.
    """
    groups: list[list[Hit]] = []
    if not hits:
        return groups
    rows = np.stack([vectors[hit.id] for hit in hits])  # (N, E)
    near = rows @ rows.T >= FOLD_COSINE  # (N, N)
    group_of: dict[int, list[Hit]] = {}
    for place, hit in enumerate(hits):
        for first in np.flatnonzero(near[place, :place]).tolist():
            if first in group_of and hits[first].id not in unfolded and _alike(
                    hash_of(hits[first].path), hash_of(hit.path)):
                group_of[first].append(hit)
                break
        else:
            group_of[place] = [hit]
            groups.append(group_of[place])
    return groups


def _alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return (one is not None and other is not None
            and int(np.count_nonzero(one != other)) <= DISTANCE)


def perceptual_hash(image: Image.Image) -> np.ndarray:
    """bool (64,): pHash, by the cosine transform of the grey picture."""
    return np.asarray(imagehash.phash(image).hash).ravel()


def _close(vectors: np.ndarray, cosine: float, progress: Tell | None) -> Iterator[tuple[int, int]]:
    """Places of pairs whose vectors are near enough: of each its `NEIGHBOURS` nearest at most."""
    count = min(NEIGHBOURS, len(vectors) - 1)
    if count < 1:
        return
    for first in range(0, len(vectors), _ROWS):
        if progress is not None:
            progress(first, len(vectors))
        block = vectors[first:first + _ROWS] @ vectors.T  # (rows, N)
        own = np.arange(len(block))
        block[own, first + own] = -np.inf
        nearest = np.argpartition(-block, count - 1, axis=1)[:, :count]  # (rows, count)
        near = np.take_along_axis(block, nearest, axis=1) >= cosine
        for row, column in zip(*np.nonzero(near), strict=True):
            yield first + int(row), int(nearest[row, column])


def _looks(found: Sequence[Found], places: Sequence[int],
           progress: Tell | None) -> dict[int, _Look]:
    looks: dict[int, _Look] = {}
    for done, place in enumerate(places):
        if progress is not None and done % 16 == 0:
            progress(done, len(places))
        try:
            small = open_small(found[place].path, SIDE)
        except PictureError:
            continue  # gone or broken since it was indexed
        looks[place] = _Look(perceptual_hash(small), sharpness(small))
    return looks


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian of the grey picture (Pech-Pacheco et al. 2000), 0 and up."""
    grey = np.asarray(image.convert("L"), np.float32)
    if min(grey.shape) < 3:
        return 0.0
    edges = (grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
             - 4 * grey[1:-1, 1:-1])
    return float(edges.var())


def _groups(found: Sequence[Found], vectors: np.ndarray, near: dict[int, set[int]],
            looks: dict[int, _Look], keep: str, distance: int) -> list[Group]:
    """The best picture takes all that are almost the same as it; then the best of the rest."""
    best_first = sorted(looks, key=lambda place: _value(found[place], looks[place], keep),
                        reverse=True)
    taken: set[int] = set()
    groups = []
    for place in best_first:
        if place in taken:
            continue
        same = [other for other in near[place] if other in looks and other not in taken
                and _apart(looks[place], looks[other]) <= distance]
        if not same:
            continue
        taken.update((place, *same))
        same.sort(key=lambda other: -float(vectors[place] @ vectors[other]))
        twins = tuple(_twin(found[one], looks[one], float(vectors[place] @ vectors[one]),
                            _apart(looks[place], looks[one])) for one in (place, *same))
        groups.append(Group(twins, _reason(twins, keep)))
    return sorted(groups, key=lambda group: (-len(group.pictures), group.pictures[0].path))


def _apart(one: _Look, other: _Look) -> int:
    return int(np.count_nonzero(one.hash != other.hash))


def _value(one: Found, look: _Look, keep: str) -> tuple[float | str, ...]:
    """What is larger is kept; equals are told apart by the other virtues, then by the path."""
    pixels, size = one.width * one.height, float(one.metadata.get("bytes", 0))
    date = str(one.metadata.get("taken") or one.metadata.get("day") or "")
    turned = "".join(chr(0x10ffff - ord(letter)) for letter in (date or "9999"))  # older: larger
    firsts: dict[str, float | str] = {"largest": pixels, "sharpest": look.sharpness,
                                      "oldest": turned, "newest": date}
    first = firsts[keep]
    return first, pixels, look.sharpness, size, "".join(chr(0x10ffff - ord(c)) for c in one.path)


def _twin(one: Found, look: _Look, cosine: float, distance: int) -> Twin:
    return Twin(one.id, one.path, one.width, one.height, int(one.metadata.get("bytes", 0)),
                str(one.metadata.get("day", "")), look.sharpness, min(1.0, cosine), distance)


def _reason(twins: Sequence[Twin], keep: str) -> str:
    """What sets the first apart: what was asked for, or else what told the equals among them."""
    best, others = twins[0], twins[1:]
    if keep == "sharpest":
        return phrase("duplicates.sharpest")
    if keep in ("oldest", "newest") and any(one.day != best.day for one in others):
        return phrase(f"duplicates.{keep}" if best.day else "duplicates.undated", day=best.day)
    size = best.width * best.height
    equals = [one for one in others if one.width * one.height == size]
    if not equals:
        return phrase("duplicates.largest", width=best.width, height=best.height)
    if all(best.sharpness > one.sharpness for one in equals):
        return phrase("duplicates.largest_sharpest")
    return phrase("duplicates.first_by_name")
