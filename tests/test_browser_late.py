"""In a real browser, with a slow model: what comes too late reaches no panel that has moved on."""

import re
import threading
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from browser_app import App, playwright
from fake_engine import HeldBackend

from vitdemo.engine import Engine
from vitdemo.ui.blocks import AppBlocks

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser
expect = playwright.expect

BLUE, GREEN, RED = range(3)  # places of the examples
COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def model() -> HeldBackend:
    return HeldBackend()


@pytest.fixture(scope="module")
def engine(model: HeldBackend) -> Engine:
    return Engine(model)


@pytest.fixture(autouse=True)
def fresh(model: HeldBackend, engine: Engine) -> None:
    model.calls.clear()


def said(colour: str) -> list[str]:
    return f"A {colour} picture on the left and on the right".split()


def shown(app: App, colour: str, view: str = "describe") -> None:
    """Caption, map and picture field are those of one picture, and stay so."""
    for _ in range(2):
        expect(app.page.locator(f"#{view}-view .vd-word")).to_have_text(said(colour))
        in_field(app, f"{view}-picture", colour)
        app.quiet()  # whatever comes late has come


def in_field(app: App, field: str, colour: str) -> None:
    expect(app.page.locator(f"#{field} img")).to_have_attribute("src", re.compile(colour))


def example(app: App, place: int, tab: str = "describe") -> None:
    app.page.locator(f"#{tab}-examples button").nth(place).click()


# Describe

def test_the_second_of_two_examples_has_its_own_caption(app: App, model: HeldBackend) -> None:
    with model.hold("generate"):
        example(app, RED)
        model.reached("generate")
        example(app, BLUE)
        in_field(app, "describe-picture", "blue")
        example(app, GREEN)
        in_field(app, "describe-picture", "green")
    shown(app, "green")
    words = len(said("green")) + 2  # it begins, a step for each word, the end
    assert model.calls["generate"] <= 1 + 1 + words  # the first was left after one step
    app.checked()


@pytest.mark.parametrize("call", ["explain", "weigh"])
def test_a_picture_that_is_changed_while_its_maps_are_made(app: App, model: HeldBackend,
                                                           pictures: Path, call: str) -> None:
    with model.hold(call):
        app.give("describe-picture", pictures / "red.png")
        model.reached(call)
        app.give("describe-picture", pictures / "blue.png")
        in_field(app, "describe-picture", "blue")
    shown(app, "blue")
    app.checked()


def test_a_new_instruction_is_not_passed_over(app: App, model: HeldBackend,
                                              pictures: Path) -> None:
    field = app.instruction()
    with model.hold("generate"):
        app.give("describe-picture", pictures / "red.png")
        model.reached("generate")
        field.fill("Say: one two")
        field.press("Enter")
        field.fill("Say: three four")
        with app.taken():
            app.page.click("#describe-run")
    expect(app.page.locator("#describe-view .vd-word")).to_have_text(["Three", "four"])
    app.checked()
    expect(app.page.locator("#describe-view .vd-word")).to_have_text(["Three", "four"])


def test_a_picture_that_is_taken_away_is_described_no_more(app: App, model: HeldBackend,
                                                           pictures: Path) -> None:
    with model.hold("generate"):
        app.give("describe-picture", pictures / "red.png")
        model.reached("generate")
        app.page.locator("#describe-picture [aria-label='Remove Image']").dispatch_event("click")
        hint = app.page.get_by_text("The description of your picture appears here")
        hint.wait_for()
    app.quiet()
    assert hint.is_visible() and app.page.locator("#describe-view .vd-word").count() == 0
    assert model.calls["generate"] == 1 and not model.calls["explain"]


def test_the_language_changes_and_what_is_typed_stays(app: App, pictures: Path) -> None:
    app.give("describe-picture", pictures / "red.png")
    app.words()
    field = app.instruction()
    field.fill("my own")
    app.describe_in("中文")
    app.quiet()
    expect(field).to_have_value("my own")


def test_whatever_is_done_quickly_the_last_thing_wins(app: App, pictures: Path) -> None:
    chance = np.random.default_rng(7)
    for _ in range(2):
        for _ in range(8):
            act = chance.integers(5)
            if act < 3:
                example(app, int(act))
            elif act == 3:
                app.page.locator("#describe-presets button").first.click()
            else:
                app.give("describe-picture", pictures / f"{COLOURS[chance.integers(3)]}.png")
            app.page.wait_for_timeout(int(chance.integers(120)))
        last = int(chance.integers(3))
        example(app, last)
        shown(app, COLOURS[last])
    app.checked()


# Ask

def answer(app: App, text: str) -> None:
    for _ in range(2):
        expect(app.page.locator("#ask-answers .vt-best .vt-what")).to_have_text(text)
        expect(app.page.locator("#ask-view .vd-word").last).to_have_text(text.split()[-1])
        app.quiet()


