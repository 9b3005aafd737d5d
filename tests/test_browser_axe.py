"""No tab breaks a rule of accessibility that axe-core knows, empty or with a result on it."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_app import App, contrast

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser


def violations(app: App) -> list[str]:
    """What axe-core objects to in what is on screen: its rule and the elements."""
    # A map on its way, and a tab's fading in, have colours that do not stay.
    app.page.emulate_media(reduced_motion="reduce")
    response = Axe().run(app.page).response
    return [f"{rule['id']}: {node['html'][:160]}" for rule in response["violations"]
            for node in rule["nodes"]]


def test_empty_tabs(app: App) -> None:
    for name in ("Describe", "Ask", "Search", "Compare", "Tour"):
        app.tab(name)
        app.page.wait_for_function("(name) => document.querySelector("
                                   "'[role=tab][aria-selected=true]').textContent.includes(name)",
                                   arg=name)
        assert not violations(app), name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_results(app: App, pictures: Path, address: str, theme: str) -> None:
    app.page.goto(f"{address}?__theme={theme}")
    app.give("describe-picture", pictures / "red.png")
    app.words()
    app.checked()
    app.page.get_by_role("button", name="Save").locator("visible=true").click()
    app.instruction()
    assert not violations(app)
    app.tab("Ask")
    app.page.get_by_text("Now ask something about this picture.").wait_for()
    app.page.fill("#ask-question textarea", "what is on the right?")
    app.page.click("#ask-run")
    app.words("ask-view")
    app.page.wait_for_selector("#ask-answers .vt-best")
    assert not violations(app)
    app.tab("Compare")
    app.words("compare-view")
    assert not violations(app)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_circle_that_is_not_chosen_can_be_seen(app: App, address: str, theme: str) -> None:
    app.page.goto(f"{address}?__theme={theme}")
    app.tab("Search")
    app.page.wait_for_selector("#search-source input:not(:checked)")
    app.page.evaluate("""() => { const box = document.querySelector(
      "#search-source input:not(:checked)");
      box.closest("label").style.color = getComputedStyle(box).borderTopColor; }""")
    assert contrast(app.page, "#search-source label:has(input:not(:checked))") >= 3
