"""Why a picture was found, and why another was not, over the planted model of colours."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import COLOURS, Planted, picture

from vitdemo.engine import Engine
from vitdemo.preprocess import open_picture
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.why import why, why_not


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Planted())


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_words_part_is_what_the_score_loses_without_it(engine: Engine) -> None:
    red, green, blue = np.eye(3)
    photo = red  # of the picture below
    (found,) = why(engine, Query.of("red green +2 blue"), [picture("red")])
    assert [(one.text, one.weight) for one in found.parts] == [
        ("red", 1), ("green", 1), ("blue", 2)]
    both = (red + green) / math.sqrt(2)
    score = cosine(both + 2 * blue, photo)
    assert found.score == pytest.approx(score, abs=1e-4)
    assert [one.loss for one in found.parts] == pytest.approx([
        score - cosine(green + 2 * blue, photo), score - cosine(red + 2 * blue, photo),
        score - cosine(both, photo)], abs=1e-4)
    assert found.parts[0].loss > 0 > found.parts[2].loss  # blue keeps a red picture away


def test_taking_away_helps_where_it_is_not_there(engine: Engine) -> None:
    (found,) = why(engine, Query.of("red -blue"), [picture("red")])
    red, blue = found.parts
    assert (blue.text, blue.weight) == ("blue", -1) and blue.loss < 0
    assert red.loss == pytest.approx(found.score, abs=1e-3)  # only "not blue" would be left


def test_a_picture_has_its_part_and_one_word_alone_has_none(engine: Engine) -> None:
    query = Query.of("red", picture("blue"))
    one, other = why(engine, query, [picture("red"), picture("blue")])
    assert [part.text for part in one.parts] == ["red", "your picture"]
    assert one.parts[1].loss < 0 < other.parts[1].loss
    (alone,) = why(engine, Query.of("red"), [picture("red")])
    assert alone.score == pytest.approx(1, abs=1e-4) and math.isnan(alone.parts[0].loss)


def test_chinese_words_are_words(engine: Engine) -> None:
    (found,) = why(engine, Query.of("红色的球 -蓝色"), [picture("red")])
    texts = [part.text for part in found.parts]
    assert "".join(texts) == "红色的球蓝色" and texts[-1] == "蓝色"
    assert max(found.parts, key=lambda part: part.loss).text.startswith("红")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    for colour, size in (("red", (40, 30)), ("green", (30, 40)), ("blue", (40, 30))):
        Image.new("RGB", size, COLOURS[colour]).save(folder / f"{colour}.png")
    return folder


@pytest.fixture(scope="module")
def gallery(engine: Engine, folder: Path) -> Gallery:
    made = engine.gallery()
    index_folders(made, [folder], workers=1)
    return made


def test_why_not_says_where_the_other_stands(gallery: Gallery, folder: Path) -> None:
    hit, other = (open_picture(folder / f"{name}.png") for name in ("red", "blue"))
    found = why_not(gallery, Query.of("red +0.5 blue"), Filters(), hit, other,
                    str(folder / "blue.png"))
    assert (found.held, found.place, found.looked, found.misfits) == (True, 2, 3, ())
    assert found.hit.score > found.other.score
    assert [part.loss > 0 for part in found.hit.parts] == [True, False]
    assert [part.loss > 0 for part in found.other.parts] == [False, True]


def test_why_not_knows_a_copy_of_a_file_and_of_the_pixels(gallery: Gallery, folder: Path,
                                                          tmp_path: Path) -> None:
    copy = tmp_path / "upload.png"
    copy.write_bytes((folder / "blue.png").read_bytes())
    hit = open_picture(folder / "red.png")
    found = why_not(gallery, Query.of("red +0.5 blue"), Filters(), hit, open_picture(copy),
                    str(copy))
    assert found.held and found.place == 2


def test_why_not_names_the_filters_and_what_is_not_there(gallery: Gallery, folder: Path) -> None:
    hit, other = (open_picture(folder / f"{name}.png") for name in ("red", "green"))
    found = why_not(gallery, Query.of("red"), Filters(orientation="landscape"), hit, other,
                    str(folder / "green.png"))
    assert found.held and found.place == 0 and found.misfits == ("it is portrait",)
    stranger = picture("blue", (77, 77))
    found = why_not(gallery, Query.of("red"), Filters(), hit, stranger)
    assert not found.held and found.place == 0 and found.misfits == ()
