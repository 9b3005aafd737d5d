"""In a real browser: evidence, other methods, comparing, and links to a view."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from browser_app import App, playwright

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser

LEFT = 4  # place of this word in the planted caption


def test_the_chosen_map_gets_its_evidence_unasked(app: App, scene: Path) -> None:
    app.give("describe-picture", scene)
    app.words()
    app.checked()
    app.page.locator("#describe-view .vd-all").first.click()
    badge = app.page.locator("#describe-view .vd-badge")
    assert badge.is_hidden()
    app.words().nth(LEFT).click()
    app.settled(f"0:{LEFT}:-1:-1")
    assert "vd-strong" in (badge.get_attribute("class") or "")
    assert "much more than" in badge.inner_text()
    assert "95% with the picture" in app.page.locator("#describe-view .vd-share").inner_text()
    app.words().nth(0).click()
    app.settled("0:0:-1:-1")
    playwright.expect(badge).to_have_class(re.compile("vd-language"))


def test_keys_alone_find_out_whether_it_matters(app: App, scene: Path) -> None:
    app.page.locator("#describe-picture input[type=file]").set_input_files(str(scene))
    app.words()
    app.checked()
    app.page.locator("#describe-view .vd-all").first.focus()
    for _ in range(LEFT + 1):
        app.page.keyboard.press("ArrowRight")
    app.settled(f"0:{LEFT}:-1:-1")
    button = app.page.get_by_role("button", name="Does it matter?").locator("visible=true")
    for _ in range(30):  # tab on until it has the focus
        if button.evaluate("(one) => one === document.activeElement"):
            break
        app.page.keyboard.press("Tab")
    app.page.keyboard.press("Enter")
    result = app.page.locator("#describe-view .vd-before")
    result.wait_for()
    lines = result.locator("dd").all_inner_texts()
    assert "left" in lines[0] and "left" not in lines[1] and lines[2] == lines[0]
    assert "It matters" in app.page.locator("#describe-view").inner_text()
    app.settled(f"0:{LEFT}:-1:-1")  # the word stays chosen


def test_another_method_is_computed_when_chosen_and_checked(app: App,
                                                                       scene: Path) -> None:
    app.give("describe-picture", scene)
    app.words().nth(LEFT).click()
    app.checked()
    view = app.page.locator("#describe-view")
    method = view.locator("select:has(option[value='grad-cam'])").first
    method.select_option("grad-cam")
    app.page.wait_for_selector("#describe-view .vd-viewer[data-method='grad-cam']")
    app.settled(f"0:{LEFT}:-1:-1")
    playwright.expect(view.locator(".vd-badge")).to_have_class(re.compile("vd-worse"))
    shown = json.loads(view.locator(".vd-viewer").get_attribute("data-chosen") or "{}")
    assert shown["method"] == "grad-cam" and shown["word"] == LEFT


def test_a_chosen_sentence_shows_its_own_maps(app: App, scene: Path) -> None:
    app.tab("Search")
    app.tab("Which sentence fits?")
    app.give("fits-picture", scene)
    app.page.fill("#fits-sentences textarea", "red on the left\nnothing\nblue at the top")
    app.page.wait_for_selector("#fits-picture img")
    app.page.click("#fits-run")
    app.words("fits-view")
    app.page.locator("#fits-result button", has_text="blue at the top").click()
    playwright.expect(app.page.locator("#fits-view .vd-word")).to_have_text(
        ["blue", "at", "the", "top"])
    pressed = app.page.locator("#fits-result [aria-pressed=true]")
    assert "blue at the top" in pressed.inner_text()


def test_two_sides_on_one_scale(app: App, scene: Path, pictures: Path) -> None:
    app.tab("Compare")
    view = app.page.locator("#compare-view")
    expect = playwright.expect
    expect(view.locator(".vd-sidebox .vd-word")).to_have_count(22)  # of an example, at once
    expect(view.locator(".vd-difference")).to_be_visible()
    expect(view.locator(".vd-camera:visible")).to_have_count(1)  # one picture for both
    assert "Describe the picture in a few words." in view.inner_text()
    app.page.set_viewport_size({"width": 768, "height": 1024})
    tops = {stage.bounding_box()["y"] for stage in view.locator(".vd-side .vd-stage").all()}
    assert len(tops) == 1  # in line, however long the sentences are
    drawer = view.locator("summary:visible", has_text="For experts")
    methods = view.locator(".vd-side .vd-looks:visible")
    expect(drawer).to_have_count(1)
    expect(methods).to_have_count(2)
    drawer.click()
    expect(methods).to_have_count(0)
    first = app.page.locator("#compare-left")
    expect(first).not_to_contain_text("First picture")
    app.page.get_by_label("Two pictures").check()
    expect(first).to_contain_text("First picture")
    expect(view.locator(".vd-difference")).to_be_hidden()
    expect(app.page.locator("#compare-right img")).to_have_count(1)  # another example
    expect(app.page.locator("#compare-right")).to_be_hidden()  # it is given where it is shown
    expect(view.locator(".vd-camera:visible")).to_have_count(2)
    app.give("compare-left", scene)
    app.give("compare-right", pictures / "blue.png")
    expect(view.locator(".vd-sidehead").nth(1)).to_have_text("Second picture")
    expect(view.locator(".vd-sidebox .vd-word")).to_have_count(22)
    app.page.get_by_label("Two models").check()
    expect(view).to_contain_text("Name the second model")
    app.page.fill("#compare-model textarea, #compare-model input", "/no/such")
    app.page.keyboard.press("Enter")
    expect(view).to_contain_text("There is no checkpoint folder '/no/such'.")
    app.page.get_by_label("Two ways of looking").check()
    expect(view.locator(".vd-difference")).to_be_visible()
    expect(view.locator(".vd-sidebox .vd-word")).to_have_count(22)


def test_a_link_restores_everything_but_the_picture(app: App, scene: Path) -> None:
    app.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    app.give("describe-picture", scene)
    app.words()
    app.page.get_by_label("Drawn by chance (sampling)").check()
    app.page.get_by_label("Seed: the same number gives the same words").fill("7")
    app.instruction().fill("Say: it is on the left")
    app.page.click("#describe-run")
    app.words().get_by_text("It", exact=True).wait_for()
    app.control("Layer").select_option(label="Step 2")
    app.control("Head").select_option(label="Head 3")
    app.page.wait_for_selector("""#describe-view .vd-viewer[data-chosen*='"head":2']""")
    app.page.get_by_role("button", name="Save").locator("visible=true").click()
    app.page.get_by_role("button", name="Copy a link to this view").locator(
        "visible=true").click()
    field = app.page.locator("#describe-link textarea, #describe-link input")
    playwright.expect(field).to_have_value(re.compile("seed=7"))
    link = field.input_value()
    playwright.expect(app.page.locator("#describe-link")).to_be_visible()
    assert app.page.evaluate("navigator.clipboard.readText()") == link
    asked = parse_qs(urlsplit(link).query)
    assert asked == {"task": ["describe"], "text": ["Say: it is on the left"], "language": ["en"],
                     "word": ["left"], "method": ["cross-attention"], "layer": ["2"],
                     "head": ["3"], "strategy": ["sample"], "seed": ["7"]}

    app.page.goto(link + "&beams=99&colour=red")
    notice = app.page.locator("#linked")
    playwright.expect(notice).to_contain_text("“beams” in the link is “99”")
    assert "“colour”" in notice.inner_text()
    playwright.expect(app.page.locator("#describe-instruction textarea")).to_have_value(
        "Say: it is on the left")
    chips = app.page.locator("#describe-presets [aria-pressed=true]")
    playwright.expect(chips).to_have_count(0)
    app.give("describe-picture", scene)
    assert app.words().all_inner_texts() == ["It", "is", "on", "the", "left"]
    seed = app.page.get_by_label("Seed: the same number gives the same words")
    playwright.expect(seed).to_have_value("7")
    app.settled("0:4:1:2")


