"""The app in a real browser, on a model whose maps are known (`fake_engine`)."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo import viewer
from vitdemo.config import LIMITS
from vitdemo.preprocess import open_picture
from vitdemo.ui import Settings, build_ui, launch_settings

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

WAIT = 60_000  # milliseconds: for a slow and busy machine; a quick one waits for nothing
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def chromium_path() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.fail("no Chromium was found: install the package chromium, name one in the "
                    "variable CHROMIUM, or leave these tests out with -m 'not browser'")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plain pictures, 320 x 240, named by colour."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("blue", "green", "red"):
        Image.new("RGB", (320, 240), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(pictures: Path, uploads: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        blocks = build_ui(planted_engine(), Settings(pictures, folders=(pictures,)))
        _, local, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True,
                                    share=False, max_file_size=LIMITS.max_file_megabytes * 2**20,
                                    **launch_settings())
        yield local
        blocks.close(verbose=False)


class App:
    """One open page, with what it asked of the network and what went wrong in it."""

    def __init__(self, page: "playwright.Page", address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#describe-picture input[type=file]", state="attached")

    def give(self, field: str, *paths: Path) -> None:
        self.page.set_input_files(f"#{field} input[type=file]", [str(path) for path in paths])

    def words(self, view: str = "describe-view") -> "playwright.Locator":
        self.page.wait_for_selector(f"#{view} .vd-word")
        return self.page.locator(f"#{view} .vd-word")

    def settled(self, drawn: str, view: str = "describe-view") -> None:
        """Wait until the map "text:word:layer:head" is on screen."""
        self.page.wait_for_selector(f"#{view} .vd-viewer[data-drawn='{drawn}']")

    def map(self, view: str = "describe-view") -> np.ndarray:
        """The canvas's pixels: uint8 (height, width, 4)."""
        found = self.page.evaluate(
            """(view) => { const canvas = document.querySelector(`#${view} .vd-map`);
            const { width, height } = canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            let text = ""; for (const byte of data) text += String.fromCharCode(byte);
            return [width, height, btoa(text)]; }""", view)
        import base64

        width, height, data = found
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def control(self, label: str) -> "playwright.Locator":
        return self.page.locator("#describe-view").get_by_label(label)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()


@pytest.fixture
def app(browser: "playwright.Browser", address: str) -> Iterator[App]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = App(context.new_page(), address)
    yield opened
    outside = [url for url in opened.requests
               if not url.startswith((address, "data:", "blob:"))]
    assert not outside, outside
    assert not opened.faults, opened.faults
    context.close()


