"""A page has its first result before it asks for anything, and the server knows of it then."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_app import App, playwright
from served import Served, serve

from vitdemo.ui import Settings
from vitdemo.ui.tabs.opening import Opening

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def running(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(Opening, "start", Opening._start)  # not beside the tests
        with serve(tmp_path_factory.mktemp("uploads"),
                   Settings(pictures, open_with_result=True)) as served:
            yield served


@pytest.fixture
def address(running: Served) -> str:
    return f"{running.address}/"


def test_the_map_is_there_before_the_page_asks_for_anything(
        window: "playwright.BrowserContext", address: str) -> None:
    page = window.new_page()
    page.route("**/queue/join*", lambda route: route.abort())
    page.goto(address)
    page.wait_for_selector("#describe-view .vd-viewer[data-drawn]:not([data-drawn=''])")
    page.close()


def test_the_result_that_came_with_the_page_can_be_asked_about(app: App) -> None:
    app.page.get_by_role("button", name="Does it matter?").locator("visible=true").click()
    app.page.locator("#describe-view details:visible", has_text="Does it matter?").wait_for()
    with app.taken():
        app.page.click("#describe-presets [data-index='1']")
    app.page.wait_for_selector("#describe-view .vd-viewer[aria-busy=false] .vd-word")


def test_a_link_is_not_kept_waiting_by_it(running: Served) -> None:
    there = '"sure":'
    assert there in running.client.get(running.address).text
    assert there not in running.client.get(f"{running.address}/?task=search&text=dog").text
    assert there not in running.client.get(f"{running.address}/config").text
