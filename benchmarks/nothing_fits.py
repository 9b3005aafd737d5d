"""Whether a search for what is not there is told so: nonsense, absent things, present ones.

    python -m benchmarks.nothing_fits --data DIR [--data DIR] [--pictures 200 100]
        [--checkpoint DIR] [--json FILE]

Each DIR holds photographs with a metadata.jsonl, as for training; its last ``--pictures`` are
searched together (the three numbers of `ModelInfo.fit` were chosen on others, the first). What is
looked for stands in nothing_fits.tsv, in English and Chinese. What is there follows from what
people wrote of the photographs: a thing is present where two sentences on one picture name it,
absent where none names it, else it is left out. The first captions of some pictures are looked for,
too. Words that the model does not know at all are refused before any search and count as told.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from benchmarks.timing import table, write_json
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import open_small, picture_of
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.query_text import Term
from vitdemo.retrieval.rerank import BEST, SIDE, Reranker, nothing_fits

CAPTIONS = 60  # of each language that are looked for


@dataclass(frozen=True)
class Photo:
    """A photograph with what people wrote of it."""

    path: str
    texts: tuple[str, ...]  # captions, and questions with their answers
    captions: dict[str, str]  # the first one of each language


@dataclass(frozen=True)
class Wanted:
    """Something to look for; ``there`` says whether a picture shows it."""

    kind: str
    language: str
    text: str
    there: bool


def read_photos(folder: Path, count: int) -> list[Photo]:
    """The last photographs of a folder."""
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[-count:]
    photos = []
    for row in map(json.loads, lines):
        texts = [*row.get("captions", []),
                 *(f"{one['question']} {one['answer']}" for one in row.get("qa", []))]
        first = {language: row[key][0] for language, key in (
            ("English", "captions"), ("Chinese", "captions_zh")) if row.get(key)}
        photos.append(Photo(str(folder / row["file_name"]),
                            tuple(text.lower() for text in texts), first))
    return photos


def wanted(photos: Sequence[Photo], seed: int = 0) -> Iterator[Wanted]:
    """What is looked for among these photographs."""
    rows = resources.files("benchmarks").joinpath("nothing_fits.tsv").read_text(encoding="utf-8")
    for row in rows.splitlines()[1:]:
        kind, english, chinese, forms = row.split("\t")
        there: bool | None = False
        if forms:
            pattern = re.compile(rf"\b(?:{'|'.join(forms.split())})\b")
            most = max(sum(bool(pattern.search(text)) for text in photo.texts)
                       for photo in photos)
            there = None if most == 1 else most > 1
        if there is not None and not (there and kind == "sentence"):
            yield Wanted(kind, "English", english, there)
            yield Wanted(kind, "Chinese", chinese, there)
    random = np.random.default_rng(seed)
    for language in ("English", "Chinese"):
        captions = [photo.captions[language] for photo in photos if language in photo.captions]
        for place in random.permutation(len(captions))[:CAPTIONS]:
            yield Wanted("caption", language, captions[place], True)


def told_so(engine: Engine, gallery: Gallery, reranker: Reranker, text: str) -> bool:
    """Whether a search would say that nothing fits."""
    if engine.unread(text).nothing:
        return True
    query = Query((Term(text),))
    return nothing_fits(reranker.order(gallery.search(query.vector(engine), BEST), query))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--pictures", type=int, nargs="+", default=[200, 100])
    parser.add_argument("--checkpoint", default=EngineConfig().model)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    photos = [photo for folder, count in zip(options.data, options.pictures, strict=False)
              for photo in read_photos(folder, count)]
    engine = Engine.load(EngineConfig(model=options.checkpoint, cached_pictures=len(photos) + 1))
    gallery = engine.gallery()
    for photo in photos:  # one by one, so that the engine keeps what it saw for the second look
        gallery.add([(photo.path, picture_of(open_small(photo.path, SIDE)))])
    reranker = Reranker(engine)
    told: dict[tuple[str, str, bool], list[bool]] = {}
    for one in wanted(photos):
        told.setdefault((one.kind, one.language, one.there), []).append(
            told_so(engine, gallery, reranker, one.text))
    gallery.close()
    rows = [(kind, language, "there" if there else "not there", str(len(said)), str(sum(said)),
             f"{np.mean(said):.0%}") for (kind, language, there), said in sorted(told.items())]
    print(table(("looked for", "in", "is", "searches", "“nothing fits”", "share"), rows))
    if options.json:
        write_json(options.json, {"pictures": len(photos), "rows": rows})


if __name__ == "__main__":
    main()