def corner_means(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Mean colour in the middle of each half."""
    height, width = pixels.shape[:2]
    parts = {"left": np.s_[:, : width // 3], "right": np.s_[:, -width // 3:],
             "top": np.s_[: height // 3], "bottom": np.s_[-height // 3:]}
    return {name: pixels[part][..., :3].reshape(-1, 3).mean(axis=0)
            for name, part in parts.items()}


CIVIDIS_LOW, CIVIDIS_HIGH = (0, 34, 78), (254, 232, 56)


def test_a_word_moves_the_map_to_where_it_came_from(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    assert words.all_inner_texts() == "A cat on the left and a dog on the right".split()
    app.control("Layer").select_option(label="Step 1")
    words.nth(4).click()
    app.settled("0:4:0:-1")
    pixels = app.map()
    assert pixels.shape[1] == pytest.approx(pixels.shape[0] * 4 / 3, abs=2)
    means = corner_means(pixels)
    assert np.abs(means["left"] - CIVIDIS_HIGH).max() < 4, means
    assert np.abs(means["right"] - CIVIDIS_LOW).max() < 4, means
    assert set(np.unique(pixels[..., 3])) <= {165, 166, 167}  # 65 of 100 strength
    assert "For “left” the model looked most on the left: 17% of its attention lies in 8%" in (
        app.page.locator("#describe-view .vd-summary").inner_text())
    words.nth(10).click()
    app.settled("0:10:0:-1")
    means = corner_means(app.map())
    assert np.abs(means["right"] - CIVIDIS_HIGH).max() < 4, means
    assert np.abs(means["left"] - CIVIDIS_LOW).max() < 4, means
    label = app.page.locator("#describe-view .vd-map").get_attribute("aria-label") or ""
    assert label.startswith("For “right” the model looked most on the right")


def test_nothing_in_the_viewer_calls_the_server(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    app.tab("Ask")
    app.page.wait_for_selector("#ask-picture img")  # the last thing that the upload sets off
    app.tab("Describe")
    before = len(app.requests)
    words.nth(4).click()
    page = app.page
    app.control("Layer").select_option(label="Step 2")
    app.control("Head").select_option(label="Head 3")
    app.settled("0:4:1:2")
    means = corner_means(app.map())  # layer 2 head 3 looks at the top, whatever the word
    assert np.abs(means["top"] - CIVIDIS_HIGH).max() < 4, means
    assert np.abs(means["bottom"] - CIVIDIS_LOW).max() < 4, means
    app.control("Colours").select_option(label="Viridis")
    assert np.abs(corner_means(app.map())["bottom"] - (68, 1, 84)).max() < 4
    app.control("Map strength").fill("100")
    assert app.map()[..., 3].min() == 255
    smooth = app.map()
    app.control("Show the model's grid").check()
    assert not np.array_equal(smooth, app.map())
    app.control("Colours").select_option(label="Spotlight")
    words.nth(2).hover()
    page.locator("#describe-view .vd-stage").hover(position={"x": 20, "y": 20})
    assert "times the average" in page.locator("#describe-view .vd-readout").inner_text()
    assert [url for url in app.requests[before:] if not url.startswith(("data:", "blob:"))] == []


def test_words_are_reached_by_keys_and_previewed_by_the_mouse(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    everything = app.page.locator("#describe-view .vd-all")
    assert everything.get_attribute("aria-pressed") == "true"
    everything.focus()
    app.settled("0:-1:-1:-1")
    for key, drawn in (("ArrowRight", 0), ("ArrowRight", 1), ("End", 10), ("ArrowRight", 10),
                       ("ArrowLeft", 9), ("Home", 0), ("Escape", -1)):
        app.page.keyboard.press(key)
        app.settled(f"0:{drawn}:-1:-1")
        focused = app.page.evaluate("document.activeElement.textContent")
        assert focused == ("All words" if drawn < 0 else words.nth(drawn).inner_text()), key
    reachable = app.page.locator("#describe-view .vd-text button[tabindex='0']")
    assert reachable.count() == 1
    words.nth(4).hover()
    app.settled("0:4:-1:-1")
    assert everything.get_attribute("aria-pressed") == "true"
    app.page.locator("#describe-view .vd-label").hover()
    app.settled("0:-1:-1:-1")
    words.nth(4).click()
    words.nth(4).click()  # once more: back to all words
    assert everything.get_attribute("aria-pressed") == "true"
    assert words.nth(7).get_attribute("title") == "The model was 30% sure of this word"


def test_the_download_is_the_picture_with_its_map(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    app.words().nth(4).click()
    app.settled("0:4:-1:-1")
    with app.page.expect_download() as wanted:
        app.page.get_by_role("button", name="Download PNG").click()
    assert wanted.value.suggested_filename == "vitdemo-left.png"
    saved = Image.open(wanted.value.path())
    assert saved.format == "PNG" and saved.width == 480 and saved.height > 360
    pixels = np.asarray(saved.convert("RGB")).astype(float)
    left, right = pixels[100, 100], pixels[100, 400]
    expected = 0.65 * np.array(CIVIDIS_HIGH) + 0.35 * np.array([254, 0, 0])
    assert np.abs(left - expected).max() < 30  # layer 2 head 3 takes its part
    assert left[1] - right[1] > 80
    assert (pixels[-5, 5] == 255).all() and pixels[360:].min() < 100  # text on white


def test_an_answer_shows_its_rivals_and_its_maps(app: App, pictures: Path) -> None:
    app.page.locator("#describe-examples button").nth(2).click()  # one click runs an example
    app.words()
    app.tab("Ask")
    app.page.wait_for_selector("#ask-picture img")  # both tabs are about the same picture
    app.page.fill("#ask-question textarea", "what is on the right?")
    app.page.keyboard.press("Enter")
    words = app.words("ask-view")
    assert words.all_inner_texts() == ["what", "is", "on", "the", "right", "left"]
    rows = app.page.locator("#ask-answers li")
    assert rows.all_inner_texts()[0].split() == ["left", "61%"] and rows.count() == 5
    assert "top <b>" in rows.nth(2).inner_text()
    widths = [box["width"] for box in (rows.nth(i).locator(".vt-fill").bounding_box()
                                       for i in range(5)) if box]
    assert widths == sorted(widths, reverse=True) and widths[0] > 2.9 * widths[1]
    app.page.locator("#ask-view .vd-question .vd-word").nth(4).click()
    app.settled("0:4:-1:-1", "ask-view")
    means = corner_means(app.map("ask-view"))
    assert means["right"][0] - means["left"][0] > 100


def test_search_by_words_by_picture_and_for_the_sentence(app: App, pictures: Path,
                                                         tmp_path: Path) -> None:
    app.tab("Search")
    app.page.fill("#search-words textarea", "green")
    app.page.click("#search-run")
    hits = app.page.locator("#search-hits .vt-hit")
    hits.first.wait_for()
    assert hits.first.inner_text().split()[0] == "green.png" and hits.count() == 3
    assert hits.first.locator("img").get_attribute("alt") == "green.png"
    hits.first.click()
    assert app.words("search-view").all_inner_texts() == ["green"]
    app.page.get_by_role("button", name="Find by picture").click()
    app.give("search-picture", pictures / "blue.png")
    app.page.wait_for_function(
        "document.querySelector('#search-hits .vt-name')?.textContent === 'blue.png'")
    app.page.get_by_label("My own pictures").check()
    (tmp_path / "notes.png").write_text("no picture")
    app.page.wait_for_selector("#search-files input[type=file]", state="attached")
    app.give("search-files", pictures / "red.png", pictures / "blue.png", tmp_path / "notes.png")
    app.page.wait_for_selector("#search-status strong")
    status = app.page.locator("#search-status").inner_text()
    assert "2 pictures to search" in status and "notes.png is not a picture" in status
    app.page.fill("#search-words textarea", "red")
    app.page.click("#search-run")
    app.page.wait_for_function("document.querySelectorAll('#search-hits .vt-hit').length === 2")
    app.page.get_by_label("A folder on this computer").check()
    app.page.fill("#search-folder textarea, #search-folder input", str(pictures.parent))
    app.page.click("#search-index")
    app.page.wait_for_selector("#search-status [role=alert]")
    assert "--allow-folder" in app.page.locator("#search-status").inner_text()
    app.page.fill("#search-folder textarea, #search-folder input", str(pictures))
    app.page.click("#search-index")
    app.page.wait_for_selector("#search-status strong")
    assert "3 pictures to search" in app.page.locator("#search-status").inner_text()
    app.tab("Which sentence fits?")
    app.give("fits-picture", pictures / "red.png")
    app.page.fill("#fits-sentences textarea", "green grass\na red ball on the left\nblue sky")
    app.page.wait_for_selector("#fits-picture img")
    app.page.click("#fits-run")
    best = app.page.locator("#fits-result .vt-best")
    best.wait_for()
    assert "a red ball on the left" in best.inner_text()
    assert app.words("fits-view").count() == 6


def broken_files(folder: Path) -> dict[str, str]:
    """Files that are refused, with a part of the sentence that says why."""
    (folder / "text.jpg").write_text("not a picture at all")
    (folder / "empty.png").write_bytes(b"")
    stream = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(stream, "JPEG")
    (folder / "cut.jpg").write_bytes(stream.getvalue()[:-2000])
    Image.new("1", (20000, 10000)).save(folder / "huge.png")  # 200 megapixels
    return {"text.jpg": "not a picture", "empty.png": "0 bytes", "cut.jpg": "cut off",
            "huge.png": "megapixels"}


def test_a_bad_file_gives_one_sentence_and_costs_nothing_else(app: App, pictures: Path,
                                                              tmp_path: Path) -> None:
    instruction = app.page.locator("#describe-instruction textarea")
    instruction.fill("Say: my own words")
    for name, reason in broken_files(tmp_path).items():
        app.give("describe-picture", tmp_path / name)
        message = app.page.locator("#describe-view .vd-message", has_text=reason)
        message.wait_for()
        text = message.inner_text()
        assert name in text and "Traceback" not in text and "Error" not in text
        assert message.get_attribute("role") == "alert"
        app.page.wait_for_function("!document.querySelector('#describe-picture img')")
        assert app.page.locator(".toast-body").count() == 0
    assert instruction.input_value() == "Say: my own words"
    app.give("describe-picture", pictures / "red.png")
    assert app.words().all_inner_texts() == ["My", "own", "words"]
    assert app.page.locator("#describe-view .vd-message").is_hidden()


def odd_files(folder: Path) -> list[str]:
    """Unusual pictures that are welcome, all 80 x 40 once upright, each of another colour."""
    plain = [Image.new("RGB", (80, 40), (250 - 40 * i, 40 * i, 90)) for i in range(6)]
    plain[0].convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((40, 80), 40000, np.uint16)).save(folder / "deep.png")
    plain[2].convert("P").save(folder / "palette.png")
    plain[3].save(folder / "moving.gif", save_all=True, append_images=[plain[0]])
    plain[4].save(folder / "new.webp")
    turned = Image.Exif()
    turned[0x0112] = 6
    plain[5].rotate(90, expand=True).save(folder / "turned.jpg", exif=turned)
    return ["cmyk.jpg", "deep.png", "palette.png", "moving.gif", "new.webp", "turned.jpg"]


def test_odd_pictures_are_described_upright(app: App, tmp_path: Path) -> None:
    seen = ""
    for name in odd_files(tmp_path):
        app.give("describe-picture", tmp_path / name)
        app.page.wait_for_function(
            """(seen) => { const image = document.querySelector("#describe-view .vd-photo");
            return image.src && image.src !== seen && image.complete
              && document.querySelector("#describe-view .vd-word"); }""", arg=seen)
        seen = app.page.locator("#describe-view .vd-photo").get_attribute("src") or ""
        size = app.page.evaluate("""() => { const image = document.querySelector(
            "#describe-view .vd-photo"); return [image.naturalWidth, image.naturalHeight]; }""")
        assert size == [80, 40], name


def test_a_fault_of_the_program_is_one_calm_sentence(app: App, pictures: Path) -> None:
    app.page.locator("#describe-instruction textarea").fill("Break.")
    app.give("describe-picture", pictures / "red.png")
    app.page.locator("#describe-view .vd-message", has_text="Something went wrong").wait_for()
    app.page.wait_for_selector("#describe-picture img")  # the picture was not at fault


def test_chinese_words_are_whole(app: App, pictures: Path) -> None:
    app.page.get_by_label("中文").check()
    app.page.wait_for_function(
        "document.querySelector('#describe-instruction textarea').value === '描述这张图片。'")
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    assert "左边" in words.all_inner_texts() and "右边" in words.all_inner_texts()
    words.get_by_text("右边").click()
    assert "For “右边” the model looked most on the right" in (
        app.page.locator("#describe-view .vd-summary").inner_text())


def test_an_upload_is_deleted_when_its_page_closes(browser: "playwright.Browser", address: str,
                                                   uploads: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (12, 34, 56)).save(tmp_path / "private.png")
    context = browser.new_context()
    opened = App(context.new_page(), address)
    opened.give("describe-picture", tmp_path / "private.png")
    opened.words()
    assert len(list(uploads.rglob("private.png"))) == 1
    opened.page.close()
    other = App(context.new_page(), address)  # gives the server a reason to notice
    for _ in range(60):
        if not list(uploads.rglob("private.png")):
            break
        other.page.wait_for_timeout(250)
    assert not list(uploads.rglob("private.png"))
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(browser: "playwright.Browser", address: str,
                                        pictures: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True,
                                  device_scale_factor=2, color_scheme=scheme)
    opened = App(context.new_page(), address)
    wide = "document.scrollingElement.scrollWidth"
    assert opened.page.evaluate(wide) <= 390
    opened.give("describe-picture", pictures / "red.png")
    words = opened.words()
    words.nth(4).tap()
    opened.settled("0:4:-1:-1")
    assert opened.page.evaluate(wide) <= 390
    top = opened.page.locator("#describe-view").bounding_box()
    assert top and top["y"] < 844 / 2  # the result came into sight by itself
    assert contrast(opened.page, "#describe-view .vd-summary") >= 4.5
    assert contrast(opened.page, "#describe-view .vd-hint") >= 4.5
    for name in ("Ask", "Search"):
        opened.tab(name)
        opened.page.wait_for_selector(f"#{name.lower()}-run")
        assert opened.page.evaluate(wide) <= 390, name
    context.close()


def contrast(page: "playwright.Page", selector: str) -> float:
    """WCAG contrast of a text with the page behind it."""
    colours = page.evaluate(
        """(selector) => { const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        let ground = document.querySelector(selector);
        const ink = rgb(getComputedStyle(ground).color);
        let behind = [0, 0, 0, 0];
        while (ground && (behind.length > 3 && behind[3] === 0)) {
          behind = rgb(getComputedStyle(ground).backgroundColor);
          ground = ground.parentElement;
        }
        return [ink, behind]; }""", selector)

    def light(colour: list[float]) -> float:
        parts = np.array(colour[:3]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(light(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)


# The viewer by itself, as a saved report will use it

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
    blank.wait_for_selector("#v[data-drawn='0:-1:-1:-1']")
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

