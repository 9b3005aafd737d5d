"""A report opened from disk with the network off; the buttons that save; the guided tour."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser_app import App, playwright
from fake_engine import planted_engine
from PIL import Image

from vitdemo import report
from vitdemo.preprocess import Picture, open_picture

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser

SAID = "Say: a cat on the left and nothing on the right </script><b>"


@pytest.fixture(scope="module")
def photo() -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return open_picture(Image.fromarray(noise))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, photo: Picture) -> Path:
    """A report with everything in it."""
    engine = planted_engine()
    caption = engine.caption(photo, SAID)
    maps = engine.explain(photo, caption)
    file = tmp_path_factory.mktemp("kept folder") / "报告 #1.html"
    report.write_html(file, photo, maps, engine.info, name="noise.png",
                      others=engine.explain(photo, caption, "relevancy"),
                      evidence=engine.evidence(photo, caption, words=[4]),
                      shares=engine.picture_share(photo, caption),
                      settings={"Instruction": SAID})
    return file


class Opened:
    """A report in a browser that has no network, with what it asked for and what went wrong."""

    def __init__(self, browser: "playwright.Browser", file: Path, width: int, **settings: bool
                 ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900},
                                           offline=True, **settings)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text)
                     if line.type in ("error", "warning") else None)
        self.page.goto(file.as_uri())


@pytest.fixture
def opened(browser: "playwright.Browser", saved: Path) -> Iterator[Opened]:
    made = Opened(browser, saved, 1000)
    yield made
    assert made.requests[0] == saved.as_uri()
    assert all(url.startswith(("data:", "blob:")) for url in made.requests[1:]), made.requests
    assert not made.faults, made.faults
    made.context.close()


def test_a_report_works_from_disk(opened: Opened) -> None:
    page = opened.page
    page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    page.locator("#viewer .vd-word").nth(4).click()
    page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    assert "on the left" in page.locator(".vd-summary").inner_text()
    page.locator("#viewer .vd-word").nth(6).click()
    page.wait_for_selector("#viewer[data-drawn='0:6:-1:-1']")
    assert "did not look at the picture" in page.locator(".vd-summary").inner_text()
    row = page.locator("tbody tr").nth(4).inner_text()
    assert "left" in row and "much more than" in row and "5%" in row
    assert page.locator("h2", has_text="cannot say").count() == 1


def test_a_report_draws_what_the_app_draws(opened: Opened) -> None:
    opened.page.locator("#viewer .vd-word").nth(4).click()
    opened.page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    opened.page.evaluate("document.querySelector('#viewer').parentElement.id = 'report'")
    drawn = App.map(opened, "report")[..., 3].astype(float)  # type: ignore[arg-type]
    third = drawn.shape[1] // 3
    assert drawn[:, :third].mean() > drawn[:, -third:].mean() + 60


def test_a_report_saves_a_picture(opened: Opened) -> None:
    opened.page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    with opened.page.expect_download() as found:
        opened.page.locator("#viewer").get_by_role("button", name="Save").click()
    with Image.open(found.value.path()) as image:
        assert image.format == "PNG"


def test_the_policy_forbids_the_network(browser: "playwright.Browser", saved: Path) -> None:
    """Even with a network, a script in the page can ask for nothing, and a foreign one is not
    run."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(saved.as_uri())
    asked = page.evaluate("""async () => { try { await fetch("http://127.0.0.1:9/"); return "sent" }
        catch (error) { return new Promise((done) => {
          document.addEventListener("securitypolicyviolation", (e) => done(e.effectiveDirective));
          fetch("http://127.0.0.1:9/").catch(() => 0); }) } }""")
    assert asked == "connect-src"
    page.evaluate("""() => { const script = document.createElement("script");
        script.textContent = "window.foreign = 1"; document.body.append(script); }""")
    assert page.evaluate("window.foreign") is None
    context.close()


def test_a_report_on_a_phone(browser: "playwright.Browser", saved: Path) -> None:
    made = Opened(browser, saved, 360)
    made.page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    assert made.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not made.faults
    made.context.close()


