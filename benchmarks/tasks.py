"""Twenty tasks of a visitor in Chromium: clicks and seconds, as docs/decisions.md lists them.

    python -m benchmarks.tasks [--json FILE]

The app runs as a person runs it, `python app.py`, with the demo's model. Each task is another
visitor's, on a screen of 1280 x 800. Those of the page's first sight are timed from the request for
the page; the others from their first click until what was wanted is on the screen. Clicks are
counted where the script makes them; typing, choosing in the file dialogue and what the browser
itself asks are not. The others begin when the first map is on the screen.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.first_result import chromium
from benchmarks.start import ROOT, running_app
from benchmarks.timing import keep, machine, table

DRAWN = ".vd-viewer[data-drawn]:not([data-drawn=''])"
LONGEST = 900_000  # milliseconds that anything may take
# Whether all of some parts is on the screen.
IN_SIGHT = """(parts) => parts.every((part) => {
  const { top, bottom } = document.querySelector(part).getBoundingClientRect();
  return top >= 0 && bottom <= window.innerHeight;
})"""


class Visitor:
    """One visitor's page, with the clicks since the clock was started."""

    def __init__(self, browser: Any, address: str, locale: str) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, locale=locale)
        self.page = self.context.new_page()
        self.page.set_default_timeout(LONGEST)
        self.begin()
        self.page.goto(address, wait_until="commit")

    def begin(self) -> None:
        """Start the clock and the count."""
        self.clicks, self.start = 0, time.perf_counter()

    def click(self, what: str) -> None:
        """Click what a selector finds first of what is seen."""
        self.page.locator(what).locator("visible=true").first.click()
        self.clicks += 1

    def sees(self, what: str) -> None:
        """Wait until it is on the screen."""
        self.page.locator(what).locator("visible=true").first.wait_for()

    def type(self, field: str, text: str) -> None:
        self.page.fill(f"{field} textarea", text)

    def described_anew(self, act: Callable[[], object]) -> None:
        """An act, and the result that it brings."""
        self.page.evaluate("""() => { document.querySelector("#describe-view .vd-texts")
          .firstElementChild.dataset.before = "1"; }""")
        act()
        self.page.wait_for_function("""() => {
          const view = document.querySelector("#describe-view .vd-viewer");
          return view.dataset.drawn && !view.querySelector("[data-before]"); }""")


def own_photograph(visitor: Visitor) -> None:
    def choose() -> None:
        with visitor.page.expect_file_chooser() as chooser:
            visitor.click("#describe-view .vd-taking button")
        chooser.value.set_files(ROOT / "examples" / "taxis.jpg")

    visitor.described_anew(choose)


def own_instruction(visitor: Visitor) -> None:
    visitor.click("#describe-presets [data-index=other]")
    visitor.type("#describe-instruction", "What is in the sky?")
    visitor.described_anew(lambda: visitor.click("#describe-run"))


def other_method(visitor: Visitor) -> None:
    visitor.click("#describe-view .vd-experts > summary")
    visitor.page.locator("#describe-view .vd-looks select").first.select_option("rollout")
    visitor.clicks += 1
    visitor.sees("#describe-view .vd-viewer[data-method=rollout]")


def other_word(visitor: Visitor) -> None:
    visitor.click("#describe-view .vd-word[aria-pressed=false]")
    visitor.sees(f"#describe-view {DRAWN}")


def first_answer(visitor: Visitor) -> None:
    visitor.click("role=tab[name='Ask']")
    visitor.click("#ask-samples button >> nth=1")
    visitor.sees("#ask-answers .vt-best")
    visitor.sees(f"#ask-view {DRAWN}")


def next_question(visitor: Visitor) -> None:
    first_answer(visitor)
    visitor.begin()
    assert visitor.page.evaluate(IN_SIGHT, ["#ask-answers", "#ask-question", "#ask-view .vd-stage"])
    visitor.type("#ask-question", "What animal is this?")


