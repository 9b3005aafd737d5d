"""The guided tour's steps, on a model whose maps are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import PlantedBackend
from PIL import Image

from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.preprocess import open_picture
from vitdemo.records import Caption, Explanation
from vitdemo.report import CANNOT
from vitdemo.ui import tour
from vitdemo.ui.tour_parts import end
from vitdemo.ui.tour_steps import Tour, _random_badge
from vitdemo.ui.tour_texts import LAST, STATIONS


class Learned(PlantedBackend):
    """`PlantedBackend` that can be copied with random weights; ``stubborn`` maps do not change."""

    def __init__(self, stubborn: bool = False, noise: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.stubborn, self.noise = stubborn, noise

    def randomised(self, seed: int, turn: object) -> "Learned":
        return Learned(self.stubborn, 0 if self.stubborn else seed + 1)

    def _explanation(self, *args: Any) -> Explanation:
        made = super()._explanation(*args)
        if not self.noise:
            return made
        maps = np.random.default_rng(self.noise).random(made.weights.shape, np.float32)
        return replace(made, weights=maps / maps.sum(-1, keepdims=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    file = tmp_path / "left-dog.png"
    Image.fromarray(noise).save(file)
    return file


def planted_tour(**settings: Any) -> Tour:
    return Tour(Engine(Learned(**settings)))


def test_every_step_finds_something(path: Path) -> None:
    guide = planted_tour()
    for number in range(LAST + 1):
        found = guide.step(number, path, "en")
        assert found.payload or found.html
    assert len(STATIONS) == 6


def test_step_1_shows_the_caption(path: Path) -> None:
    found = planted_tour().step(0, path, "en")
    assert found.payload is not None
    assert [text["text"] for text in found.payload["texts"]] == [
        "A cat on the left and a dog on the right."]
    chinese = planted_tour().step(0, path, "zh")
    assert chinese.payload is not None and chinese.payload["texts"][0]["language"] == "zh"


def test_step_2_takes_the_word_that_the_picture_counted_for(path: Path) -> None:
    guide = planted_tour()
    found = guide.step(1, path, "en")
    assert found.words[found.word] in ("left", "right")
    assert found.html.count("<figure>") == 3
    assert "much more than chance" in found.html
    assert f'data-index="{found.word}" aria-pressed' in str(tour.shown(1, found))
    other = guide.step(1, path, "en", 1)
    assert other.word == 1 and "“cat”" in other.html


def test_step_3_marks_the_words_that_come_anyway(path: Path) -> None:
    found = planted_tour().step(2, path, "en")
    rows = found.html.split("<tr")
    marked = [row for row in rows if 'class="vt-anyway"' in row]
    assert len(marked) == 9 and not any("left" in row or "right" in row for row in marked)
    assert "9 of these 11 words" in found.html
    assert "The model still says" in found.html


def test_step_4_shuffles_and_judges(path: Path) -> None:
    found = planted_tour().step(3, path, "en")
    assert found.payload is not None
    first, second = (text["text"] for text in found.payload["texts"])
    assert sorted(first.lower().rstrip(".").split()) == sorted(second.split())
    assert first.lower().rstrip(".") != second
    assert "vt-good" in found.html and "go with the words" in found.html


def test_step_5_sees_whether_the_maps_were_learned(path: Path) -> None:
    found = planted_tour().step(4, path, "en")
    assert "vt-good" in found.html and "fall apart" in found.html
    assert found.payload is not None and len(found.payload["texts"]) == 2
    same = planted_tour(stubborn=True).step(4, path, "en")
    assert "vt-doubt" in same.html and "hardly change" in same.html


def test_the_random_copys_badge_is_not_about_language(path: Path) -> None:
    """A copy that gives a word no probability at all does not "say it without the picture"."""
    engine = Engine(Learned())
    photo = open_picture(path)
    caption = engine.caption(photo)
    language, = engine.evidence(photo, caption, words=[0])
    assert language.verdict == "language"
    assert _random_badge(language) == "The picture makes no difference to this word."
    strong, = engine.evidence(photo, caption, words=[4])
    assert "much more than chance" in _random_badge(strong)


def test_a_step_runs_once(path: Path) -> None:
    backend = Learned()
    guide = Tour(Engine(backend))
    first = [guide.step(number, path, "en") for number in range(LAST)]
    runs = backend.explained, backend.pictures
    assert [guide.step(number, path, "en") for number in range(LAST)] == first
    assert (backend.explained, backend.pictures) == runs


def test_a_model_that_cannot_describe_is_given_a_sentence(path: Path) -> None:
    guide = planted_tour(tasks=("match", "explain"), missing={"caption": "It only compares."})
    found = guide.step(0, path, "en")
    assert found.payload is not None
    assert found.payload["texts"][0]["text"] == "a photograph of a left dog"
    assert "cannot write descriptions" in found.html
    blank = guide.step(2, path, "en").html
    assert "left out: planted cannot describe pictures (it only compares)." in blank
    assert "The sentence fits the picture" in blank
    assert guide.step(3, path, "en").payload is not None


def test_a_model_without_maps_says_what_is_left_out(path: Path) -> None:
    guide = planted_tour(tasks=("caption",), missing={"explain": "Its fusion mixes all regions."})
    for number in (0, 1, 3, 4):
        with pytest.raises(TaskError, match="left out: planted cannot show where it looked"):
            guide.step(number, path, "en")
    assert "The model still says" in guide.step(2, path, "en").html
    assert guide.step(LAST, path, "en").html == end()


def test_a_model_without_random_copies_says_so(path: Path) -> None:
    with pytest.raises(TaskError, match="random weights"):
        Tour(Engine(PlantedBackend())).step(4, path, "en")


def test_what_the_model_says_is_text(path: Path) -> None:
    said = Caption("A <b>dog</b>.", "a <b>dog</b>", "en", "", -1.0, 0.1)
    guide = planted_tour()
    guide.engine.caption = lambda *_, **__: said  # type: ignore[method-assign]
    for number in range(LAST):
        assert "<b>" not in guide.step(number, path, "en").html


def test_the_end_says_it_plainly() -> None:
    assert all(text.split("“")[0] in end() for text in CANNOT)
    for number, station in enumerate(STATIONS):
        html = tour.heading(number)
        assert html.count("aria-current") == 1 and station.title in html
        words = " ".join(station.text).split()
        sentences = sum(word.rstrip("”)").endswith((".", "?", ":")) for word in words)
        assert len(words) / sentences < 17, "short sentences"
