"""Asking the picture: places and boxes, by mouse and by keyboard, and their numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest
from viewer_numbers import box_area, box_shares, specificity
from viewer_page import Page, evidence, explanation, page, photograph, random_maps, share

from vitdemo import viewer
from vitdemo.overlay import percent

pytest_plugins = ["chromium"]  # its browser
pytestmark = pytest.mark.browser
__all__ = ["page"]  # a fixture

MAPS = random_maps(layers=2, heads=3)


def rows(page: Page) -> list[str]:
    return list(page.page.locator(".vd-shares li").all_inner_texts())


def drag(page: Page, x0: float, y0: float, x1: float, y1: float) -> None:
    """Draw with the mouse, from and to shares of the picture."""
    stage = page.page.locator(".vd-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    page.page.mouse.move(box["x"] + x0 * box["width"], box["y"] + y0 * box["height"])
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + x1 * box["width"], box["y"] + y1 * box["height"], steps=4)
    page.page.mouse.up()


def test_the_numbers_of_a_box_are_those_of_python(page: Page) -> None:
    one = explanation(MAPS)
    text = viewer.texts([one])[0]
    generator = np.random.default_rng(1)
    for _ in range(20):
        box = (generator.random(4) * [160, 120, 160, 120]).tolist()
        found = page.page.evaluate(
            """([text, box]) => { const look = vdUnpackText(text).looks[text.method];
            return vdBoxShares(look, vdReduce(look, -1, -1).weights, box); }""", [text, box])
        assert np.allclose(found["shares"], box_shares(one, box), atol=2e-4)
        assert found["area"] == pytest.approx(box_area(box, (160, 120)), abs=1e-9)


def test_a_box_is_drawn_with_the_mouse(page: Page) -> None:
    one = explanation(MAPS)
    page.mount(viewer.payload([one], photograph()))
    drag(page, 0.75, 0.5, 0.25, 0.0)  # from the lower right corner to the upper left
    (path,) = page.paths("box")
    x0, y0, x1, y1 = (float(value) for value in re.findall(r"[\d.]+", path)[:4])
    box = (x0, y0, x1, y1)
    assert np.allclose(box, (40, 0, 120, 60), atol=0.6)
    shares = box_shares(one, box)
    order = sorted(range(6), key=lambda q: -shares[q])
    shown = rows(page)
    assert len(shown) == 6
    for q, row in zip(order, shown, strict=True):
        match = re.fullmatch(r"([\d.]+)% of the attention for “(\w+)” falls in ([\d.]+)% of the "
                             r"picture", row)
        assert match, row
        assert float(match[1]) == pytest.approx(100 * shares[q], abs=0.56)
        assert match[2] == one.words[q].text
        assert f"{match[3]}%" == percent(box_area(box, (160, 120)))
    page.page.locator(".vd-shares button").nth(2).click()  # a row chooses its word
    assert page.page.locator(".vd-word").nth(order[2]).get_attribute("aria-pressed") == "true"
    page.button("Clear").click()
    assert page.paths("box") == [] and not page.page.locator(".vd-shares").is_visible()


def test_a_click_tells_which_words_looked_there(page: Page) -> None:
    one = explanation(MAPS)
    page.mount(viewer.payload([one], photograph()))
    drag(page, 0.6, 0.5, 0.6, 0.5)  # region 6 of 3 x 4
    maps = one.mean_map()
    shares = maps[:, 6] / maps.sum(1)
    first = int(shares.argmax())
    assert page.text(".vd-lookinghead") == (
        "Which words looked at this place, 8.3% of the picture:")
    shown = rows(page)
    assert shown[0].split()[0] == one.words[first].text
    assert float(shown[0].split()[1].rstrip("%")) == pytest.approx(100 * shares[first], abs=0.56)
    assert page.paths("box")[0].startswith("M80 40H120V80")


def test_box_and_place_by_keyboard_alone(page: Page) -> None:
    one = explanation(MAPS)
    page.mount(viewer.payload([one], photograph()))
    keys = page.page.keyboard
    page.button("Draw a box").focus()
    keys.press("Enter")
    assert page.page.evaluate("document.activeElement.className").startswith("vd-stage")
    assert "arrow" in page.text(".vd-modehint")
    keys.press("ArrowRight")  # a twentieth of 160
    keys.press("Shift+ArrowDown")  # larger by a twentieth of 120
    keys.press("Enter")
    numbers = [float(value) for value in re.findall(r"[\d.]+", page.paths("box")[0])[:4]]
    box = (160 / 3 + 8, 40, 320 / 3 + 8, 80 + 6)
    assert np.allclose(numbers, box, atol=0.01)
    shares = box_shares(one, box)
    best = rows(page)[0]
    assert f"“{one.words[int(shares.argmax())].text}”" in best
    assert page.page.evaluate("document.activeElement.textContent") == "Draw a box"
    page.button("Pick a place").focus()
    keys.press("Enter")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowUp"):
        keys.press(key)
    assert page.paths("box") == ["M0 0H40V40H0Z"]  # stays inside
    keys.press("Escape")
    assert page.paths("box") == []


def test_a_box_of_no_area_gets_a_sentence(page: Page) -> None:
    page.mount(viewer.payload([explanation(MAPS)], photograph()))
    drag(page, 0.2, 0.3, 0.6, 0.3)
    assert page.text(".vd-lookinghead") == (
        "This box has no area: drag from one corner to the opposite one.")
    assert rows(page) == [] and "NaN" not in page.text("#v")


def test_zeros_and_what_is_no_number_never_show(page: Page) -> None:
    maps = MAPS.copy()
    maps[:, :, 1] = 0
    maps[:, :, 2, 3] = np.nan
    one = explanation(maps, gates=(float("nan"), 0.5))
    page.mount(viewer.payload([one], photograph(), shares=[share()]))
    page.word("dog")
    assert page.text(".vd-summary") == "For “dog” the model did not look at the picture."
    drag(page, 0.1, 0.1, 0.9, 0.9)
    for section in ("All layers and heads", "How this map was made"):
        page.page.get_by_text(section, exact=True).click()
    page.page.wait_for_selector(".vd-board[data-shown]")
    assert rows(page)[-1].startswith("0% of the attention for “dog”")
    said = page.page.content().split("<script")[0]
    assert "NaN" not in said and "Infinity" not in said and "null" not in page.text("#v")


def test_a_word_that_stands_twice_keeps_its_own_map(page: Page) -> None:
    maps = np.full((6, 12), 0.01)
    maps[0, 0] = maps[3, 11] = 0.9  # both are "a"
    page.mount(viewer.payload([explanation(maps)], photograph()))
    page.word("a", 0)
    assert "in the upper left" in page.text(".vd-summary")
    page.word("a", 1)
    assert "in the lower right" in page.text(".vd-summary")


def test_a_sentence_of_two_hundred_words(page: Page) -> None:
    words = [f"word{n}" for n in range(200)]
    one = explanation(random_maps(200), " ".join(words), source="text")
    page.mount(viewer.payload([one], photograph()))
    drag(page, 0.1, 0.1, 0.5, 0.5)
    assert len(rows(page)) == 10
    page.button("Show all 200 words").click()
    assert len(rows(page)) == 200
    page.word("word199")
    assert "word199" in page.text(".vd-summary")
    widths = page.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1]


def test_heads_are_sorted_by_how_specific_they_are(page: Page) -> None:
    maps = np.tile(random_maps(layers=2, heads=3)[:, :, :1], (1, 1, 6, 1))  # the same for all words
    maps[1, 2, 1] = np.eye(12)[7] * 0.8  # but this head, for "dog"
    one = explanation(maps)
    text = viewer.texts([one])[0]
    page.mount(viewer.payload([one], photograph()))
    found = page.page.evaluate(
        """(text) => { const look = vdUnpackText(text).looks[text.method];
        return vdSpecificity(look, 1).map(({ layer, head, value }) => [layer, head, value]); }""",
        text)
    wanted = specificity(one.weights)
    for layer, head, value in found:
        assert value == pytest.approx(wanted[int(layer), int(head), 1], abs=1e-4)
    page.word("dog")
    page.page.get_by_text("All layers and heads", exact=True).click()
    page.page.wait_for_selector(".vd-board[data-shown='1:-1:-1']")
    thumbs = page.page.locator(".vd-heads .vd-thumb")
    assert thumbs.count() == 6
    assert "Step 2, head 3" in thumbs.nth(0).inner_text()
    assert "suggested" in thumbs.nth(0).inner_text()
    assert page.page.locator(".vd-suggested").count() <= 3
    thumbs.nth(0).focus()
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#v[data-drawn='0:1:1:2']")
    page.page.wait_for_selector(".vd-board[data-shown='1:1:2']")
    page.page.keyboard.press("ArrowRight")
    assert "Step 2, head 3" not in page.page.evaluate("document.activeElement.textContent")
    page.page.keyboard.press("Enter")
    page.page.wait_for_function(
        "document.querySelector('#v').dataset.drawn !== '0:1:1:2'")


def test_a_change_of_word_is_quick(page: Page) -> None:
    """24 x 24 regions, 12 x 12 heads. The quickest of many: others may use the machine, too."""
    one = explanation(random_maps(12, 576, layers=12, heads=12), " ".join("abcdefghijkl"), (24, 24))
    page.mount(viewer.payload([one], photograph()))
    quickest = page.page.evaluate(
        """() => { const root = document.querySelector("#v");
        const words = [...root.querySelectorAll(".vd-word")];
        const times = [];
        for (let n = 0; n < 60; n++) {
          const start = performance.now();
          words[n % words.length].click();
          root.offsetHeight;
          times.push(performance.now() - start);
        }
        return Math.min(...times.slice(12)); }""")
    assert quickest < 16, quickest


def test_a_word_that_was_not_read_is_struck_out_and_has_no_map(page: Page) -> None:
    maps = random_maps(3)
    maps[:, :, 1:] = 0
    one = replace(explanation(maps, "a ネコ runs", source="text"),
                  unread=("", "unknown", "cut"))
    page.mount({**viewer.payload([one], photograph()), "unread": "The model does not know “ネコ”."})
    page.page.wait_for_selector("#v[data-drawn='0:0:-1:-1']")  # the only word with a map
    page.button("All words").click()
    assert page.text(".vd-missed") == "The model does not know “ネコ”."
    assert page.page.locator(".vd-word.vd-unread").all_inner_texts() == ["ネコ", "runs"]
    assert "struck out was not read" in page.text(".vd-hint")
    assert "For the whole sentence the model looked" in page.text(".vd-summary")
    assert "80%" in page.text(".vd-summary")  # the mean over what was read
    page.word("ネコ")
    assert page.text(".vd-summary") == (
        "For “ネコ” there is no map: the model does not know this word.")
    assert not page.button("Check this map").is_visible()
    assert not page.button("Does it matter?").is_visible()
    page.word("runs")
    assert page.text(".vd-summary") == "For “runs” there is no map: the text was cut before it."
    page.update({"patch": viewer.patch([one], evidence=[evidence(0, source="text")])})
    page.word("ネコ")
    assert not page.button("Check this map").is_visible()
