"""What stands in for people's captions, from two tables; people's go before these, and nothing is
measured by them.

Few photographs of COCO have a Chinese caption by a person (COCO-CN: Li et al. 2019). One table has
an English caption of the others, as people wrote it (COCO, CC BY 4.0), and its Chinese by a large
language model.

Most photographs of Visual7W and of COCO's have no caption at all that people wrote and may be
used. The other table has an English and a Chinese one of each, and of photographs of Unsplash (in
a folder unsplash/train, where they are there), by a large model that looked at it.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from train.data.reading import Row


def stand_ins(row: Row) -> tuple[str, ...]:
    """English captions for a row without any."""
    written = _written().get("/".join(row.path.parts[-3:]))
    return tuple(written[:1]) if written else ()


def in_chinese(captions: Sequence[str]) -> tuple[str, ...]:
    """The Chinese of those of the English captions that a table has."""
    table = _chinese()
    return tuple(table[key] for key in map(_key, captions) if key in table)


def _key(caption: str) -> str:
    return " ".join(caption.lower().strip().rstrip(".").split())


@lru_cache(maxsize=1)
def _written() -> dict[str, list[str]]:
    """The English and the Chinese caption of each picture, by the data set's folder, the split and
    the file's name."""
    return {name: captions for name, *captions in _lines("written_captions.tsv")}


@lru_cache(maxsize=1)
def _chinese() -> dict[str, str]:
    written = {_key(english): chinese for english, chinese in _written().values()}
    return written | dict(_lines("chinese_captions.tsv"))


def _lines(table: str) -> list[list[str]]:
    text = resources.files("train.data").joinpath(table).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()]
