"""Searching in a real browser: signs, why and why not, pages, files, links, reading folders."""

import csv
import io
import re
import time
import zipfile
from pathlib import Path

import pytest
from browser_app import App, playwright
from fake_engine import PlantedBackend
from PIL import Image

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser
expect = playwright.expect


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty pictures, ever less red and more green."""
    folder = tmp_path_factory.mktemp("many")
    paths = []
    for n in range(30):
        paths.append(folder / f"{n:02}.png")
        Image.new("RGB", (64, 48), (255 - 8 * n, 8 * n, 0)).save(paths[-1])
    return paths


def search(app: App, words: str) -> "playwright.Locator":
    """Look for something; gives the names of the hits."""
    app.page.fill("#search-words textarea", words)
    app.page.keyboard.press("Enter")
    expect(app.page.locator("#search-hits .vt-understood")).to_contain_text("Looked for")
    return app.page.locator("#search-hits .vt-name")


def upload(app: App, paths: list[Path]) -> None:
    app.tab("Search")
    app.page.get_by_label("My own pictures").check()
    app.page.wait_for_selector("#search-files input[type=file]", state="attached")
    app.give("search-files", *paths)
    expect(app.page.locator("#search-status strong")).to_have_text(
        f"{len(paths)} pictures to search")


def test_a_tab_that_was_just_opened_complains_of_nothing(app: App) -> None:
    app.quiet()  # what opening a page starts is over
    app.tab("Search")
    app.quiet()
    expect(app.page.locator("#search-hits")).to_contain_text("Pictures that fit appear here")
    expect(app.page.locator("#search-hits .vt-error")).to_have_count(0)


def test_a_query_to_start_with_is_looked_for_at_once(app: App) -> None:
    app.tab("Search")
    sample = app.page.locator("#search-samples button").first
    sample.wait_for()
    of_hits = app.page.locator("#search-newest, #search-save-hits")
    assert not any(one.is_visible() for one in of_hits.all())  # of what is not there yet
    sample.click()
    expect(app.page.locator("#search-hits .vt-understood")).to_contain_text(sample.inner_text())
    assert [one.is_visible() for one in of_hits.all()] == [True, True]
    expect(app.page.locator("#search-words textarea")).to_have_value(sample.inner_text())


def test_signs_are_understood_and_words_have_their_part(app: App) -> None:
    app.tab("Search")
    names = search(app, "red +0.5 blue -green")
    expect(app.page.locator("#search-hits .vt-understood")).to_have_text(
        "Looked for: “red” + 0.5 × “blue” − “green”")
    expect(names).to_have_text(["red.png", "blue.png", "green.png"])
    # The second look, by the match head, comes by itself.
    expect(app.page.locator("#search-hits .vt-match").first).to_be_visible()
    app.page.locator("#search-hits button.vt-hit").first.click()
    expect(app.page.locator("#search-view .vd-word")).to_have_text(["red", "blue", "green"])
    app.page.locator("#search-parts summary").click()
    rows = app.page.locator("#search-parts .vt-row")
    expect(rows).to_have_count(3)
    assert rows.nth(0).inner_text().startswith("red") and "+0." in rows.nth(0).inner_text()
    assert rows.nth(1).inner_text().startswith("+0.5 × blue")
    assert rows.nth(2).inner_text().startswith("−green")
    pressed = app.page.locator("#search-hits [aria-pressed=true] .vt-name")
    expect(pressed).to_have_text("red.png")


def test_a_map_opens_over_the_hits_leads_to_the_next_and_closes(app: App) -> None:
    app.tab("Search")
    search(app, "red +0.5 blue")
    sheet = app.page.locator("#search-sheet")
    expect(sheet).to_be_hidden()
    app.page.locator("#search-hits button.vt-hit").first.click()
    expect(sheet).to_be_visible()
    title = sheet.locator("[data-part=title]")
    expect(title).to_have_text("red.png")
    expect(sheet.locator("[data-part=earlier]")).to_be_disabled()
    expect(app.page.locator("#search-view .vd-word")).to_have_count(2)
    expect(sheet.locator("[data-part=note]")).to_have_text("")
    sheet.locator("[data-part=later]").click()
    expect(title).to_have_text("blue.png")
    app.checked("search-view")
    for key in ("Tab", "Shift+Tab"):  # the keyboard does not get out
        for _ in range(40):
            app.page.keyboard.press(key)
            app.holds("document.activeElement.closest('#search-sheet') !== null")
    app.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    app.holds("document.activeElement.querySelector('.vt-name')?.textContent === 'blue.png'")


def test_a_date_among_the_words_can_be_taken_away(app: App) -> None:
    app.tab("Search")
    search(app, "green 1999")
    expect(app.page.locator("#search-hits")).to_contain_text("No picture fits these conditions")
    app.page.locator("#search-hits [data-act=undate]").click()
    expect(app.page.locator("#search-hits .vt-name").first).to_have_text("green.png")
    expect(app.page.locator("#search-words textarea")).to_have_value("green")


def test_why_not_this_one_stands_beside_the_hit(app: App, pictures: Path) -> None:
    app.tab("Search")
    search(app, "red +0.5 blue")
    app.page.locator("#search-hits .vt-act[data-act=versus]").nth(0).click()
    verdict = app.page.locator("#search-verdict")
    expect(verdict).to_contain_text("By its vector blue.png stands at place 2.")
    expect(verdict.locator("tbody tr")).to_have_count(3)  # two words and the score
    view = app.page.locator("#search-versus")
    expect(view.locator(".vd-sidebox .vd-word")).to_have_count(4)
    assert "The hit: red.png" in view.inner_text() and "blue.png" in view.inner_text()
    app.page.keyboard.press("Escape")
    app.page.get_by_role("button", name="For experts").click()
    app.give("search-other", pictures / "green.png")
    expect(verdict).to_contain_text("green.png stands at place 3.")
    stranger = pictures.parent / "stranger.png"
    Image.new("RGB", (90, 50), (9, 90, 200)).save(stranger)
    app.page.keyboard.press("Escape")
    app.give("search-other", stranger)
    expect(verdict).to_contain_text("stranger.png is not among the pictures that were searched.")


def test_more_like_this_and_words_with_a_picture(app: App, pictures: Path) -> None:
    app.tab("Search")
    names = search(app, "red")
    expect(names.first).to_have_text("red.png")
    app.page.locator("#search-hits .vt-act[data-act=like]").last.click()
    expect(app.page.locator("#search-hits .vt-understood")).to_contain_text("the picture “")
    like = app.page.locator("#search-hits .vt-understood").inner_text()
    assert names.first.inner_text() in like
    app.page.get_by_role("button", name="Find by picture").click()
    app.page.get_by_role("button", name="For experts").click()
    app.page.get_by_label("How much your picture counts beside the words").first.fill("3")
    app.give("search-picture", pictures / "blue.png")
    expect(app.page.locator("#search-hits .vt-understood")).to_have_text(
        "Looked for: “red” + 3 × your picture")
    expect(names.first).to_have_text("blue.png")


def test_pages_conditions_and_the_order_without(app: App, many: list[Path]) -> None:
    upload(app, many)
    names = search(app, "red")
    expect(names).to_have_text([f"{n:02}.png" for n in range(12)])
    app.page.click("#search-later")
    expect(names).to_have_text([f"{n:02}.png" for n in range(12, 24)])
    expect(app.page.locator("#search-page")).to_contain_text("Page 2")
    app.page.click("#search-later")
    expect(names).to_have_text([f"{n:02}.png" for n in range(24, 30)])
    expect(app.page.locator("#search-later")).to_be_hidden()
    app.page.click("#search-earlier")
    expect(names.first).to_have_text("12.png")
    app.page.get_by_role("button", name="For experts").click()
    app.page.get_by_label("Look at the best 50 again").uncheck()
    expect(app.page.locator("#search-note")).to_have_text("")
    app.page.get_by_text("Only pictures that …").first.click()
    app.page.fill("#search-only-after input, #search-only-after textarea", "yesterday")
    search(app, "red")
    expect(app.page.locator("#search-hits [role=alert]")).to_contain_text("is no date")
    app.page.fill("#search-only-after input, #search-only-after textarea", "1999")
    app.page.fill("#search-min-width input", "65")
    search(app, "red")
    expect(app.page.locator("#search-hits")).to_contain_text("No picture fits these conditions")


def test_hits_are_saved_as_table_and_as_copies(app: App, many: list[Path]) -> None:
    upload(app, many)
    search(app, "green")
    app.page.locator("#search-save-hits button").first.click()
    app.quiet()  # what was opened stands
    app.page.fill("#search-save-count input", "5")
    app.page.press("#search-save-count input", "Tab")
    app.quiet()  # the page has taken the number
    expect(app.page.locator("#search-save-count input")).to_have_value("5")
    with app.page.expect_download() as wanted:
        app.page.click("#search-save-csv")
    rows = list(csv.DictReader(io.StringIO(
        Path(wanted.value.path()).read_text(encoding="utf-8-sig"))))
    assert [row["name"] for row in rows] == [f"{n}.png" for n in (29, 28, 27, 26, 25)]
    with app.page.expect_download() as wanted:
        app.page.click("#search-save-zip")
    assert wanted.value.suggested_filename == "vitdemo-hits.zip"
    with zipfile.ZipFile(wanted.value.path()) as archive:
        assert archive.namelist() == [*[f"{n:02} {30 - n}.png" for n in range(1, 6)], "table.csv"]
        assert archive.read("01 29.png") == many[29].read_bytes()
    app.page.fill("#search-save-count input", "0")
    app.page.click("#search-save-json")
    expect(app.page.locator("#search-saved")).to_contain_text("from 1 to")


def test_a_link_runs_the_search_that_it_holds(app: App, address: str) -> None:
    app.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    app.tab("Search")
    app.page.get_by_text("Only pictures that …").first.click()
    app.page.fill("#search-min-width input", "100")
    search(app, "green -red")
    app.page.locator("#search-save-hits button").first.click()
    app.page.click("#find-copy")
    field = app.page.locator("#find-link textarea, #find-link input")
    expect(field).to_have_value(re.compile("task=find"))
    link = field.input_value()
    assert "text=green+-red" in link and "min_width=100" in link and "in=examples" in link
    app.page.goto(link)
    expect(app.page.locator("#search-hits .vt-understood")).to_have_text(
        "Looked for: “green” − “red” · 100 to … pixels wide")
    expect(app.page.locator("#search-hits .vt-name").first).to_have_text("green.png")
    app.page.goto(f"{address}?task=find&text=red&size=13")
    expect(app.page.locator("#linked")).to_contain_text("“size” in the link is “13”")
    expect(app.page.locator("#search-hits .vt-name").first).to_have_text("red.png")


def test_reading_a_folder_can_be_cancelled_in_the_middle(app: App, pictures: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures / "large"
    folder.mkdir(exist_ok=True)
    for n in range(80):
        Image.new("RGB", (40 + n, 30), (n, 255 - n, 0)).save(folder / f"{n:02}.png")
    embed = PlantedBackend.embed_pictures

    def slowly(self: PlantedBackend, features: list[object]) -> object:
        time.sleep(1.5)
        return embed(self, features)  # type: ignore[arg-type]

    monkeypatch.setattr(PlantedBackend, "embed_pictures", slowly)
    app.tab("Search")
    app.page.get_by_label("A folder on this computer").check()
    chip = app.page.locator("#search-folders button", has_text=pictures.name)
    chip.click()  # chosen, not typed
    app.page.locator("#search-folders button", has_text="large").click()
    field = app.page.locator("#search-folder textarea, #search-folder input")
    expect(field).to_have_value(str(folder))
    app.page.click("#search-index")
    status = app.page.locator("#search-status")
    expect(status).to_contain_text(re.compile(r"Read \d+ of 80 pictures"))
    app.page.click("#search-cancel")
    expect(status).to_contain_text("Cancelled:")
    expect(app.page.locator("#search-cancel")).to_be_hidden()
    held = int(re.search(r"Cancelled: (\d+) of", status.inner_text()).group(1))  # type: ignore
    assert held < 80
    monkeypatch.undo()
    app.page.click("#search-index")
    expect(status.locator("strong")).to_have_text("80 pictures to search")
    assert f"{80 - held} new" in status.inner_text()
    if held:
        assert f"{held} as before" in status.inner_text()
    expect(search(app, "green").first).to_have_text("00.png")
    app.page.fill("#search-folder textarea, #search-folder input", str(pictures / ".." / ".."))
    app.page.click("#search-index")
    expect(status.locator("[role=alert]")).to_contain_text("--allow-folder")
