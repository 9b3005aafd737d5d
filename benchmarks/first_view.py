"""From opening the page to the first map on screen, in Chromium, and what the page weighs.

    python -m benchmarks.first_view [--repeats 5] [--screenshot FILE] [--json FILE]

The app runs as a person runs it, `python app.py`, with the demo's model. Each visit is another
visitor's, with nothing cached, after one that is not counted: the server has made its opening
result by then, as it has for all but the first visitor after a start. The clock is the page's own:
it starts with the request for the page and stops in the second frame after the map is drawn. Bytes
are those that came over the network, compressed as they were sent. ``--screenshot`` keeps what such
a visitor sees at 1280 x 800 when the map has been checked, as docs/screenshot.png does.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.first_result import chromium
from benchmarks.start import ROOT, running_app
from benchmarks.timing import keep, machine, table

SCREENS = {"1280 x 800": (1280, 800), "390 x 844": (390, 844)}

# Milliseconds from the start of the request to the second frame after the first map is drawn.
CLOCK = """
const look = () => {
  if (!document.querySelector("#describe-view .vd-viewer[data-drawn]:not([data-drawn=''])")) {
    requestAnimationFrame(look);
    return;
  }
  requestAnimationFrame(() => requestAnimationFrame(() => { window.vtFirst = performance.now(); }));
};
look();
"""


def visit(browser: Any, address: str, size: tuple[int, int]) -> tuple[float, int]:
    """Seconds to the first map, and the bytes that came until then."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.set_default_timeout(300_000)
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    received: dict[str, float] = {}

    def count(event: dict[str, Any]) -> None:
        key = event["requestId"]
        received[key] = received.get(key, 0) + event["encodedDataLength"]

    network.on("Network.dataReceived", count)
    # The whole, its head included; what is still open then counts as far as it came.
    network.on("Network.loadingFinished", lambda event: received.update(
        {event["requestId"]: event["encodedDataLength"]}))
    page.add_init_script(CLOCK)
    page.goto(address, wait_until="commit")
    page.wait_for_function("window.vtFirst")
    seconds = page.evaluate("window.vtFirst") / 1000
    context.close()
    return seconds, int(sum(received.values()))


def take_screenshot(browser: Any, address: str, file: Path) -> None:
    """What a visitor sees once the map that the page opens with has been checked."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(600_000)
    page.goto(address)
    page.locator("#describe-view .vd-badge:visible").wait_for()
    page.wait_for_function("!document.querySelector('#describe-view .vd-status').textContent")
    page.screenshot(path=file)
    page.context.close()


def measure(address: str, repeats: int, screenshot: str = "") -> dict[str, list[tuple[float, int]]]:
    """Every counted visit, by the screen's size."""
    from playwright.sync_api import sync_playwright

    visits: dict[str, list[tuple[float, int]]] = {name: [] for name in SCREENS}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        visit(browser, address, (1280, 800))
        for turn in range(repeats):
            for name, size in SCREENS.items():
                visits[name].append(visit(browser, address, size))
            print(f"\rturn {turn + 1} of {repeats}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        if screenshot:
            take_screenshot(browser, address, Path(screenshot))
        browser.close()
    return visits


def run(repeats: int, checkpoint: Path, screenshot: str = "") -> dict[str, Any]:
    """The whole benchmark."""
    with running_app(checkpoint) as address:
        visits = measure(address, repeats, screenshot)
    return {"machine": machine(), "screens": {
        name: {"seconds": [seconds for seconds, _ in each],
               "bytes": [weight for _, weight in each]} for name, each in visits.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_view", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="visits that count (default: 5)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--screenshot", default="", metavar="FILE", help="keep one in FILE (PNG)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; it must be 1 or more.")
    result = run(args.repeats, args.checkpoint.resolve(), args.screenshot)
    print(table(["from opening the page to the first map", "median", "slowest", "bytes"],
                [[name, f"{statistics.median(one['seconds']):.2f} s",
                  f"{max(one['seconds']):.2f} s", f"{statistics.median(one['bytes']):,.0f}"]
                 for name, one in result["screens"].items()]))
    keep(result, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
