"""What a page says was clicked: it may be out of date, or no page of ours at all."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import vitdemo.ui
from vitdemo.errors import TextError
from vitdemo.ui.components import carried, place_of
from vitdemo.ui.search.fields import pixels


@pytest.mark.parametrize("data", [
    {"index": 3}, {"index": -1}, {"index": 10**30}, {"index": "1"}, {"index": 1.0}, {"index": True},
    {"index": None}, {"index": [0]}, {}, [], None, "index", 0])
def test_an_index_out_of_range_is_no_click(data: Any) -> None:
    with pytest.raises(TextError, match="Reload the page"):
        place_of(gr.EventData(None, data), 3)
    assert place_of(gr.EventData(None, {"index": 2}), 3) == 2
    assert isinstance(carried(gr.EventData(None, data)), dict)


def test_no_tab_reads_a_click_in_another_way() -> None:
    for path in Path(vitdemo.ui.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "event.index" not in text, path
        assert "._data" not in text or path.name == "components.py", path


@pytest.mark.parametrize(("given", "kept"), [
    (None, 0), ("", 0), ("7", 0), (7, 7), (7.0, 7), (float("nan"), 0), (float("inf"), 10**9),
    (-5, -1), (float("-inf"), -1), ([], 0), (10**400, 10**9)])
def test_a_number_of_pixels_is_read_whatever_the_field_holds(given: Any, kept: int) -> None:
    assert pixels(given) == kept
