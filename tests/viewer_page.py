"""A page with nothing but the viewer on it, as a saved report is, and made-up explanations."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser_app import WAIT, playwright
from PIL import Image

from vitdemo import viewer
from vitdemo.preprocess import Picture, grid_boxes, open_picture
from vitdemo.records import Curve, Evidence, Explanation, PictureShare, WhatIf, Word

TEXT = "a dog and a red ball"
STEPS = (0.0, 0.5, 1.0)


class Page:
    """A viewer on a page of its own; ``asked`` are its requests."""

    def __init__(self, page: "playwright.Page") -> None:
        self.page = page
        self.faults: list[str] = []
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.set_content(f"<style>{viewer.styles()}</style><div id=v class=vd-viewer></div>")
        page.add_script_tag(content=viewer.script())

    def mount(self, payload: dict[str, Any], ask: bool = True, compare: bool = False) -> None:
        plain = json.loads(json.dumps(payload, allow_nan=False))  # as it travels
        self.page.evaluate(
            """([payload, ask, compare]) => { window.asked = [];
            const send = ask ? (name, detail) => asked.push([name, detail]) : null;
            const mount = compare ? mountCompare : mountViewer;
            window.v = mount(document.querySelector("#v"), payload, send);
            for (const drawer of document.querySelectorAll(".vd-experts")) drawer.open = true; }""",
            [plain, ask, compare])

    def update(self, payload: dict[str, Any]) -> None:
        plain = json.loads(json.dumps(payload, allow_nan=False))
        self.page.evaluate("(payload) => window.v.update(payload)", plain)

    def asked(self) -> list[Any]:
        return list(self.page.evaluate("asked"))

    def word(self, text: str, nth: int = 0) -> None:
        """Choose a word, and wait until its map is drawn."""
        words = self.page.locator(".vd-word", has_text=re.compile(f"^{re.escape(text)}$"))
        words.nth(nth).click()
        self.page.wait_for_function("document.querySelector('#v').dataset.drawn !== ''")

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def button(self, name: str) -> "playwright.Locator":
        return self.page.get_by_role("button", name=name, exact=True)

    def paths(self, name: str) -> list[str]:
        """The outlines of a kind over the picture."""
        return list(self.page.eval_on_selector_all(
            f".vd-mark-{name}", "(all) => all.map((one) => one.getAttribute('d'))"))


@pytest.fixture
def page(browser: "playwright.Browser") -> Iterator[Page]:
    """A desktop page that must not fail in its scripts; it animates nothing."""
    context = browser.new_context(viewport={"width": 800, "height": 1000}, reduced_motion="reduce")
    opened = Page(context.new_page())
    yield opened
    assert not opened.faults, opened.faults
    context.close()


def photograph(size: tuple[int, int] = (160, 120), colour: str = "red") -> Picture:
    return open_picture(Image.new("RGB", size, colour))


def explanation(maps: np.ndarray, text: str = TEXT, grid: tuple[int, int] = (3, 4), *,
                source: str = "caption", method: str = "cross-attention",
                size: tuple[int, int] = (160, 120), gates: tuple[float, ...] = ()) -> Explanation:
    """Maps (Q, K) for one layer and head, or (L, H, Q, K)."""
    weights = np.asarray(maps, np.float32)
    weights = weights if weights.ndim == 4 else weights[None, None]
    words = tuple(Word(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+", text))
    return Explanation(text, source, words, weights, grid_boxes(grid, size), grid, size, method,
                       tuple(f"Step {n + 1}" for n in range(len(weights))), gates,
                       tuple(0.9 for _ in words) if source == "caption" else ())


def random_maps(words: int = 6, regions: int = 12, seed: int = 0, layers: int = 1,
                heads: int = 1) -> np.ndarray:
    """(L, H, Q, K) that add up to 0.8 over K."""
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.full(regions, 0.4), (layers, heads, words)) * 0.8


def evidence(word: int, verdict: str = "strong", method: str = "cross-attention",
             source: str = "caption") -> Evidence:
    return Evidence(word, source, method, Curve(STEPS, (0.8, 0.2, 0.1), 0.325),
                    Curve(STEPS, (0.8, 0.7, 0.1), 0.575), (0.4, 0.5), (0.42, 0.48), 0.41, 0.47,
                    0.8, 0.1, verdict)


def share(anyway: tuple[int, ...] = (), words: int = 6) -> PictureShare:
    return PictureShare("caption", float("nan"), (0.8,) * words, (0.9,) * words,
                        tuple(0.85 if n in anyway else 0.1 for n in range(words)),
                        tuple(n in anyway for n in range(words)))


def what_if(word: int, after: str = "a cat") -> WhatIf:
    return WhatIf(word, "caption", "cross-attention", (0, 1), (10,), TEXT, after, TEXT,
                  0.8, 0.2, 0.75)