def test_a_report_on_paper(opened: Opened) -> None:
    page = opened.page
    page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 640, "height": 900})
    lines = page.locator("tbody bdi").evaluate_all("(all) => all.map((e) => e.getClientRects()"
                                                   ".length)")
    assert lines == [1] * len(lines)  # no word is broken
    assert page.locator(".vd-experts, .vd-actions, .vd-hint").filter(visible=True).count() == 0
    style = "(e) => getComputedStyle(e).printColorAdjust"
    for drawn in (".vd-map", ".vd-word[aria-pressed=true]", "td img >> nth=0"):
        assert page.locator(drawn).evaluate(style) == "exact"
    assert page.locator("body").evaluate("(e) => getComputedStyle(e).backgroundColor") \
        == "rgb(255, 255, 255)"
    page.emulate_media(media="screen")


def test_a_report_without_scripts(browser: "playwright.Browser", saved: Path) -> None:
    made = Opened(browser, saved, 1000, java_script_enabled=False)
    assert made.page.locator("noscript .vr-note").inner_text().startswith("Scripts are off")
    shown = made.page.locator("img.vr-photo").bounding_box()
    assert shown is not None and shown["width"] > 100
    assert made.page.locator("tbody tr").count() == 12
    assert made.page.locator("tbody img").first.bounding_box()["width"] > 50
    made.context.close()


def test_the_app_saves_what_is_on_screen(app: App, pictures: Path, uploads: Path,
                                         browser: "playwright.Browser", tmp_path: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    app.words()
    app.page.get_by_role("button", name="Save").locator("visible=true").click()
    kept: dict[str, Path] = {}
    for kind in ("html", "csv", "json"):
        with app.page.expect_download() as found:
            app.page.click(f"#describe-keep-{kind}")
        assert found.value.suggested_filename == f"vitdemo-red.{kind}"
        kept[kind] = tmp_path / found.value.suggested_filename
        found.value.save_as(kept[kind])
    said = json.loads(kept["json"].read_text("utf-8"))
    assert said["explanations"][0]["text"] == "A cat on the left and a dog on the right."
    weights = np.array(said["explanations"][0]["weights"], np.float32)
    rows = list(csv.DictReader(kept["csv"].open(encoding="utf-8-sig")))
    mine = [row for row in rows if row["method"] == said["explanations"][0]["method"]]
    assert [np.float32(row["weight"]) for row in mine] == weights.ravel().tolist()
    assert float(mine[0]["x1"]) == 40.0  # 320 pixels in 8 columns
    made = Opened(browser, kept["html"], 900)
    made.page.locator("#viewer .vd-word").nth(4).click()
    made.page.wait_for_selector("#viewer[data-drawn='0:4:-1:-1']")
    assert not made.faults
    made.context.close()
    folder, = uploads.glob("keep-*")
    app.page.goto("about:blank")  # the page is left: what was saved for it goes
    app.until(lambda: not folder.exists())


def test_the_tour(app: App) -> None:
    page, expect = app.page, playwright.expect
    invitation = page.locator(".vt-invitation")
    page.evaluate("localStorage.clear()")
    page.reload()
    invitation.get_by_role("button", name="Take the").click()
    assert app.words("tour-view").count() == 11  # of an example, at once
    expect(invitation).to_be_hidden()
    app.words("tour-view").nth(4).click()
    app.settled("0:4:-1:-1", "tour-view")
    for number in range(2, 7):
        page.click("#tour-next")
        expect(page.locator(f"#tour-top [data-index='{number - 1}']")).to_have_attribute(
            "aria-current", "step")
        expect(page.locator("#tour-found")).not_to_contain_text("at work")
        if number == 5:
            expect(page.locator("#tour-found")).to_contain_text("cannot be copied with random")
    expect(page.locator("#tour-found")).to_contain_text("What a map cannot say")
    page.click("#tour-back")
    expect(page.locator(".vt-title")).to_contain_text("5.")
    page.locator(".vt-steps button").nth(1).click()
    page.locator("#tour-words button").nth(1).click()
    expect(page.locator("#tour-found")).to_contain_text("(cat: ")
    page.locator(".vt-steps button").last.click()
    page.click("#tour-own")
    expect(page.get_by_role("tab", name="Describe")).to_have_attribute("aria-selected", "true")
    page.reload()
    page.wait_for_selector("#describe-picture input[type=file]", state="attached")
    expect(invitation).to_be_hidden()  # it stays away
