"""How maps are drawn, the phone, and the comparison of two."""

import base64

import numpy as np
import pytest
from playwright.sync_api import Browser
from viewer_page import TEXT, Page, explanation, page, photograph, random_maps

from vitdemo import viewer
from vitdemo.preprocess import grid_boxes

pytest_plugins = ["chromium"]  # its browser
pytestmark = pytest.mark.browser
__all__ = ["page"]  # a fixture

PIXELS = """(selector) => { const canvas = document.querySelector(selector);
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  let text = ""; for (const byte of data) text += String.fromCharCode(byte);
  return { width, height, data: btoa(text) }; }"""


def pixels(page: Page, selector: str) -> np.ndarray:
    """What is on a canvas: uint8 (height, width, 4)."""
    found = page.page.evaluate(PIXELS, selector)
    plane = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
    return plane.reshape(found["height"], found["width"], 4)


def halves(left: float, right: float, text: str = TEXT, **settings: object) -> object:
    """Every word the same: a weight for each cell of the left half and of the right half."""
    maps = np.where(np.arange(12) % 4 < 2, left, right)[None].repeat(len(text.split()), 0)
    return explanation(maps, text, **settings)


def test_marching_squares_find_a_circle(page: Page) -> None:
    lines = page.page.evaluate(
        """() => { const size = 64; const field = new Float32Array(size * size);
        for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
          field[y * size + x] = Math.hypot(x + 0.5 - 32, y + 0.5 - 32);
        }
        return vdContour(field, size, size, 20); }""")
    ends = np.array(lines).reshape(-1, 2, 2)
    assert np.abs(np.hypot(*(ends - 32).reshape(-1, 2).T) - 20).max() < 0.02
    length = np.hypot(*(ends[:, 0] - ends[:, 1]).T).sum()
    assert length == pytest.approx(2 * np.pi * 20, rel=0.01)  # closed, and once around
    saddle = page.page.evaluate("vdContour([1, 0, 0, 1], 2, 2, 0.4).length / 4")
    assert saddle == 2


def test_contour_and_spotlight(page: Page) -> None:
    page.mount(viewer.payload([halves(0.15, 0.0)], photograph()))
    page.page.get_by_label("Style").select_option(label="Spotlight")
    alpha = pixels(page, ".vd-map")[..., 3]
    third = alpha.shape[1] // 3
    assert alpha[:, :third].max() <= 4 and alpha[:, -third:].min() > 150  # the rest is dimmed
    assert not page.page.get_by_label("Colours").is_visible()
    page.page.get_by_label("Style").select_option(label="Contour lines")
    alpha = pixels(page, ".vd-map")[..., 3]
    drawn = np.flatnonzero(alpha.mean(0) > 60) / alpha.shape[1]
    assert drawn.min() > 0.3 and drawn.max() < 0.7  # lines run where the two halves meet
    assert "20, 40, 60 and 80%" in page.text(".vd-readout")


def test_a_glow_leaves_the_rest_of_the_photograph_alone(page: Page) -> None:
    page.mount({**viewer.payload([halves(0.1, 0.02)], photograph()), "sure": "Not sure of: dog."})
    assert page.text(".vd-sure") == "Not sure of: dog."
    third = pixels(page, ".vd-map").shape[1] // 3
    alpha = pixels(page, ".vd-map")[..., 3]
    assert alpha[:, :third].min() > 100 and not alpha[:, -third:].any()
    low, high = page.text(".vd-scale").split()
    assert (low, high) == ("6%", "12%")  # from the mean on, up to twice the mean at least
    page.update(viewer.payload([halves(0.06, 0.05)], photograph()))  # hardly anything to show
    assert 0 < pixels(page, ".vd-map")[..., 3].max() < 30
    page.update(viewer.payload([halves(0.05, 0.05)], photograph()))
    assert not pixels(page, ".vd-map")[..., 3].any()
    page.page.get_by_label("Style").select_option(label="Heat")
    assert pixels(page, ".vd-map")[..., 3].min() > 100