def test_the_answer_is_that_of_the_last_question(app: App, model: HeldBackend,
                                                 pictures: Path) -> None:
    app.tab("Ask")
    app.give("ask-picture", pictures / "red.png")
    app.page.wait_for_selector("#ask-picture img", state="attached")
    samples = app.page.locator("#ask-samples button")
    with model.hold("answer"):
        samples.nth(0).click()
        model.reached("answer")
        with app.taken():
            samples.nth(1).click()
        expect(app.page.locator("#ask-question textarea")).to_have_value("What colour is it?")
    answer(app, "it red")
    app.checked("ask-view")
    with model.hold("answer"):
        app.page.fill("#ask-question textarea", "what is one?")
        app.page.keyboard.press("Enter")
        model.reached("answer")
        app.page.fill("#ask-question textarea", "what is two?")
        with app.taken():
            app.page.click("#ask-run")
    answer(app, "two red")


def test_evidence_ends_with_the_question_it_is_about(app: App, model: HeldBackend,
                                                     pictures: Path) -> None:
    app.tab("Ask")
    app.give("ask-picture", pictures / "red.png")
    app.page.wait_for_selector("#ask-picture img", state="attached")
    app.page.fill("#ask-question textarea", "what is one?")
    with model.hold("weigh"):
        app.page.click("#ask-run")
        model.reached("weigh")
        app.page.fill("#ask-question textarea", "what is two?")
        with app.taken():
            app.page.keyboard.press("Enter")
    answer(app, "two red")
    app.checked("ask-view")


def test_a_picture_given_in_one_tab_moves_the_other_on(app: App, model: HeldBackend,
                                                       pictures: Path) -> None:
    app.tab("Ask")
    app.give("ask-picture", pictures / "red.png")
    app.page.wait_for_selector("#ask-picture img", state="attached")
    app.page.fill("#ask-question textarea", "what is one?")
    with model.hold("answer", "generate"):
        app.page.click("#ask-run")
        model.reached("answer")
        app.tab("Describe")
        in_field(app, "describe-picture", "red")
        app.give("describe-picture", pictures / "blue.png")
        app.tab("Ask")
        in_field(app, "ask-picture", "blue")  # long before it is described
    app.tab("Describe")
    shown(app, "blue")
    app.tab("Ask")
    expect(app.page.locator("#ask-view")).to_contain_text("Now ask something")
    assert app.page.locator("#ask-answers li").count() == 0
    assert app.page.locator("#ask-view .vd-word").count() == 0
    in_field(app, "ask-picture", "blue")


# Search

def test_hits_are_those_of_the_last_search(app: App, model: HeldBackend) -> None:
    app.tab("Search")
    words = app.page.locator("#search-words textarea")
    with model.hold("embed"):
        words.fill("red")
        words.press("Enter")
        model.reached("embed")
        words.fill("green")
        with app.taken():
            app.page.click("#search-run")
    understood = app.page.locator("#search-hits .vt-understood")
    first = app.page.locator("#search-hits .vt-name").first
    expect(understood).to_have_text("Looked for: “green”")
    expect(first).to_have_text("green.png")
    expect(app.page.locator("#search-hits .vt-match").first).to_be_visible()
    with model.hold("score"):
        words.fill("red")
        words.press("Enter")
        model.reached("score")
        words.fill("blue")
        with app.taken():
            words.press("Enter")
    expect(understood).to_have_text("Looked for: “blue”")
    expect(app.page.locator("#search-hits .vt-match").first).to_be_visible()
    app.quiet()
    expect(understood).to_have_text("Looked for: “blue”")
    expect(first).to_have_text("blue.png")


def test_maps_are_those_of_the_hit_that_was_chosen_last(app: App, model: HeldBackend) -> None:
    app.tab("Search")
    app.page.fill("#search-words textarea", "red")
    app.page.click("#search-run")
    hits = app.page.locator("#search-hits button.vt-hit")
    expect(app.page.locator("#search-hits .vt-match").first).to_be_visible()
    photo = app.page.locator("#search-view .vd-photo")
    with model.hold("explain"):
        hits.nth(0).click()
        model.reached("explain")
        before = photo.get_attribute("src")
        app.page.click("#search-sheet [data-part=later]")
        expect(photo).not_to_have_attribute("src", before or "")
        chosen = photo.get_attribute("src")
    expect(app.page.locator("#search-view .vd-word")).to_have_count(1)
    app.quiet()
    assert photo.get_attribute("src") == chosen
    app.page.keyboard.press("Escape")
    with model.hold("explain"):
        app.page.locator("#search-hits [data-act=versus]").first.click()
        model.reached("explain")
        app.page.keyboard.press("Escape")
        app.page.fill("#search-words textarea", "blue")
        app.page.keyboard.press("Enter")
        expect(app.page.locator("#search-view .vd-word")).to_have_count(0)
    expect(app.page.locator("#search-hits .vt-understood")).to_have_text("Looked for: “blue”")
    expect(app.page.locator("#search-hits .vt-match").first).to_be_visible()
    app.quiet()
    assert app.page.locator("#search-versus .vd-word").count() == 0
    assert app.page.locator("#search-view .vd-word").count() == 0


