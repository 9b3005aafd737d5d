"""Links to a view of the app: what goes into an address comes out of it, and nothing else does."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
from fake_engine import FAKE_METHODS

from vitdemo.config import LIMITS, Decoding
from vitdemo.texts import speaking
from vitdemo.ui.controls import FIELDS
from vitdemo.ui.deep_links import Place, complaint, example_of, link_to, needs_picture
from vitdemo.ui.link import chosen_of, query_of, read_query
from vitdemo.ui.turns import Panel, Turns

LANGUAGES = ("en", "zh")


def read(query: str) -> tuple[dict[str, Any], list[str]]:
    return read_query(dict(parse_qsl(query)), LANGUAGES, FAKE_METHODS, ("cat",))


@pytest.mark.parametrize("view", [
    {"task": "describe", "text": "Describe & tell: 100%?", "language": "en", "example": "cat",
     "strategy": "sample", "seed": 7, "temperature": 1.5, "top_p": 0.4, "max_tokens": 50,
     "min_tokens": 40, "word": "dog", "method": "relevancy", "layer": 0, "head": 2},
    {"task": "ask", "text": "图片里有什么？ <b>", "language": "zh", "layer": 1},
    {"task": "fits", "text": "a red ball\n一个红球", "method": "grad-cam"},
    {"task": "find", "text": "a+b=c"}, {"task": "compare"}, {"task": "tour"},
    {"task": "find", "in": "folder", "folder": "/a b", "after": "2024", "min_width": 100,
     "max_height": 50, "orientation": "portrait", "camera": "Canon", "size": 48, "order": False,
     "sort": True}])
def test_a_link_gives_back_what_it_was_made_of(view: dict[str, Any]) -> None:
    query = query_of(view)
    assert query.isascii()
    assert read(query) == (view, [])


def test_a_link_is_short_where_nothing_was_changed() -> None:
    start = {name: getattr(Decoding(), name) for name in ("strategy", "beams", "seed")}
    view = {"task": "describe", "text": " Describe the picture. ", "language": "en", "layer": -1,
            "head": -1, "example": "", **start}
    assert query_of(view) == "task=describe&text=Describe+the+picture.&language=en"
    assert query_of({"task": "find", "text": "", "in": "uploads", "folder": "", "min_width": None,
                     "max_width": 0, "orientation": "any", "sort": False, "size": 12,
                     "order": True}) == "task=find"


@pytest.mark.parametrize(("query", "named"), [
    ("example=horse", ("example", "horse", "cat")),
    ("task=dance", ("task", "dance", "describe, ask, find, fits")),
    ("language=fr", ("language", "fr", "en, zh")),
    ("method=magic", ("method", "magic", "cross-attention, relevancy, grad-cam")),
    ("layer=0", ("layer", "0", "from 1")), ("layer=-3", ("layer", "-3")),
    ("layer=1" + "0" * 5000, ("layer", "100")), ("layer=000000001" + "9" * 5000, ("layer", "000")),
    ("layer=1e3", ("layer", "1e3")), ("head=" + "9" * 400, ("head", "999")),
    ("head=²", ("head", "²")), ("seed=-1", ("seed", "-1", "from 0")),
    ("seed=9007199254740993", ("seed", "at most")), ("seed=" + "1" * 5000, ("seed", "111")),
    ("beams=3.5", ("beams", "3.5", "a whole number")), ("beams=11", ("beams", "from 1 to 10")),
    ("temperature=nan", ("temperature", "nan", "from 0.05 to 5")),
    ("temperature=hot", ("temperature", "hot", "a number")),
    ("strategy=best", ("strategy", "best", "beam")),
    ("min_tokens=60", ("min_tokens", "60", "from 0 to 30")),
    ("text=a%00b", ("text", "control character")),
    ("text=" + "x" * (LIMITS.max_text_characters + 1), ("text", str(LIMITS.max_text_characters))),
    ("picture=%2Fetc%2Fpasswd", ("picture", "does not know"))])
def test_what_makes_no_sense_is_named_and_left_out(query: str, named: tuple[str, ...]) -> None:
    view, complaints = read(query + "&__theme=dark&utm_source=x")
    assert view == {}
    assert len(complaints) == 1 and len(complaints[0]) < 200
    for part in named:
        assert part in complaints[0], complaints


def test_one_bad_part_costs_the_others_nothing() -> None:
    view, complaints = read("task=ask&text=what%3F&layer=x&head=2&beams=99&seed=3")
    assert view == {"task": "ask", "text": "what?", "seed": 3, "head": 1}
    assert len(complaints) == 2


def test_many_unknown_parts_do_not_fill_the_page() -> None:
    _, complaints = read("&".join(f"a{n}=1" for n in range(500)))
    assert len(complaints) <= 6


def test_what_is_said_of_a_link_is_escaped() -> None:
    _, complaints = read("task=%3Cscript%3E")
    assert "<script>" not in complaint(complaints) and "&lt;script&gt;" in complaint(complaints)
    assert complaint([]) == ""


def test_any_link_is_read_and_what_is_kept_makes_a_link_again() -> None:
    random = np.random.default_rng(0)
    names = ["task", "language", "method", "layer", "head", "text", "example", "word", "in",
             "size", "order", "camera", "folder", "after", "orientation", "min_width", "max_height",
             "seed", "beams",
             "temperature", "fit", "strategy", "__x", "utm_y", "z", "\0", "💥" * 50]
    values = ["", "1", "0", "-1", "9" * 5000, "0" * 5000 + "1", "1e999", "nan", "inf", "-0", "²",
              "１２", "a\0b", "\ud800", "<script>", "2024-00", "2024–05", "describe", "find",
              "fits", "zh", "relevancy", "sample", "x" * 3000, "a\nb" * 50, "[" * 3000, "true",
              "24", "~nobody-of-this-name", "portrait", "examples", "0.5", " 7 ", "7_7", "+3",
              "0x1f"]
    for _ in range(1500):
        params = {str(random.choice(names)): values[random.integers(len(values))]
                  for _ in range(random.integers(0, 9))}
        view, complaints = read_query(params, LANGUAGES, FAKE_METHODS, ("cat",))
        assert all(0 < len(one) < 400 for one in complaints) and len(complaints) < 25
        query = query_of(view)
        again, none = read(query)
        assert query_of(again) == query and not none, (params, query)
        Decoding(**{name: view[name] for name in FIELDS if name in view})
        chosen_of("".join(random.choice(values, 3)))


@pytest.mark.parametrize("stated", ["[" * 200_000, '{"layer": true, "head": false}',
                                    '{"layer": ' + "9" * 5000 + "}", "null", "7", '{"a": NaN}',
                                    '{"method": ["a"], "layer": null}',
                                    "", None, "[]", "{", '{"layer": "1", "head": -1}',
                                    '{"layer": 1e9, "method": 3}'])
def test_a_viewer_that_shows_nothing_gives_no_choice(stated: str | None) -> None:
    assert chosen_of(stated) == {}


def test_the_button_makes_the_address_of_the_page() -> None:
    shown = ('{"source": "answer", "said": "dog", "word": 3, "layer": 1, "head": -1, '
             '"method": "relevancy"}')
    url, label = link_to("http://here/app/", {"task": "ask", "text": " what? ", "example": "cat",
                                              **chosen_of(shown)})
    assert url == ("http://here/app/?task=ask&text=what%3F&example=cat&word=dog&method=relevancy"
                   "&layer=2")
    assert "example" in label
    url, label = link_to("http://here/", {"task": "ask", "text": "x" * 3000})
    assert url == "http://here/?task=ask" and "too long" in label


def test_a_picture_is_an_example_by_what_is_in_it(tmp_path: Path) -> None:
    example, copy, other = (tmp_path / name for name in ("cat.jpg", "a/cat.jpg", "b/cat.jpg"))
    for file, data in ((example, b"cat"), (copy, b"cat"), (other, b"dog")):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    assert example_of(str(copy), [example]) == "cat"
    for path in (str(other), str(tmp_path / "c" / "cat.jpg"), None):
        assert example_of(path, [example]) == ""


def test_a_link_to_a_photograph_says_what_to_do() -> None:
    assert "the word “dog” opens" in needs_picture({"task": "describe", "word": "dog"})
    assert "then ask" in needs_picture({"task": "ask", "text": "what?"})


@pytest.mark.parametrize(("name", "value", "named"), [
    ("size", "13", "12, 24"), ("orientation", "round", "landscape"), ("order", "x", "vectors"),
    ("in", "/etc", "examples, folder"), ("after", "yesterday", "2024-05-31"),
    ("min_width", "-3", "whole number"), ("max_width", "1e9", "whole number"),
    ("camera", "a\x07", "control character"), ("folder", "x" * 3000, "2000")])
def test_what_a_link_cannot_mean_of_a_search_is_named(name: str, value: str, named: str) -> None:
    params = {"task": "find", name: value}
    view, complaints = read_query(params, LANGUAGES, FAKE_METHODS)
    assert view == {"task": "find"} and len(complaints) == 1 and len(complaints[0]) < 250
    assert named in complaints[0] and f"“{name}”" in complaints[0]
    with speaking("zh"):
        assert "链接" in read_query(params, LANGUAGES, FAKE_METHODS)[1][0]
    _, others = read_query({"task": "ask", name: value}, LANGUAGES, FAKE_METHODS)
    assert "does not know" in others[0]


def test_a_link_changes_what_is_offered_and_what_it_holds() -> None:
    with gr.Blocks():
        place = Place("find", "", Panel.of(Turns()), {
            "text": gr.Textbox(), "in": gr.Radio(["examples"]), "sort": gr.Checkbox()},
            go=gr.State(0))
    assert place.updates(None) == [gr.skip()] * 4
    told = place.updates({"text": "a dog", "in": "folder", "sort": True})
    assert told[0] == "a dog" and told[1] == gr.skip() and told[2] is True and told[3] > 0
