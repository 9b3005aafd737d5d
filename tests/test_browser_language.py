"""The page in the visitor's language: no English word on any Chinese screen, and the switch."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_app import WAIT, App, playwright

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser

# Everything on screen that a person can read or hear: texts, and what is said by attributes.
READ = """() => {
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    if (["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName)) continue;
    for (const node of element.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) found.push(node.textContent);
    }
    for (const name of ["title", "placeholder", "aria-label", "alt"]) {
      found.push(element.getAttribute(name) ?? "");
    }
  }
  return found.map((text) => text.trim()).filter(Boolean);
}"""
OPEN = """() => {
  for (const one of document.querySelectorAll("details")) {
    if (one.checkVisibility()) one.open = true;
  }
  for (const one of document.querySelectorAll("button.label-wrap:not(.open)")) {
    if (one.checkVisibility()) one.click();
  }
}"""
# Names: of this program, its parts, formats, files, and what stands in the picture's own text.
NAMES = {"vitdemo", "Gradio", "API", "English", "planted", "PNG", "CSV", "JSON", "JPEG", "WebP",
         "GIF", "BMP", "TIFF", "HEIC", "HTML", "MB", "ZIP", "Shift", "BLIP", "Step", "T", "p",
         "red", "green", "blue", "png", "broken", "other", "AI", "GPU", "x", "s", "Canon",
         "metadata", "jsonl", "beam"}  # what Gradio gives a choice as its title: its value


# Gradio's own, which it says in English in every language.
OF_GRADIO = re.compile("Capture from camera|Fullscreen|Gradio footer navigation|"
                       "Paste from clipboard|Remove Image|Reset to default value|Upload file|"
                       "(?:number input|range slider) for ")


def english(texts: list[str]) -> list[str]:
    """Of these texts those that hold a word that is English and no name."""
    return sorted({text for text in texts if not text.startswith("~/")
                   and set(re.findall(r"[A-Za-z]+", OF_GRADIO.sub("", text))) - NAMES})


@pytest.fixture
def chinese(browser: "playwright.Browser", address: str) -> Iterator[App]:
    """The page in a Chinese browser."""
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
    opened = App(context.new_page(), address)
    yield opened
    assert not opened.faults, opened.faults
    context.close()


def test_no_english_on_a_chinese_screen(chinese: App, pictures: Path, tmp_path: Path) -> None:
    page = chinese.page
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    left: dict[str, list[str]] = {}

    def look(where: str) -> None:
        page.evaluate(OPEN)
        page.wait_for_timeout(300)  # accordions slide
        left[where] = english(page.evaluate(READ))

    look("first sight")
    chinese.give("describe-picture", pictures / "red.png")
    chinese.words()
    page.wait_for_selector(".vd-summary:not(:empty)")
    look("a description")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no picture")
    chinese.give("describe-picture", broken)
    page.wait_for_selector("#describe-view .vd-message:not([hidden])")
    look("a broken picture")
    tabs = page.locator("#tabs > .tab-wrapper [role=tab]")
    for number in range(1, tabs.count()):
        tabs.nth(number).click()
        look(f"tab {number}")
        inner = page.locator("[role=tabpanel]:visible [role=tab]:visible")
        for place in range(inner.count()):
            inner.nth(place).click()
            look(f"tab {number}.{place}")
    assert not any(left.values()), {where: texts for where, texts in left.items() if texts}


def test_the_switch_stays_chosen(browser: "playwright.Browser", address: str) -> None:
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="中文").click()
    tab = page.get_by_role("tab", name="提问")
    tab.wait_for(timeout=WAIT)
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.reload()
    tab.wait_for(timeout=WAIT)
    assert page.get_by_role("button", name="中文").get_attribute("aria-pressed") == "true"
    context.close()
