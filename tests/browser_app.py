"""An open page of the app as the browser tests see it, and what they measure on it."""

import base64
from pathlib import Path

import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api")

WAIT = 60_000  # milliseconds: for a slow and busy machine; a quick one waits for nothing
playwright.expect.set_options(timeout=WAIT)


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
        width, height, data = found
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)

    def checked(self, view: str = "describe-view") -> None:
        """Wait until the server has nothing more to say about the result on screen."""
        self.page.wait_for_selector(f"#{view} .vd-badge:not([hidden])")
        self.page.wait_for_function(
            "(view) => document.querySelector(`#${view} .vd-status`).textContent === ''", arg=view)

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
