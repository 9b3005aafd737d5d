"""Videos in a real browser: a hit opens at its second, and a strip shows a word over time."""

import re
from pathlib import Path

import pytest
from browser_app import App, playwright
from videos import BLUE, GREEN, RED, film, near

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser
expect = playwright.expect

# The middle of what a player shows, as red, green, blue.
SHOWN = """(player) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d");
  pen.drawImage(player, player.videoWidth - 8, player.videoHeight - 8, 4, 4, 0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""
SCENES = [(RED, 3.0), (GREEN, 2.0), (BLUE, 4.0)]


@pytest.fixture(scope="module")
def films(pictures: Path) -> Path:
    """A folder with one video, in a folder that the app may read."""
    return film(pictures / "films" / "clip.webm", SCENES, size=(640, 480), codec="libvpx").parent


@pytest.fixture
def sheet(app: App, films: Path) -> "playwright.Locator":
    """The sheet of the hit that is green, from the folder."""
    app.tab("Search")
    app.page.get_by_label("A folder on this computer").check()
    app.page.fill("#search-folder textarea", str(films))
    app.page.click("#search-index")
    expect(app.page.locator("#search-status strong")).to_contain_text("3 pictures")
    app.page.fill("#search-words textarea", "green left")
    app.page.keyboard.press("Enter")
    expect(app.page.locator("#search-hits .vt-name").first).to_have_text("clip.webm at 0:03")
    app.page.locator("#search-hits button.vt-hit").first.click()
    expect(app.page.locator("#search-film video")).to_be_visible()
    app.page.locator("#search-view summary", has_text="For experts").click()  # as at first
    return app.page.locator("#search-sheet")


def plays_at(app: App, second: float, colour: tuple[int, int, int]) -> None:
    """Wait until the player stands at a second, and look at what it shows there."""
    app.holds("(second) => { const player = document.querySelector('#search-film video');"
              "return player && player.readyState >= 2 && !player.seeking"
              " && Math.abs(player.currentTime - second) < 0.01; }", second)
    assert near(app.page.locator("#search-film video").evaluate(SHOWN), colour)


def test_a_hit_opens_at_its_second_and_its_player_fits_the_sheet(
        app: App, sheet: "playwright.Locator") -> None:
    player = app.page.locator("#search-film video")
    expect(player).to_have_attribute("aria-label", "clip.webm, from 0:03 on")
    plays_at(app, 3, GREEN)
    box, inside = player.bounding_box(), sheet.bounding_box()
    assert box and inside and box["y"] + box["height"] <= inside["y"] + inside["height"]
    assert sheet.evaluate("(sheet) => sheet.scrollTop") == 0
    app.page.set_viewport_size({"width": 390, "height": 844})
    player.scroll_into_view_if_needed()
    box = player.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] < 400
    app.page.set_viewport_size({"width": 1280, "height": 900})


def test_a_strip_shows_a_word_over_time_and_winds_the_player(
        app: App, sheet: "playwright.Locator") -> None:
    plays_at(app, 3, GREEN)
    sheet.get_by_role("button", name="“green left” over time").click()
    strip = app.page.locator("#search-strip")
    expect(strip.locator(".vt-hits img")).to_have_count(3)
    expect(strip).to_be_in_viewport()
    whole = [one.get_attribute("src") for one in strip.locator("img").all()]
    words = strip.get_by_role("group", name="Word whose map is shown").get_by_role("button")
    expect(words).to_have_text(["All words", "green", "left"])
    words.nth(2).focus()
    app.page.keyboard.press("Enter")
    expect(words.nth(2)).to_have_attribute("aria-pressed", "true")
    app.holds("document.activeElement.dataset.index === '2'")
    expect(strip.locator("ol")).to_have_attribute(
        "aria-label", "Frames of the video with the map of: left")
    assert all(one.get_attribute("src") != other
               for one, other in zip(strip.locator("img").all(), whole, strict=True))
    told = [one.get_attribute("alt") or "" for one in strip.locator("img").all()]
    for alt, second in zip(told, (0, 3, 5), strict=True):
        assert re.match(rf"At 0:0{second} the words fit with \d+(\.\d)?%\. Strongest in the .*left",
                        alt), alt
    strip.locator(".vt-hit").nth(2).click()
    plays_at(app, 5, BLUE)
    app.page.locator("#search-film video").evaluate("(player) => player.play()")
    app.page.keyboard.press("Escape")
    app.holds("document.querySelector('#search-film video').paused")
    app.page.locator("#search-hits button.vt-hit").nth(1).click()  # another hit: another strip
    expect(app.page.locator("#search-strip img")).to_have_count(0)


def test_a_strip_of_the_frames_caption(app: App, sheet: "playwright.Locator") -> None:
    sheet.get_by_role("button", name="The caption of this frame over time").click()
    strip = app.page.locator("#search-strip")
    expect(strip.locator(".vt-hint")).to_contain_text("“A cat on the left and a dog")
    expect(strip.locator(".vt-chips button")).to_have_count(12)
    expect(strip.locator(".vt-hits img")).to_have_count(3)


def test_an_uploaded_video_is_searched_and_plays(app: App, films: Path) -> None:
    app.tab("Search")
    app.page.get_by_label("My own pictures").check()
    app.page.wait_for_selector("#search-files input[type=file]", state="attached")
    app.give("search-files", films / "clip.webm")
    expect(app.page.locator("#search-status strong")).to_have_text("3 pictures to search")
    app.page.fill("#search-words textarea", "blue")
    app.page.keyboard.press("Enter")
    expect(app.page.locator("#search-hits .vt-name").first).to_have_text("clip.webm at 0:05")
    app.page.locator("#search-hits button.vt-hit").first.click()
    plays_at(app, 5, BLUE)