def test_uploads_are_read_for_as_long_as_they_are_to_be_searched(
        app: App, model: HeldBackend, pictures: Path) -> None:
    app.tab("Search")
    status = app.page.locator("#search-status")
    app.page.get_by_label("My own pictures").check()
    app.page.wait_for_selector("#search-files input[type=file]", state="attached")
    with model.hold("see"):
        app.give("search-files", pictures / "red.png", pictures / "green.png")
        model.reached("see")
        expect(status).to_contain_text("Read")
        app.page.get_by_label("The example photographs").check()
        expect(status).to_contain_text("that come with the app")
    app.quiet()
    expect(status).to_contain_text("that come with the app")
    assert app.page.locator("#search-cancel").is_hidden()
    app.page.get_by_label("My own pictures").check()
    app.page.fill("#search-words textarea", "red")
    app.page.keyboard.press("Enter")
    expect(app.page.locator("#search-hits [role=alert]")).to_contain_text("Choose pictures")


def test_sentences_go_with_their_picture(app: App, model: HeldBackend, pictures: Path) -> None:
    app.tab("Search")
    app.tab("Which sentence fits?")
    app.give("fits-picture", pictures / "red.png")
    app.page.fill("#fits-sentences textarea", "red one\ngreen two\nblue three")
    app.page.wait_for_selector("#fits-picture img")
    result, view = app.page.locator("#fits-result"), app.page.locator("#fits-view .vd-word")
    with model.hold("score"):
        app.page.click("#fits-run")
        model.reached("score")
        app.give("fits-picture", pictures / "blue.png")
        in_field(app, "fits-picture", "blue")
        expect(result).to_contain_text("appears here")
    app.quiet()
    expect(result).to_contain_text("appears here")
    assert view.count() == 0 and not model.calls["explain"]
    app.page.click("#fits-run")
    expect(view).to_have_text(["blue", "three"])
    app.checked("fits-view")
    with model.hold("explain"):
        result.locator("button", has_text="red one").click()
        model.reached("explain")
        result.locator("button", has_text="green two").click()
        expect(result.locator("[aria-pressed=true]")).to_contain_text("green two")
    for _ in range(2):
        expect(view).to_have_text(["green", "two"])
        expect(result.locator("[aria-pressed=true]")).to_contain_text("green two")
        app.quiet()


# Compare, Tour, and other pages

def test_a_comparison_is_that_of_the_pictures_on_screen(app: App, model: HeldBackend,
                                                        pictures: Path) -> None:
    sides = app.page.locator("#compare-view .vd-sidebox")
    with model.hold("generate"):
        app.tab("Compare")  # begins with an example by itself
        model.reached("generate")
        in_field(app, "compare-left", "blue")
        app.give("compare-left", pictures / "red.png")
        in_field(app, "compare-left", "red")
    for side in range(2):
        expect(sides.nth(side).locator(".vd-word")).to_have_text(said("red"))
    with model.hold("generate"):
        app.page.get_by_label("Two pictures").check()
        model.reached("generate")
        in_field(app, "compare-right", "blue")
        app.give("compare-right", pictures / "green.png")
        in_field(app, "compare-right", "green")
    expect(sides.nth(1).locator(".vd-word")).to_have_text(said("green"))
    expect(sides.nth(0).locator(".vd-word")).to_have_text(said("red"))
    app.page.locator("#compare-right [aria-label='Remove Image']").dispatch_event("click")
    expect(app.page.locator("#compare-view")).to_contain_text("Choose the pictures")
    expect(sides.locator(".vd-word")).to_have_count(0)


def test_the_tour_stays_where_it_was_led(app: App, model: HeldBackend) -> None:
    title, found = app.page.locator("#tour-top .vt-title"), app.page.locator("#tour-found")
    step = app.page.locator("#tour-top [aria-current=step]")
    with model.hold("generate"):  # so that no step is ready before it is wanted
        app.tab("Tour")  # begins with the first example by itself
        expect(app.page.locator("#tour-view .vd-photo")).to_be_visible()
        app.page.click("#tour-next")
        expect(found).to_contain_text("The model is at work")
        app.page.click("#tour-next")
        expect(step).to_have_attribute("data-index", "2")
        third = title.inner_text()
    expect(found.locator("table")).to_contain_text("Grey picture")
    expect(title).to_have_text(third)
    for button in ("next", "back", "back"):
        app.page.click(f"#tour-{button}")
    for _ in range(2):
        expect(step).to_have_attribute("data-index", "1")
        expect(found.locator("figure")).to_have_count(3)
        app.quiet()


def test_a_page_that_is_led_elsewhere_stops_using_the_model(app: App, model: HeldBackend,
                                                            pictures: Path,
                                                            served: AppBlocks,
                                                            address: str) -> None:
    gone = threading.Event()
    with model.hold("generate"):
        app.give("describe-picture", pictures / "red.png")
        model.reached("generate")
        # Called after the page's panels, which have said by then that nothing is wanted any more.
        served.sessions.on_leave(gr.Request(session_hash=app.session()), gone.set)
        app.page.goto(address + "?task=find&text=green")
        expect(app.page.locator("#search-words textarea")).to_have_value("green")
        app.until(gone.is_set)
    expect(app.page.locator("#search-hits .vt-understood")).to_have_text("Looked for: “green”")
    assert model.calls["generate"] == 1
