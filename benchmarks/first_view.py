"""From opening the page to the first map on screen, in Chromium, and what the page weighs.

    python -m benchmarks.first_view [--repeats 5] [--json FILE]

The app runs as a person runs it, `python app.py`, with the demo's model. Each visit is another
visitor's, with nothing cached, after one that is not counted: the server has made its opening
result by then, as it has for all but the first visitor after a start. The clock is the page's own:
it starts with the request for the page and stops in the second frame after the map is drawn. Bytes
are those that came over the network, compressed as they were sent.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.first_result import chromium
from benchmarks.start import ROOT, free_port, settings, stop, wait_for
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


def measure(address: str, repeats: int) -> dict[str, list[tuple[float, int]]]:
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
        browser.close()
    return visits


def run(repeats: int, checkpoint: Path) -> dict[str, Any]:
    """The whole benchmark."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile() as said:
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--model", str(checkpoint), "--device",
             "cpu"], cwd=ROOT, env=settings(), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT)
        try:
            wait_for(address, app, time.perf_counter())
            visits = measure(address, repeats)
        finally:
            stop(app)
    return {"machine": machine(), "screens": {
        name: {"seconds": [seconds for seconds, _ in each],
               "bytes": [weight for _, weight in each]} for name, each in visits.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_view", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="visits that count (default: 5)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; it must be 1 or more.")
    result = run(args.repeats, args.checkpoint.resolve())
    print(table(["from opening the page to the first map", "median", "slowest", "bytes"],
                [[name, f"{statistics.median(one['seconds']):.2f} s",
                  f"{max(one['seconds']):.2f} s", f"{statistics.median(one['bytes']):,.0f}"]
                 for name, one in result["screens"].items()]))
    keep(result, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
