"""The viewer by itself in a real browser, as a saved report will use it: its numbers and texts."""

from collections.abc import Iterator

import numpy as np
import pytest
from browser_app import playwright
from fake_engine import planted_engine
from PIL import Image

from vitdemo import viewer
from vitdemo.overlay import summarise
from vitdemo.preprocess import grid_boxes, open_picture

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser


@pytest.fixture
def blank(browser: "playwright.Browser") -> Iterator["playwright.Page"]:
    context = browser.new_context(viewport={"width": 700, "height": 900})
    page = context.new_page()
    page.set_content(f"<style>{viewer.styles()}</style><div id=v class=vd-viewer></div>")
    page.add_script_tag(content=viewer.script())
    yield page
    context.close()


def test_the_viewer_stands_alone(blank: "playwright.Page") -> None:
    engine, photo = planted_engine(), open_picture(Image.new("RGB", (160, 120), "red"))
    caption = engine.caption(photo, "Say: nothing on the left")
    payload = viewer.payload(engine.explain(photo, caption), photo, "planted")
    blank.evaluate("(payload) => { window.v = mountViewer(document.querySelector('#v'), payload) }",
                   payload)
    blank.wait_for_selector("#v[data-drawn='0:3:-1:-1']")  # "left", the most concentrated map
    blank.get_by_role("button", name="nothing").click()
    blank.wait_for_selector("#v[data-drawn='0:0:-1:-1']")
    assert blank.locator(".vd-summary").inner_text() == (
        "For “nothing” the model did not look at the picture.")
    blank.get_by_role("button", name="left", exact=True).click()
    summary = "For “left” the model looked most on the left"
    assert blank.locator(".vd-summary").inner_text().startswith(summary)
    blank.evaluate("window.v.destroy()")
    assert blank.locator("#v > *").count() == 0


def test_summaries_are_right(blank: "playwright.Page") -> None:
    """Share, area and place of maps with a known answer, on boxes that form no grid."""
    boxes = [0, 0, 50, 100, 50, 0, 100, 50, 50, 50, 100, 100]  # left half, two right quarters
    summary = "([map, boxes]) => vdSummary(Float32Array.from(map), boxes, 100, 100)"
    found = blank.evaluate(summary, [[0.1, 0.2, 0.6], boxes])
    assert found["total"] == pytest.approx(0.9) and found["place"] == "in the lower right"
    assert found["share"] == pytest.approx(0.6 / 0.9) and found["area"] == pytest.approx(0.25)
    assert found["even"] is False
    found = blank.evaluate(summary, [[0.5, 0.25, 0.25], boxes])
    assert found["even"] is True and found["place"] == "in the middle"
    assert blank.evaluate(summary, [[0, 0, 0], boxes]) == {"total": 0}
    grid = np.zeros((9, 9))
    grid[0, 0] = grid[8, 8] = 1  # two spots: the middle between them is not the place
    cells = [[x, y, x + 1, y + 1] for y in range(9) for x in range(9)]
    found = blank.evaluate("([map, boxes]) => vdSummary(Float32Array.from(map), boxes, 9, 9)",
                           [grid.ravel().tolist(), np.ravel(cells).tolist()])
    assert found["place"] == "in the upper left"
    grid = np.full((9, 9), 0.55)  # a broad weak ground on the right must not pull the spot away
    grid[:, :5] = 0.1
    grid[4:6, 1:3] = 1
    found = blank.evaluate("([map, boxes]) => vdSummary(Float32Array.from(map), boxes, 9, 9)",
                           [grid.ravel().tolist(), np.ravel(cells).tolist()])
    assert found["place"] == "on the left"


def test_the_command_line_says_the_same(blank: "playwright.Page") -> None:
    """The viewer and `overlay` put every map in the same words."""
    generator = np.random.default_rng(4)
    boxes = grid_boxes((9, 9), (90, 60), ([0, 0.07, *np.arange(0.2, 0.95, 0.105), 1][:10],) * 2)
    for power in (0.2, 1, 3, 8):
        for _ in range(10):
            weights = (generator.random(81) ** power / 81).astype(np.float32)
            ours = summarise(weights, boxes, (90, 60))
            found = blank.evaluate("([m, b]) => vdSummary(Float32Array.from(m), b, 90, 60)",
                                   [weights.tolist(), boxes.ravel().tolist()])
            assert (found["place"], found["even"]) == (ours.place, ours.even)
            assert found["share"] == pytest.approx(ours.share, abs=1e-4)
            assert found["area"] == pytest.approx(ours.area, abs=1e-4)


def test_the_mean_over_layers_and_heads_is_quick_and_right(blank: "playwright.Page") -> None:

    weights = np.random.default_rng(0).random((4, 8, 15, 100)).astype(np.float32)
    bits, scale, data = viewer.quantise(weights)
    text = {"shape": [4, 8, 15, 100], "bits": bits, "scale": scale, "weights": data}
    found = blank.evaluate(
        """(text) => { const unpacked = vdUnpack(text); vdReduce(unpacked, 0, 0);
        const times = [];
        let mean;
        for (let i = 0; i < 9; i++) {
          unpacked.reduced.clear();
          const start = performance.now();
          mean = vdMap(unpacked, -1, -1, 3);
          times.push(performance.now() - start);
        }
        times.sort((a, b) => a - b);
        return { median: times[4], mean: Array.from(mean) }; }""", text)
    assert found["median"] < 16, found["median"]
    assert np.allclose(found["mean"], weights.mean(axis=(0, 1))[3], atol=2e-5)