def test_a_link_opens_an_example_at_its_word(app: App, address: str) -> None:
    notice = app.page.locator("#linked")
    app.page.goto(address + "?task=describe&example=red&word=dog")
    app.words()
    app.settled("0:7:-1:-1")
    playwright.expect(notice).to_have_text("")
    app.page.goto(address + "?task=ask&example=red&text=what+is+it%3F")
    app.words("ask-view")
    app.page.goto(address + "?task=describe&word=dog")
    playwright.expect(notice).to_contain_text("the word “dog” opens")


def test_a_link_opens_its_tab_and_method(app: App, scene: Path, address: str) -> None:
    app.page.goto(address + "?task=ask&text=what+is+on+the+right%3F&method=grad-cam")
    playwright.expect(app.page.locator("#ask-question textarea")).to_have_value(
        "what is on the right?")
    app.give("ask-picture", scene)
    app.page.wait_for_selector("#ask-picture img", state="attached")
    app.page.click("#ask-run")
    app.words("ask-view")
    app.page.wait_for_selector("#ask-view .vd-viewer[data-method='grad-cam']")
    app.page.goto(address + "?task=fits&text=a+red+ball%0Aa+blue+one")
    playwright.expect(app.page.locator("#fits-sentences textarea")).to_have_value(
        "a red ball\na blue one")
