"""A real Chromium, and the app served to it on a model whose maps are known (`fake_engine`)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser_app import App, playwright
from chromium import browser
from fake_engine import planted_engine
from PIL import Image

from vitdemo.config import LIMITS
from vitdemo.engine import Engine
from vitdemo.errors import CheckpointError
from vitdemo.ui import Settings, build_ui, launch_settings
from vitdemo.ui.blocks import AppBlocks

__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plain pictures, 320 x 240, named by colour."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("blue", "green", "red"):
        Image.new("RGB", (320, 240), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture full of detail: blurring a part of it tells (see `fake_engine`)."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps what is uploaded."""
    return tmp_path_factory.mktemp("uploads")


def second_model(name: str) -> Engine:
    """For Compare: a model whose maps are known, or the error of one that is not there."""
    if name != "other":
        raise CheckpointError(f"There is no checkpoint folder {name!r}.")
    return planted_engine()


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The app's model; a test module may have another one."""
    return planted_engine()


@pytest.fixture(scope="module")
def served(engine: Engine, pictures: Path, uploads: Path) -> Iterator[AppBlocks]:
    """The app, served from this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        blocks = build_ui(engine, Settings(pictures, folders=(pictures,),
                                           load_model=second_model))
        blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True,
                      share=False, max_file_size=LIMITS.upload_bytes, **launch_settings())
        yield blocks
        blocks.close(verbose=False)


@pytest.fixture(scope="module")
def address(served: AppBlocks) -> str:
    """Its address."""
    return served.local_url


@pytest.fixture(scope="module")
def window(browser: "playwright.Browser") -> Iterator["playwright.BrowserContext"]:
    """A desktop window; its pages share the cache of Gradio's many scripts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def app(window: "playwright.BrowserContext", address: str) -> Iterator[App]:
    """A page of one's own, which must not reach out of this machine nor fail in its scripts."""
    opened = App(window.new_page(), address)
    yield opened
    outside = [url for url in opened.requests
               if not url.startswith((address, "data:", "blob:"))]
    assert not outside, outside
    assert not opened.faults, opened.faults
    opened.page.close()
