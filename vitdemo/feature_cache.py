"""Features of the pictures seen last, so that the second question on one skips the encoder."""

from collections.abc import Iterable, Sequence

from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.cache import LRU
from vitdemo.measures import Measures
from vitdemo.preprocess import Picture


class FeatureCache:
    """Those of ``capacity`` pictures, of ``most`` bytes and the newest in any case, by their
    content. Whoever calls it holds the device."""

    def __init__(self, backend: Backend, capacity: int, most: int, measures: Measures) -> None:
        self._backend, self._most, self._measures = backend, most, measures
        self._known: LRU[PictureFeatures] = LRU(capacity)

    def bytes(self) -> int:
        """How much is kept. It may be asked by any thread."""
        return sum(one.bytes for one in self._known.values())

    def lacks(self, pictures: Iterable[Picture]) -> list[str]:
        """Digests of the pictures that would have to be encoded, each once."""
        return [one for one in dict.fromkeys(picture.digest for picture in pictures)
                if one not in self._known]

    def of(self, pictures: Sequence[Picture], keep: bool = True) -> list[PictureFeatures]:
        """Features from here or from the encoder.

        Those of many pictures are looked up but not kept (``keep`` False): indexing a folder must
        not push out the picture that somebody is asking about.
        """
        found = {picture.digest: self._known.get(picture.digest) for picture in pictures}
        lacking = {p.digest: p for p in pictures if found[p.digest] is None}
        self._measures.add("cache", "hit", len(found) - len(lacking))
        self._measures.add("cache", "miss", len(lacking))
        if lacking:
            self._measures.add("batch", "encode", len(lacking))
            with self._measures.stage("encode"):
                encoded = self._backend.encode_pictures([p.image for p in lacking.values()])
            found.update(zip(lacking, encoded, strict=True))
            if keep:
                for digest, one in zip(lacking, encoded, strict=True):
                    self._known.put(digest, one)
                while len(self._known) > 1 and self.bytes() > self._most:
                    self._known.drop()
        features = [found[picture.digest] for picture in pictures]
        return [value for value in features if value is not None]
