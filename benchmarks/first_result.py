"""From the key press of Enter to the first hit on screen, in Chromium.

    python -m benchmarks.first_result [--size 100000] [--searches 40] [--json FILE]

The app runs as a person runs it, `python app.py --store ...`, with the demo's model, over a store
of ``--size`` entries. Their vectors are made on the spot, in clusters; their files are
``--pictures`` different JPEG files of 2,000 x 1,500 pixels, which the entries share, so that most
thumbnails have to be made first. Every search is for other words. The clock is the page's own: it
starts with the key and stops in the second frame after the first thumbnail of the new hits is
decoded. A pause of ``--pause`` seconds lies between two searches: the second look at the best 50 of
the one before is often still under way, as it is where a person types on.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.start import free_port, settings, stop, wait_for
from benchmarks.timing import machine, table, write_json
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.retrieval.base import Entry, Stamp, open_index
from vitdemo.retrieval.metadata import entry_id

ROOT = Path(__file__).resolve().parent.parent
THINGS = ("dog", "cat", "man", "woman", "boy", "girl", "bird", "horse", "car", "boat", "tree",
          "house", "bicycle", "ball", "child")
PLACES = ("grass", "snow", "the beach", "a street", "a table", "the water", "a bench", "a hill")
BATCH = 5000  # entries written at once
CLUSTERS = 200

# Notes when Enter is pressed, and when the hits of another search are on screen.
CLOCK = """() => {
  const hits = document.querySelector("#search-hits");
  const words = document.querySelector("#search-words textarea");
  window.vtTimes = [];
  let start = 0, told = "";
  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      start = performance.now();
      told = hits.querySelector(".vt-understood")?.textContent ?? "";
    }
  }, true);
  new MutationObserver(async () => {
    const now = hits.querySelector(".vt-understood")?.textContent ?? "";
    const image = hits.querySelector(".vt-hit img");
    if (!start || now === told || !image) return;
    const began = start;
    start = 0;
    await image.decode();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      window.vtTimes.push(performance.now() - began);
    }));
  }).observe(hits, { childList: true, subtree: true });
}"""


def make_files(folder: Path, count: int) -> list[Path]:
    """JPEG files of 2,000 x 1,500 pixels, each another one."""
    folder.mkdir()
    made = []
    for number in range(count):
        rough = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        made.append(folder / f"{number:05}.jpg")
        Image.fromarray(rough).resize((2000, 1500), Image.Resampling.BICUBIC).save(
            made[-1], quality=88)
    return made


def fill_store(store: Path, stamp: Stamp, files: Sequence[Path], size: int) -> None:
    """A store of made-up vectors in clusters."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLUSTERS, stamp.dimension)).astype(np.float32)
    index = open_index(str(store), stamp)
    for first in range(0, size, BATCH):
        count = min(BATCH, size - first)
        vectors = centres[random.integers(0, CLUSTERS, count)]
        vectors = vectors + random.standard_normal(vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        index.add([Entry(entry_id(f"{first + n}"), str(files[(first + n) % len(files)]), vector,
                         2000, 1500, {"day": "2024-05-31", "orientation": "landscape"})
                   for n, vector in enumerate(vectors)])
        print(f"\r{first + count:,} of {size:,} entries", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    index.close()


def chromium() -> str:
    """The path of this machine's Chromium."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
    if path is None:
        raise SystemExit("error: no Chromium was found; install the package chromium.")
    return path


def measure(address: str, searches: int, pause: float) -> list[float]:
    """Seconds of each search, the first two, which warm up, left out."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(300_000)
        page.goto(address)
        page.wait_for_selector("#describe-picture input[type=file]", state="attached")
        page.get_by_role("tab", name="Search", exact=True).click()
        page.get_by_label("A folder on this computer").check()
        page.wait_for_selector("#search-folder", state="visible")
        page.evaluate(CLOCK)
        for number in range(searches + 2):
            words = f"a {THINGS[number % 15]} on {PLACES[number % 8]} {number}"
            page.fill("#search-words textarea", words)
            page.press("#search-words textarea", "Enter")
            page.wait_for_function("(count) => window.vtTimes.length >= count", arg=number + 1)
            print(f"\r{number + 1} of {searches + 2} searches", end="", file=sys.stderr, flush=True)
            time.sleep(pause)
        print(file=sys.stderr)
        found: list[float] = page.evaluate("window.vtTimes")
        browser.close()
    return [value / 1000 for value in found[2:]]


def run(size: int, pictures: int, searches: int, pause: float, checkpoint: Path) -> dict[str, Any]:
    """The whole benchmark."""
    info = Engine.load(EngineConfig(model=str(checkpoint), device="cpu")).info
    with tempfile.TemporaryDirectory(prefix="vitdemo-first-") as name:
        folder = Path(name)
        files = make_files(folder / "photos", pictures)
        fill_store(folder / "store", Stamp(info.name, info.revision, info.dimension), files, size)
        port = free_port()
        address = f"http://127.0.0.1:{port}/"
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--model", str(checkpoint), "--device",
             "cpu", "--store", str(folder / "store"), "--allow-folder", str(folder / "photos")],
            cwd=ROOT, env=settings(), stdin=subprocess.DEVNULL)
        try:
            wait_for(address, app, time.perf_counter())
            seconds = measure(address, searches, pause)
        finally:
            stop(app)
    return {"size": size, "pictures": pictures, "pause": pause, "seconds": seconds,
            "p50": statistics.median(seconds), "p95": float(np.quantile(seconds, 0.95)),
            "machine": machine()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_result", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="entries (default: 100000)")
    parser.add_argument("--pictures", type=int, default=500, help="files (default: 500)")
    parser.add_argument("--searches", type=int, default=40, help="that count (default: 40)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds (default: 1)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    for flag in ("size", "pictures", "searches"):
        if getattr(args, flag) < 1:
            parser.error(f"--{flag} is {getattr(args, flag)}; it must be 1 or more.")
    result = run(args.size, args.pictures, args.searches, args.pause, args.checkpoint.resolve())
    print(table(["from Enter to the first hit on screen", "p50", "p95", "slowest"],
                [[f"{args.size:,} pictures", f"{result['p50']:.2f} s", f"{result['p95']:.2f} s",
                  f"{max(result['seconds']):.2f} s"]]))
    if result["machine"]["load"] > 1:
        print(f"The machine was busy (load {result['machine']['load']}): take this for an upper "
              "bound.")
    if args.json:
        write_json(args.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
