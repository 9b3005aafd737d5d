"""A real Chromium for browser tests."""

import os
import shutil
from collections.abc import Iterator

import pytest
from browser_app import WAIT, playwright

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
    """Chromium without a window."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium_path(), args=FLAGS,
                                        timeout=5 * WAIT)
        yield opened
        opened.close()
