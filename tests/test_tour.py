"""The guided tour's steps, on a model whose maps are known."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import PlantedBackend
from PIL import Image

from vitdemo.engine import Engine
from vitdemo.errors import TaskError
from vitdemo.records import Caption, Explanation
from vitdemo.report import CANNOT
from vitdemo.texts import LANGUAGES, phrase, speaking
from vitdemo.ui.tour import tab
from vitdemo.ui.tour.parts import end
from vitdemo.ui.tour.steps import LAST, STEPS, Guide


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


def planted_tour(**settings: Any) -> Guide:
    return Guide(Engine(Learned(**settings)))


def test_every_step_finds_something(path: Path) -> None:
    guide = planted_tour()
    for number in range(LAST + 1):
        found = guide.step(number, path)
        assert found.payload or found.html
    assert len(STEPS) == 6


def test_step_1_shows_the_caption(path: Path) -> None:
    found = planted_tour().step(0, path)
    assert found.payload is not None
    assert [text["text"] for text in found.payload["texts"]] == [
        "A cat on the left and a dog on the right."]
    with speaking("zh"):
        chinese = planted_tour().step(0, path)
    assert chinese.payload is not None and chinese.payload["texts"][0]["language"] == "zh"


def test_step_2_takes_the_word_that_the_picture_counted_for(path: Path) -> None:
    guide = planted_tour()
    found = guide.step(1, path)
    assert found.words[found.word] in ("left", "right")
    assert found.html.count("<figure>") == 3
    assert "It matters" in found.html
    assert f'data-index="{found.word}" aria-pressed="true"' in str(tab.shown(1, found))
    other = guide.step(1, path, 1)
    assert other.word == 1 and "(cat: " in other.html


def test_step_3_marks_the_words_that_come_anyway(path: Path) -> None:
    found = planted_tour().step(2, path)
    rows = found.html.split("<tr")
    marked = [row for row in rows if 'class="vt-anyway"' in row]
    assert len(marked) == 9 and not any("left" in row or "right" in row for row in marked)
    assert "9 of these 11 words" in found.html
    assert "Nothing but grey" in found.html


def test_step_4_shuffles_and_judges(path: Path) -> None:
    found = planted_tour().step(3, path)
    before, after = re.findall(r'<span dir="auto">(.*?)</span>', found.html)
    assert sorted(before.lower().rstrip(".").split()) == sorted(after.split())
    assert before.lower().rstrip(".") != after
    assert "vt-good" in found.html and "go with the words" in found.html


def test_step_5_sees_whether_the_maps_were_learned(path: Path) -> None:
    found = planted_tour().step(4, path)
    assert "vt-good" in found.html and "fall apart" in found.html
    assert found.html.count("<figure>") == 2
    same = planted_tour(stubborn=True).step(4, path)
    assert "vt-doubt" in same.html and "hardly change" in same.html


def test_a_step_runs_once(path: Path) -> None:
    backend = Learned()
    guide = Guide(Engine(backend))
    assert guide.known(0, path) is None
    first = [guide.step(number, path) for number in range(LAST)]
    runs = backend.explained, backend.pictures
    assert [guide.step(number, path) for number in range(LAST)] == first
    assert (backend.explained, backend.pictures) == runs
    assert guide.known(0, path) is first[0]


def test_a_picture_can_be_made_ready_in_every_language(path: Path) -> None:
    guide = planted_tour()
    guide.start(path).join(60)
    for code in LANGUAGES:
        with speaking(code):
            assert all(guide.known(number, path) for number in range(LAST))


def test_a_model_that_cannot_describe_is_given_a_sentence(path: Path) -> None:
    guide = planted_tour(tasks=("match", "explain"), missing={"caption": "it only compares"})
    found = guide.step(0, path)
    assert found.payload is not None
    assert found.payload["texts"][0]["text"] == "a photograph: left dog"
    assert "cannot write descriptions" in found.html
    blank = guide.step(2, path).html
    assert "left out: planted cannot describe pictures (it only compares)." in blank
    assert "The sentence fits the picture" in blank
    assert guide.step(3, path).html.count("<figure>") == 2


def test_a_model_without_maps_says_what_is_left_out(path: Path) -> None:
    guide = planted_tour(tasks=("caption",), missing={"explain": "Its fusion mixes all regions."})
    for number in (0, 1, 3, 4):
        with pytest.raises(TaskError, match="left out: planted cannot show where it looked"):
            guide.step(number, path)
    assert "left out" in guide.step(2, path).html
    assert guide.step(LAST, path).html == end()


def test_a_model_without_random_copies_says_so(path: Path) -> None:
    with pytest.raises(TaskError, match="random weights"):
        Guide(Engine(PlantedBackend())).step(4, path)


def test_what_the_model_says_is_text(path: Path) -> None:
    said = Caption("A <b>dog</b>.", "a <b>dog</b>", "en", "", -1.0, 0.1)
    guide = planted_tour()
    guide.engine.caption = lambda *_, **__: said  # type: ignore[method-assign]
    for number in range(LAST):
        assert "<b>" not in guide.step(number, path).html


def test_the_end_says_it_plainly() -> None:
    assert all(phrase(key).split("“")[0] in end() for key in CANNOT)
    for number, name in enumerate(STEPS):
        html = tab.heading(number)
        assert html.count("aria-current") == 1 and phrase(f"tour.{name}.title") in html
        assert len(phrase(f"tour.{name}.text").split()) <= 30, "few words"