def test_a_word_is_chosen_at_first_and_play_goes_through_all(page: Page) -> None:
    maps = np.full((6, 12), 0.05)
    maps[4, 3] = 0.4
    page.page.clock.install(time=0)
    page.page.clock.pause_at(1000)
    page.mount(viewer.payload([explanation(maps)], photograph()))
    pressed = page.page.locator(".vd-text [aria-pressed='true']")
    assert pressed.all_inner_texts() == ["red"]
    page.button("Play").click()
    for word in TEXT.split():
        assert pressed.all_inner_texts() == [word] and page.button("Stop").is_visible()
        page.page.clock.run_for(1400)
    assert page.button("Play").is_visible() and pressed.all_inner_texts() == ["ball"]
    page.button("Play").click()
    page.word("dog")  # whoever chooses has the say
    page.page.clock.run_for(3000)
    assert page.button("Play").is_visible() and pressed.all_inner_texts() == ["dog"]
    page.update({**viewer.payload([explanation(maps)], photograph()), "choose": {"word": -1}})
    assert pressed.all_inner_texts() == ["All words"]


def test_nothing_overflows_on_a_phone(browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    phone = Page(context.new_page())
    text = "a Donaudampfschifffahrtsgesellschaftskapitänsmütze and a red ball"
    one = explanation(random_maps(layers=2, heads=3), text)
    phone.mount(viewer.payload([one], photograph(), "a-model/with-a-very-long-name" * 5,
                               others=[explanation(random_maps(), text, method="rollout")]))
    phone.page.locator(".vd-stage").tap()
    for title in ("All layers and heads", "All ways, side by side", "How this map was made"):
        phone.page.get_by_text(title, exact=True).click()
    phone.page.wait_for_selector(".vd-board[data-shown]")
    assert phone.page.locator(".vd-shares li").count() == 6  # the tap asked about a place
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not phone.faults
    context.close()


def compared(left: object, right: object, **settings: object) -> dict[str, object]:
    return {"left": {**viewer.payload([left], photograph()), "name": "Before"},
            "right": {**viewer.payload([right], photograph()), "name": "After"}, **settings}


def on_one_scale(page: Page) -> None:
    page.page.get_by_label("Full contrast for each word").uncheck()


def test_two_sides_share_words_and_style_and_one_scale_where_asked(page: Page) -> None:
    page.mount(compared(halves(0.16, 0.0), halves(0.04, 0.08)), compare=True)
    scales = page.page.locator(".vd-pair .vd-scale")
    # Each side's glow ends at twice its mean.
    assert [scale.split()[-1] for scale in scales.all_inner_texts()] == ["16%", "12%"]
    assert "its own contrast" in page.text(".vd-compare > .vd-hint")
    on_one_scale(page)
    assert [scale.split()[-1] for scale in scales.all_inner_texts()] == ["16%", "16%"]
    assert "share one scale" in page.text(".vd-compare > .vd-hint")
    page.page.locator(".vd-side .vd-word", has_text="dog").first.click()
    pressed = page.page.locator(".vd-side .vd-word[aria-pressed='true']")
    assert pressed.all_inner_texts() == ["dog", "dog"]
    page.page.locator(".vd-side").nth(1).get_by_text("ball").click()
    assert pressed.all_inner_texts() == ["ball", "ball"]
    page.page.get_by_label("Colours").select_option("grey")
    for side in page.page.locator(".vd-side .vd-bar").all():
        assert "rgb(128, 128, 128" in (side.get_attribute("style") or "").replace("rgba", "rgb")


def test_other_words_keep_a_choice_of_their_own(page: Page) -> None:
    page.mount(compared(halves(0.1, 0.05), halves(0.1, 0.05, "one cat and a ball")), compare=True)
    page.page.locator(".vd-side").nth(0).get_by_text("ball").click()
    pressed = page.page.locator(".vd-side [aria-pressed='true']:is(.vd-word, .vd-all)")
    assert pressed.all_inner_texts() == ["ball", "ball"]
    page.page.locator(".vd-side").nth(0).get_by_text("dog").click()
    assert pressed.all_inner_texts() == ["dog", "ball"]


def test_one_colour_is_one_density_where_regions_differ_in_size(page: Page) -> None:
    fine = explanation(np.full((6, 48), 0.8 / 48), grid=(6, 8))
    coarse = explanation(np.full((6, 12), 0.8 / 12))
    page.mount(compared(fine, coarse), compare=True)
    on_one_scale(page)
    page.page.get_by_label("Style", exact=True).select_option(label="Heat")  # from 0 upwards
    scales = [one.split()[-1] for one in page.page.locator(
        ".vd-pair .vd-scale").all_inner_texts()]
    assert scales == ["1.7%", "6.7%"]  # the same density: both maps look alike
    page.page.get_by_label("Map strength").fill("100")
    maps = page.page.locator(".vd-side .vd-map")
    middles = [one.evaluate("(canvas) => Array.from(canvas.getContext('2d')"
                            ".getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data)")
               for one in maps.all()]
    assert middles[0] == middles[1]
    assert page.text(".vd-difference .vd-summary").startswith("Both sides looked at the same")


def test_the_difference_is_signed_and_neutral_at_zero(page: Page) -> None:
    left = explanation(np.tile([0.3, 0.1] + [0.05] * 10, (6, 1)))
    right = explanation(np.tile([0.1, 0.1] + [0.05] * 9 + [0.25], (6, 1)))
    page.mount(compared(left, right), compare=True)
    plane = pixels(page, ".vd-difference .vd-map").astype(int)
    rows, columns = plane.shape[:2]
    assert (columns, rows) == (96, 72)
    corner, same, end = plane[5, 5], plane[rows // 2, columns // 2], plane[-5, -5]
    assert corner[2] > corner[0] + 50 and end[0] > end[2] + 50  # blue: left more; orange: right
    assert np.ptp(same[:3]) <= 4 and same[:3].min() > 235 and same[3] < corner[3]
    said = page.text(".vd-difference .vd-summary")
    # 0.2 of 0.9 moved from the first region to the last
    assert said == ("22% of the attention lies elsewhere. The right side looked more in the lower "
                    "right (+22%), the left side more in the upper left (+22%).")


def test_resampling_keeps_what_a_map_holds(page: Page) -> None:
    boxes = grid_boxes((5, 7), (97, 53)).astype(float)
    weights = np.random.default_rng(0).random(35)
    cells = np.array(page.page.evaluate(
        """([map, boxes]) => { const look = { boxes, width: 97, height: 53 };
        return Array.from(vdResample(map, look, 40, 22)); }""",
        [weights.tolist(), boxes.ravel().tolist()])).reshape(22, 40)
    assert cells.sum() == pytest.approx(weights.sum(), abs=1e-4)
    left = np.clip((48.5 - boxes[:, 0]) / (boxes[:, 2] - boxes[:, 0]), 0, 1)
    assert cells[:, :20].sum() == pytest.approx((weights * left).sum(), abs=1e-4)


def test_two_pictures_have_no_difference_map_and_zeros_are_said(page: Page) -> None:
    payload = compared(halves(0.1, 0.05), halves(0.1, 0.05))
    payload["right"]["picture"] = viewer.display(photograph(colour="blue"))  # type: ignore[index]
    page.mount(payload, compare=True)
    assert not page.page.locator(".vd-difference").is_visible()
    page.update(compared(halves(0.1, 0.05), halves(0, 0)))
    assert page.text(".vd-difference .vd-summary") == (
        "Only the left side looked at the picture for this word.")
    page.update({"message": "Choose the second picture, too."})
    assert page.text(".vd-message") == "Choose the second picture, too."
    assert not page.page.locator(".vd-pair").is_visible()
