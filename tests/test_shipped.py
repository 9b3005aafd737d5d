"""What the app offers at first is what the shipped weights do well on the example photographs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import open_small, picture_of
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.query_text import Term
from vitdemo.retrieval.rerank import BEST, SIDE, Reranker
from vitdemo.texts import speaking
from vitdemo.ui import Settings
from vitdemo.ui.components import Context, readable_examples
from vitdemo.ui.search.fields import QUERIES
from vitdemo.ui.session import Sessions
from vitdemo.ui.tabs.opening import Opening

ROOT = Path(__file__).parent.parent
SHOWN = {  # what a sample query is to find
    "something that swims": {"turtle-mistake", "surfer"}, "a hot drink": {"coffee"},
    "yellow cars": {"taxis"}, "flying": {"airplane"},
    "喝的东西": {"coffee"}, "黄色的车": {"taxis"}, "游泳": {"turtle-mistake", "surfer"},
    "天空": {"airplane"}}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(EngineConfig(model=str(ROOT / "checkpoints" / "vitdemo-small"),
                                    device="cpu"))


@pytest.fixture(scope="module")
def gallery(engine: Engine) -> Iterator[Gallery]:
    made = engine.gallery()
    made.add([(str(path), picture_of(open_small(str(path), SIDE)))
              for path in sorted((ROOT / "examples").glob("*.jpg"))])
    yield made
    made.close()


@pytest.mark.parametrize("words", [words for known in QUERIES.values() for words in known])
def test_a_sample_query_finds_what_fits(engine: Engine, gallery: Gallery, words: str) -> None:
    query = Query((Term(words),))
    hits = Reranker(engine).order(gallery.search(query.vector(engine), BEST), query)
    assert {Path(hit.path).stem for hit in hits if hit.fits} == SHOWN[words]


def test_the_weights_know_how_well_they_say_yes_and_no(engine: Engine) -> None:
    card = (ROOT / "checkpoints" / "README.md").read_text("utf-8")
    row = next(line for line in card.splitlines() if line.startswith("| yes or no of people"))
    right, blank = engine.info.yes_no
    assert f"| {100 * right:.1f} " in row and f"| {100 * blank:.1f} |" in row


@pytest.mark.slow
@pytest.mark.parametrize(("code", "name", "proved"), [("en", "taxis", True),
                                                      ("zh", "surfer", False)])
def test_the_page_opens_with_what_convinces(engine: Engine, code: str, name: str, proved: bool
                                            ) -> None:
    context = Context(engine, Settings(open_with_result=True), Sessions(),
                      readable_examples(ROOT / "examples"))
    opening = Opening(context)
    with speaking(code):
        opening.get()
        opening._prove()
        made = opening.get()
    assert made.path.stem == name and made.convinces() and made.proved() == proved
