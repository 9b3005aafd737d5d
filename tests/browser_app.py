"""An open page of the app as the browser tests see it, and what they measure on it."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api")

QUIET = 5  # seconds that a page is given at most to come to rest
WAIT = 60_000  # milliseconds: for a slow and busy machine; a quick one waits for nothing
playwright.expect.set_options(timeout=WAIT)


class App:
    """One open page, with what it asked of the network and what went wrong in it."""

    def __init__(self, page: "playwright.Page", address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.set_default_timeout(WAIT)
        self._under_way: set[playwright.Request] = set()
        page.on("request", self._begun)
        page.on("requestfinished", lambda request: self._under_way.discard(request))
        page.on("requestfailed", lambda request: self._under_way.discard(request))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.add_init_script("try { localStorage.setItem('vitdemo-experts', 'open'); } catch {}")
        page.goto(address)
        page.wait_for_selector("#describe-picture input[type=file]", state="attached")

    def _begun(self, request: "playwright.Request") -> None:
        self.requests.append(request.url)
        if "/queue/" in request.url:  # an act, or the stream on which what comes of acts is sent
            self._under_way.add(request)

    def quiet(self) -> None:
        """Wait until all that was asked of the server has been answered and is on screen; not
        for ever, as the page now and then leaves a stream open on which nothing comes."""
        drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        for _ in range(2):  # an answer may ask for something in its turn
            self.page.evaluate(drawn)
            end = time.monotonic() + QUIET
            while self._under_way and time.monotonic() < end:
                self.page.wait_for_timeout(50)
        self.page.evaluate(drawn)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """An act, within, that the server has in its queue when this ends."""
        with self.page.expect_response(lambda response: "/queue/join" in response.url):
            yield

    def session(self) -> str:
        """The id by which the server knows the page."""
        return next(url for url in reversed(self.requests)
                    if "/heartbeat/" in url).rpartition("/")[2]

    def holds(self, condition: str, argument: object = None) -> None:
        """Wait until a JavaScript expression, or a function of ``argument``, is true."""
        self.page.wait_for_function(condition, arg=argument)

    def give(self, field: str, *paths: Path) -> None:
        self.page.set_input_files(f"#{field} input[type=file]", [str(path) for path in paths])

    def instruction(self) -> "playwright.Locator":
        """The field for one's own instruction, opened."""
        field = self.page.locator("#describe-instruction textarea")
        if not field.is_visible():
            self.page.click("#describe-presets [data-index=other]")
            field.wait_for()
        return field

    def describe_in(self, language: str) -> None:
        """Choose the language of the descriptions, where there is one."""
        self.page.locator("#describe-view #describe-language").get_by_label(language).check()

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
        width, height, data = found
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def checked(self, view: str = "describe-view") -> None:
        """Wait until the server has nothing more to say about the result on screen."""
        self.page.wait_for_selector(f"#{view} .vd-badge:not([hidden])")
        self.page.wait_for_function(
            "(view) => document.querySelector(`#${view} .vd-status`).textContent === ''", arg=view)

    def until(self, true: Callable[[], object]) -> None:
        """Wait for something that the server does on its own."""
        end = time.monotonic() + WAIT / 1000
        while not true():
            assert time.monotonic() < end, "it never came"
            self.page.wait_for_timeout(50)

    def control(self, label: str) -> "playwright.Locator":
        return self.page.locator("#describe-view").get_by_label(label, exact=True)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()


def corner_means(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Mean colour in the middle of each half."""
    height, width = pixels.shape[:2]
    parts = {"left": np.s_[:, : width // 3], "right": np.s_[:, -width // 3:],
             "top": np.s_[: height // 3], "bottom": np.s_[-height // 3:]}
    return {name: pixels[part][..., :3].reshape(-1, 3).mean(axis=0)
            for name, part in parts.items()}


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
