"""The app in a real browser: what a person does, and what they then see."""

import io
from pathlib import Path

import numpy as np
import pytest
from browser_app import App, contrast, corner_means, playwright
from PIL import Image

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser

MAGMA_HIGH = (252, 253, 191)
CIVIDIS_LOW, CIVIDIS_HIGH = (0, 34, 78), (254, 232, 56)


def test_a_word_moves_the_map_to_where_it_came_from(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    assert words.all_inner_texts() == "A cat on the left and a dog on the right".split()
    app.settled("0:4:-1:-1")  # a word with a place of its own, the first of two
    app.control("Layer").select_option(label="Step 1")
    app.settled("0:4:0:-1")
    pixels = app.map()
    assert pixels.shape[1] == pytest.approx(pixels.shape[0] * 4 / 3, abs=2)
    third = pixels.shape[1] // 3
    assert np.abs(corner_means(pixels)["left"] - MAGMA_HIGH).max() < 4, corner_means(pixels)
    assert set(np.unique(pixels[:, :third, 3])) <= {178, 179}  # 70 of 100 strength
    assert not pixels[:, -third:, 3].any()  # no veil: the photograph as it is
    assert "For “left” the model looked most on the left: 17% of its attention lies in 8%" in (
        app.page.locator("#describe-view .vd-summary").inner_text())
    words.nth(10).click()
    app.settled("0:10:0:-1")
    pixels = app.map()
    assert np.abs(corner_means(pixels)["right"] - MAGMA_HIGH).max() < 4, corner_means(pixels)
    assert not pixels[:, :third, 3].any()
    label = app.page.locator("#describe-view .vd-map").get_attribute("aria-label") or ""
    assert label.startswith("For “right” the model looked most on the right")


def test_nothing_in_the_viewer_calls_the_server(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    app.checked()
    words.nth(0).click()  # checked when it is chosen, once
    app.page.wait_for_selector("#describe-view .vd-badge.vd-language")
    app.tab("Ask")
    app.page.wait_for_selector("#ask-picture img", state="attached")  # the last act
    app.tab("Describe")
    before = len(app.requests)
    words.nth(4).click()
    page = app.page
    app.control("Layer").select_option(label="Step 2")
    app.control("Head").select_option(label="Head 3")
    app.control("Style").select_option(label="Heat")
    app.control("Colours").select_option(label="Cividis")
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
    app.control("Style").select_option(label="Spotlight")
    app.control("Layer").select_option(label="Step 1")
    words.nth(0).click()
    own = page.locator("#describe-view .vd-scale").inner_text().split()
    app.control("Full contrast for each word").uncheck()
    shared = page.locator("#describe-view .vd-scale").inner_text().split()
    assert (shared, own) == (["0%", "4.2%"], ["0%", "2.1%"])  # "a" looks everywhere alike
    words.nth(2).hover()
    page.locator("#describe-view .vd-stage").hover(position={"x": 20, "y": 20})
    assert "times the average" in page.locator("#describe-view .vd-readout").inner_text()
    assert [url for url in app.requests[before:] if not url.startswith(("data:", "blob:"))] == []


def test_words_are_reached_by_keys_and_previewed_by_the_mouse(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    words = app.words()
    everything = app.page.get_by_role("button", name="All words").locator("visible=true")
    assert words.nth(4).get_attribute("aria-pressed") == "true"
    words.nth(4).focus()
    app.settled("0:4:-1:-1")
    for key, drawn in (("ArrowLeft", 3), ("Escape", -1), ("ArrowRight", 0), ("ArrowRight", 1),
                       ("End", 10), ("ArrowRight", 10), ("ArrowLeft", 9), ("Home", 0),
                       ("Escape", -1)):
        app.page.keyboard.press(key)
        app.settled(f"0:{drawn}:-1:-1")
        name = "All words" if drawn < 0 else words.nth(drawn).inner_text()
        app.holds("(name) => document.activeElement.textContent === name", name)
    reachable = app.page.locator("#describe-view .vd-text [aria-pressed][tabindex='0']")
    assert reachable.count() == 1
    words.nth(4).hover()
    app.settled("0:4:-1:-1")
    assert everything.get_attribute("aria-pressed") == "true"
    app.page.locator("#describe-view .vd-label").hover()
    app.settled("0:-1:-1:-1")
    assert "The model was 20% sure of this word" in (words.nth(7).get_attribute("title") or "")


def test_the_download_is_the_picture_with_its_map(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    app.words().nth(4).click()
    app.settled("0:4:-1:-1")
    with app.page.expect_download() as wanted:
        app.page.get_by_role("button", name="Save").locator("visible=true").click()
        app.page.click("#describe-keep-png")
    assert wanted.value.suggested_filename == "vitdemo-left.png"
    saved = Image.open(wanted.value.path())
    assert saved.format == "PNG" and saved.width == 720 and saved.height > 540
    pixels = np.asarray(saved.convert("RGB")).astype(float)
    left, right = pixels[100, 100], pixels[100, 600]
    expected = 0.7 * np.array(MAGMA_HIGH) + 0.3 * np.array([254, 0, 0])
    assert np.abs(left - expected).max() < 30  # layer 2 head 3 takes its part
    assert np.abs(right - [254, 0, 0]).max() < 30
    assert (pixels[-5, 5] == 255).all() and pixels[540:].min() < 100  # text on white


def test_an_answer_shows_its_rivals_and_its_maps(app: App, pictures: Path) -> None:
    app.page.locator("#describe-examples button").nth(2).click()  # one click runs an example
    app.words()
    app.tab("Ask")
    app.page.wait_for_selector("#ask-picture img", state="attached")  # as here
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
    drawn = app.map("ask-view")[..., 3].astype(float)
    third = drawn.shape[1] // 3
    assert drawn[:, -third:].mean() - drawn[:, :third].mean() > 100


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
    app.page.keyboard.press("Escape")
    app.page.fill("#search-words textarea", "")
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
    refusal = app.page.locator("#search-status [role=alert]")
    playwright.expect(refusal).to_contain_text("--allow-folder")
    app.page.fill("#search-folder textarea, #search-folder input", str(pictures))
    app.page.click("#search-index")
    playwright.expect(app.page.locator("#search-status strong")).to_have_text(
        "3 pictures to search")
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
    instruction = app.instruction()
    instruction.fill("Say: my own words")
    for name, reason in broken_files(tmp_path).items():
        app.give("describe-picture", tmp_path / name)
        message = app.page.locator("#describe-view .vd-message", has_text=reason)
        message.wait_for()
        app.page.wait_for_function("!document.querySelector('#describe-picture img')")
        app.quiet()  # whatever follows the refusal must leave it on the screen
        text = message.inner_text(timeout=1000)
        assert name in text and "Traceback" not in text and "Error" not in text
        assert message.get_attribute("role") == "alert"
        assert app.page.locator(".toast-body").count() == 0
    assert instruction.input_value() == "Say: my own words"
    app.give("describe-picture", pictures / "red.png")
    assert app.words().all_inner_texts() == ["My", "own", "words"]
    assert app.page.locator("#describe-view .vd-message").is_hidden()


def test_a_bad_file_leaves_the_result_that_is_there(app: App, scene: Path, tmp_path: Path) -> None:
    app.give("describe-picture", scene)
    app.checked()
    app.tab("Ask")
    app.page.fill("#ask-question textarea", "what?")
    app.page.keyboard.press("Enter")
    app.checked("ask-view")
    broken_files(tmp_path)
    for tab in ("Ask", "Describe"):
        app.tab(tab)
        view, field = f"{tab.lower()}-view", f"{tab.lower()}-picture"
        said = app.words(view).all_inner_texts()
        app.give(field, tmp_path / "text.jpg")
        app.page.locator(f"#{view} .vd-message", has_text="text.jpg is not a picture").wait_for()
        app.holds("(id) => document.querySelector(`#${id} img`)?.src.includes('scene')", field)
        app.quiet()
        assert app.words(view).all_inner_texts() == said
        assert app.page.locator(f"#{view} .vd-status").inner_text() == ""
    app.give("describe-picture", tmp_path / "cut.jpg")  # and another one
    app.page.locator("#describe-view .vd-message", has_text="cut.jpg").wait_for()
    assert app.words().count()
    for tab in ("Ask", "Describe"):  # what is on screen can still be asked about
        app.tab(tab)
        view = app.page.locator(f"#{tab.lower()}-view")
        view.get_by_role("button", name="Does it matter?").click()
        view.locator("details.vd-matter").wait_for()


CAMERA = """navigator.mediaDevices.getUserMedia = async () => {
  const canvas = document.createElement("canvas");
  canvas.width = 96; canvas.height = 64;
  const draw = () => canvas.getContext("2d").fillRect(0, 0, 96, 64);
  setInterval(draw, 20);
  draw();
  globalThis.camera = canvas.captureStream();
  return globalThis.camera;
}"""


def test_the_camera_takes_nothing_away(app: App, pictures: Path) -> None:
    view = app.page.locator("#describe-view")
    app.give("describe-picture", pictures / "red.png")
    app.words()
    app.page.evaluate(CAMERA)
    off = "camera.getTracks().every((track) => track.readyState === 'ended')"
    for end in ("Cancel", "Take the picture"):
        view.get_by_role("button", name="Camera").click()
        playwright.expect(view.get_by_role("button", name="Take the picture")).to_be_enabled()
        assert app.words().count() == 11
        view.get_by_role("button", name=end).click()
        app.holds(off)
        playwright.expect(view.locator("video")).to_have_count(0)
    app.holds("document.querySelector('#describe-picture img')?.src.includes('camera')")
    app.words()
    app.holds("""() => { const photo = document.querySelector("#describe-view .vd-photo");
        return photo.naturalWidth === 96 && photo.naturalHeight === 64; }""")


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


def test_a_pasted_picture_is_described_and_the_field_can_be_emptied(app: App) -> None:
    app.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    app.page.evaluate(
        """async () => { const canvas = document.createElement("canvas");
        canvas.width = 100; canvas.height = 80;
        canvas.getContext("2d").fillRect(0, 0, 50, 80);
        const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
        await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]); }""")
    app.page.get_by_label("Paste from clipboard").locator("visible=true").click()
    app.words()
    app.page.wait_for_selector("#describe-picture img", state="attached")
    app.tab("Ask")
    app.page.wait_for_selector("#ask-picture img", state="attached")  # the last act
    app.tab("Describe")
    assert app.page.locator("#describe-picture img").count() == 1
    app.page.locator("#describe-picture [aria-label='Remove Image']").dispatch_event("click")
    hint = app.page.get_by_text("The description of your picture appears here")
    hint.wait_for()
    app.quiet()
    assert hint.is_visible()
    assert app.page.locator("#describe-view .vd-message").is_hidden()


def test_a_fault_of_the_program_is_one_calm_sentence(app: App, pictures: Path) -> None:
    app.instruction().fill("Break.")
    app.give("describe-picture", pictures / "red.png")
    app.page.locator("#describe-view .vd-message", has_text="Something went wrong").wait_for()
    app.page.wait_for_selector("#describe-picture img", state="attached")  # it stays


def test_chinese_words_are_whole(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    app.words()
    app.describe_in("中文")  # which describes it anew
    app.page.wait_for_selector("#describe-view .vd-words[lang=zh]")
    words = app.words()
    assert "左边" in words.all_inner_texts() and "右边" in words.all_inner_texts()
    words.get_by_text("右边").click()
    assert "For “右边” the model looked most in the upper right" in (
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
    other.until(lambda: not list(uploads.rglob("private.png")))
    context.close()


def test_a_phone_never_scrolls_sideways(browser: "playwright.Browser", address: str,
                                        pictures: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True,
                                  device_scale_factor=2)
    opened = App(context.new_page(), address)
    wide = "document.scrollingElement.scrollWidth"
    assert opened.page.evaluate(wide) <= 390
    opened.give("describe-picture", pictures / "red.png")
    words = opened.words()
    opened.page.wait_for_function(  # the result comes into sight by itself
        "document.querySelector('#describe-view').getBoundingClientRect().top < 422")
    chips = opened.page.locator("#describe-presets button")  # above what they change
    assert chips.first.bounding_box()["y"] < words.first.bounding_box()["y"]
    assert chips.first.bounding_box()["y"] == chips.last.bounding_box()["y"]
    words.nth(4).tap()
    opened.settled("0:4:-1:-1")
    assert opened.page.evaluate(wide) <= 390
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.wait_for_function("(dark) => document.body.classList.contains('dark') === dark",
                                      arg=scheme == "dark")
        assert contrast(opened.page, "#describe-view .vd-summary") >= 4.5, scheme
        assert contrast(opened.page, "#describe-view .vd-hint") >= 4.5, scheme
    for name, part in (("Ask", "run"), ("Search", "run"), ("Compare", "view"), ("Tour", "view")):
        opened.tab(name)
        opened.page.wait_for_selector(f"#{name.lower()}-{part}")
        assert opened.page.evaluate(wide) <= 390, name
    context.close()