def search(visitor: Visitor, words: str = "yellow cars") -> None:
    visitor.click("role=tab[name='Search']")
    visitor.type("#search-words", words)
    visitor.click("#search-run")
    visitor.sees("#search-hits .vt-hit img")


def nothing_fits(visitor: Visitor) -> None:
    search(visitor, "a giraffe")
    visitor.begin()
    visitor.sees("#search-note strong")


def comparison(visitor: Visitor) -> None:
    visitor.click("role=tab[name='Compare']")
    visitor.sees("#compare-view .vd-difference")


def report(visitor: Visitor) -> None:
    visitor.click("#describe-view .vd-actions button:has-text('Save')")
    with visitor.page.expect_download() as made:
        visitor.click("#describe-keep-html")
    assert made.value.path()


def link(visitor: Visitor) -> None:
    visitor.click("#describe-view .vd-actions button:has-text('Save')")
    visitor.click("#describe-view button:has-text('Copy a link')")
    visitor.sees("text=copied")


def tour(visitor: Visitor) -> None:
    visitor.click(".vt-invitation [value=take]")
    visitor.sees(f"#tour-view {DRAWN}")


# By the words of the table: what is to be seen at first, for the tasks that need nothing else, in
# the visitor's language.
SIGHTS = {
    "see a first map": ("en-US", f"#describe-view {DRAWN}"),
    "see one word's own map, not all words on one scale":
        ("en-US", f"#describe-view {DRAWN} .vd-word[aria-pressed=true]"),
    "know whether that map matters": ("en-US", "#describe-view .vd-badge"),
    "know how sure the caption is": ("en-US", "#describe-view .vd-sure"),
    "the page in Chinese, for a Chinese browser": ("zh-CN", "role=tab[name='描述']"),
    "a description in Chinese, for a Chinese browser":
        ("zh-CN", "#describe-view .vd-words[lang=zh] .vd-word"),
}
ACTS: dict[str, Callable[[Visitor], None]] = {
    "another word's map": other_word,
    "a photograph of one's own, described": own_photograph,
    "another example": lambda visitor: visitor.described_anew(
        lambda: visitor.click("#describe-examples button >> nth=1")),
    "a short description, or the names of the things": lambda visitor: visitor.described_anew(
        lambda: visitor.click("#describe-presets button >> nth=2")),
    "an instruction of one's own": own_instruction,
    "another way to make the map": other_method,
    "a first answer, to one of the questions offered": first_answer,
    "see the answer and its rivals, then type the next question": next_question,
    "a teacher's comparison on one picture": comparison,
    "find a photograph by words": search,
    "learn that nothing fits": nothing_fits,
    "save a report": report,
    "copy a link to a view": link,
    "take the tour": tour,
}


def measure(address: str) -> dict[str, dict[str, float]]:
    """Clicks and seconds of each task."""
    from playwright.sync_api import sync_playwright

    found: dict[str, dict[str, float]] = {}

    def done(name: str, visitor: Visitor) -> None:
        found[name] = {"clicks": visitor.clicks, "seconds": time.perf_counter() - visitor.start}
        visitor.context.close()
        print(f"{name}: {visitor.clicks}, {found[name]['seconds']:.1f} s", file=sys.stderr,
              flush=True)

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        first = Visitor(browser, address, "en-US")
        first.sees(f"#describe-view {DRAWN}")  # the server makes it for the first visitor
        first.context.close()
        for name, (locale, sight) in SIGHTS.items():
            visitor = Visitor(browser, address, locale)
            visitor.sees(sight)
            done(name, visitor)
        for name, act in ACTS.items():
            visitor = Visitor(browser, address, "en-US")
            visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
            visitor.sees(f"#describe-view {DRAWN}")
            visitor.begin()
            act(visitor)
            done(name, visitor)
        browser.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    with running_app(args.checkpoint.resolve()) as address:
        tasks = measure(address)
    print(table(["task", "clicks", "seconds"], [[name, f"{one['clicks']}", f"{one['seconds']:.1f}"]
                                                for name, one in tasks.items()]))
    keep({"machine": machine(), "tasks": tasks}, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
