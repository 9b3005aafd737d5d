"""Methods, evidence and requests: what the viewer shows of them and what it asks for."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from viewer_page import (
    TEXT,
    Page,
    evidence,
    explanation,
    page,
    photograph,
    random_maps,
    share,
    what_if,
)

from vitdemo import viewer
from vitdemo.attention.faithfulness import always_on
from vitdemo.attention.sanity import rank_correlation
from vitdemo.records import Candidate
from vitdemo.words import split_words

pytest_plugins = ["chromium"]  # its browser
pytestmark = pytest.mark.browser
__all__ = ["page"]  # a fixture

ONE = explanation(random_maps(layers=2, heads=2))
OTHER = explanation(random_maps(seed=5), method="rollout")

# How many lines the words take, and which marks do not stand on that of their word.
WRAPPED = """(width) => {
  const words = document.querySelector(".vd-words");
  words.style.width = `${width}px`;
  const buttons = [...words.querySelectorAll(".vd-word")];
  const boxes = buttons.map((one) => one.getBoundingClientRect());
  const apart = [];
  const walker = document.createTreeWalker(words, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest(".vd-word") || !node.data.trim()) continue;
    const range = document.createRange();
    for (let at = 0; at < node.length; at += 1) {
      if (!node.data[at].trim()) continue;
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const { top, bottom } = range.getBoundingClientRect();
      const near = "“(《".includes(node.data[at])
        ? buttons.find((one) => node.compareDocumentPosition(one) & 4)
        : buttons.findLast((one) => node.compareDocumentPosition(one) & 2);
      const box = near.getBoundingClientRect();
      if (Math.abs((top + bottom) / 2 - (box.top + box.bottom) / 2) > 8) apart.push(node.data[at]);
    }
  }
  return { lines: new Set(boxes.map((box) => Math.round(box.top))).size, apart };
}"""


def payload(**additions: Any) -> dict[str, Any]:
    return viewer.payload([ONE], photograph(), "planted", **additions)


def rivalled(**additions: Any) -> dict[str, Any]:
    """With what else could stand in place of "dog" and of "red"."""
    likely = [[("a", 0.7)], [("dog", 0.62), ("cat", 0.2), ("", 0.015)], [], [], [("red", 0.9)], []]
    one = replace(ONE, rivals=tuple(tuple(Candidate(*each) for each in row) for row in likely))
    return viewer.payload([one], photograph(), "planted", **additions)


def patch(**additions: Any) -> dict[str, Any]:
    return {"patch": viewer.patch([ONE], **additions)}


def options(page: Page, label: str) -> list[str]:
    field = page.page.get_by_label(label, exact=True)
    return list(field.locator("option").all_inner_texts())


def test_a_method_is_chosen_and_brings_its_own_layers(page: Page) -> None:
    page.mount(payload(others=[OTHER]))
    page.word("dog")
    layers = page.page.get_by_label("Layer", exact=True)
    layers.select_option(label="Step 2")
    page.page.wait_for_selector("#v[data-drawn='0:1:1:-1'][data-method='cross-attention']")
    page.page.get_by_label("Way of looking").select_option("rollout")
    page.page.wait_for_selector("#v[data-drawn='0:1:-1:-1'][data-method='rollout']")
    assert not layers.is_visible()  # it has one layer
    assert "of its attention" in page.text(".vd-summary")
    best = int(OTHER.mean_map()[1].argmax())
    found = page.page.evaluate("window.v.state()")
    assert found == {"source": "caption", "word": 1, "method": "rollout", "layer": -1, "head": -1}
    assert json.loads(page.page.get_attribute("#v", "data-chosen") or "") == found
    shown = page.page.evaluate(
        """(text) => { const look = vdUnpackText(text).looks.rollout;
        const map = vdMap(look, -1, -1, 1); return map.indexOf(Math.max(...map)); }""",
        viewer.texts([ONE], others=[OTHER])[0])
    assert shown == best
    page.page.get_by_label("Way of looking").select_option("cross-attention")
    page.page.wait_for_selector("#v[data-drawn='0:1:1:-1']")  # the layer is remembered


def test_more_ways_are_asked_for_and_arrive_without_moving_the_choice(page: Page) -> None:
    page.mount({**payload(), "id": "one",
                "methods": [["cross-attention", "Plain"], ["rollout", "Rolled"]]})
    page.word("red")
    page.page.get_by_label("Style").select_option(label="Contour lines")
    page.page.get_by_text("All ways, side by side", exact=True).click()
    page.page.wait_for_function("asked.length === 1")
    ((name, detail),) = page.asked()
    assert name == "methods" and detail["source"] == "caption" and detail["id"] == "one"
    assert not detail["method"]  # all of them
    assert page.button("Does it matter?").is_disabled()
    page.update({"id": "one", "patch_message": "Computing: rollout …", "patch_busy": True})
    assert page.text(".vd-status") == "Computing: rollout …"
    page.update({"id": "another", **patch(others=[OTHER])})  # of a result that is gone
    assert page.page.locator(".vd-methods .vd-thumb").count() < 2
    page.update({"id": "one", **patch(others=[OTHER])})
    page.page.locator(".vd-methods .vd-thumb").nth(1).wait_for()
    assert page.button("Does it matter?").is_enabled()
    assert page.page.locator(".vd-word").nth(4).get_attribute("aria-pressed") == "true"
    assert page.page.get_by_label("Style").input_value() == "contour"
    assert page.page.get_attribute("#v", "data-method") == "cross-attention"


def test_a_way_that_is_still_to_be_worked_out_can_be_chosen(page: Page) -> None:
    page.mount({**payload(), "methods": [["cross-attention", "Plain"], ["rollout", "Rolled"]]})
    page.page.get_by_label("Way of looking").select_option("rollout")
    assert page.asked()[0][1]["method"] == "rollout"
    page.update(patch(others=[OTHER]))
    page.page.wait_for_selector("#v[data-method='rollout']")


def test_a_saved_report_has_no_buttons_that_need_the_model(page: Page) -> None:
    page.mount(payload(others=[OTHER], evidence=[evidence(1)]), ask=False)
    page.word("a")
    for name in ("Check this map", "Does it matter?"):
        assert not page.button(name).is_visible()
    page.word("dog")
    assert "much more than" in page.text(".vd-badge")


def test_the_badge_and_its_numbers(page: Page) -> None:
    page.mount(payload())
    page.word("dog")
    assert not page.page.locator(".vd-badge").is_visible()
    page.button("Check this map").click()
    (asked,) = page.asked()
    assert asked[0] == "check" and asked[1]["word"] == 1
    assert asked[1]["method"] == "cross-attention"
    page.update(patch(evidence=[evidence(1), evidence(2, "chance")]))
    assert page.text(".vd-badge").startswith("✓") and "more than" in page.text(".vd-badge")
    assert not page.button("Check this map").is_visible()
    assert not page.page.locator(".vd-table").is_visible()
    page.page.get_by_text("The numbers of the verdict", exact=True).click()
    page.page.locator(".vd-table tbody tr").first.wait_for()  # made when the part is opened
    cells = page.page.locator(".vd-table tbody tr").all_inner_texts()
    assert [row.split()[-2:] for row in cells] == [["0.325", "0.575"], ["0.450", "0.450"],
                                                   ["0.410", "0.470"]]
    points = page.page.get_attribute(".vd-curve", "points") or ""
    xs, ys = np.array([pair.split(",") for pair in points.split()], float).T
    assert xs.tolist() == [40, 135, 230] and ys[0] < ys[1] < ys[2]  # falls from left to right
    level = float(page.page.get_attribute(".vd-random", "y1") or 0)
    scale = (108 - ys[0]) / 0.8  # pixels for a probability of 1
    assert level == pytest.approx(108 - 0.45 * scale, abs=0.1)  # the mean of the random orders
    page.page.get_by_label("Layer", exact=True).select_option(label="Step 1")
    assert "average of all layers and heads" in page.text(".vd-badge")
    page.word("and")
    assert page.text(".vd-badge").startswith("○")
    page.button("All words").click()
    assert not page.page.locator(".vd-badge").is_visible()
    assert not page.button("Check this map").is_visible()


def test_the_chosen_word_is_checked_unasked_once_a_person_stays_with_it(page: Page) -> None:
    page.mount({**payload(evidence=[evidence(1)]), "id": "one", "checking": True})
    assert page.text(".vd-status") == "Checking the map …"
    page.word("red")  # while the server is at the first one
    page.update({"id": "one", "patch_message": "", "patch_busy": False, "unasked": True,
                 **patch(evidence=[evidence(1)])})
    page.page.wait_for_function("asked.length === 1")
    ((name, detail),) = page.asked()
    assert name == "look" and detail["word"] == 4
    assert page.button("Does it matter?").is_enabled()  # nobody has to wait for that
    assert not page.button("Check this map").is_visible()
    page.word("dog")  # known
    page.word("red")  # asked for
    page.word("ball")
    page.page.wait_for_function("asked.length === 2")
    assert page.asked()[1][1]["word"] == 5


def test_a_result_has_few_controls_and_the_drawer_remembers(page: Page) -> None:
    page.mount({**rivalled(others=[OTHER], evidence=[evidence(1)]), "id": "one"})
    page.page.evaluate("document.querySelector('.vd-experts').open = false")
    reached = page.page.evaluate(
        """() => [...document.querySelectorAll("#v :is(button, select, input, summary)")]
        .filter((one) => one.checkVisibility() && one.tabIndex >= 0 && !one.closest(".vd-words"))
        .map((one) => one.textContent)""")
    assert reached == ["Play", "Other words it could have written", "Does it matter?", "Save",
                       "For experts"]
    assert not page.page.get_by_label("Style").is_visible()


def test_what_else_could_stand_there_is_one_click_away(page: Page) -> None:
    page.mount(rivalled())
    page.word("dog")
    assert not page.page.locator(".vd-rivals ol").is_visible()
    page.page.get_by_text("Other words it could have written").click()
    assert " ".join(page.text(".vd-rivals ol").split()) == "dog 62% cat 20% (the end) 1.5%"
    page.word("red")  # it stays open
    assert page.text(".vd-rivals ol").split() == ["red", "90%"]
    page.button("All words").click()
    assert not page.page.locator(".vd-rivals ol").is_visible()
    page.update(payload())  # of a model that has none
    page.word("dog")
    assert not page.page.locator(".vd-rivals ol").is_visible()


@pytest.mark.parametrize("verdict", ["strong", "some", "chance", "worse", "language"])
def test_every_verdict_is_told_by_words_and_a_sign(page: Page, verdict: str) -> None:
    page.mount(payload(evidence=[evidence(1, verdict)]))
    page.word("dog")
    sign, words = page.text(".vd-badge").split("\n", 1)
    assert len(sign.strip()) == 1 and len(words.split()) > 4


def test_does_it_matter(page: Page) -> None:
    page.mount(payload())
    page.word("dog")
    page.button("Does it matter?").click()
    assert page.asked()[0][0] == "matter" and page.asked()[0][1]["word"] == 1
    page.update(patch(matter=what_if(1)))
    result = page.text(".vd-matter")
    assert "a cat" in result and TEXT in result
    assert "80% → 20%" in result and "80% → 75%" in result and "It matters" in result
    (hidden,) = page.paths("hidden")
    sides = hidden.count("M")
    assert sides == 6  # two cells side by side: the border between them is not drawn
    assert page.paths("random")
    page.word("and")
    assert not page.paths("hidden") and not page.page.locator(".vd-matter").is_visible()


def test_an_error_is_a_sentence_beside_the_buttons(page: Page) -> None:
    page.mount(payload())
    page.word("dog")
    page.button("Check this map").click()
    page.update({"patch_message": "This result is no longer on the screen."})
    assert page.text(".vd-status") == "This result is no longer on the screen."
    assert page.button("Check this map").is_enabled()
    page.update({"patch": [{"source": "caption", "text": "another text", "evidence": {
        "cross-attention": [{"verdict": "strong", "sentence": "Wrong."}] * 6}}]})
    assert not page.page.locator(".vd-badge").is_visible()  # it was of another text


def test_words_said_anyway_are_marked(page: Page) -> None:
    page.mount(payload(shares=[share(anyway=(0, 3))]))
    marked = page.page.locator(".vd-word.vd-anyway")
    assert marked.all_inner_texts() == ["a", "a"]
    assert "without the picture" in (marked.first.get_attribute("title") or "")
    assert "small ring" in page.text(".vd-hint")
    page.button("All words").click()
    assert page.text(".vd-share") == (
        "Words the model would have said without the picture: “a”, “a”.")
    page.word("dog")
    assert "90% with the picture" in page.text(".vd-share")


def test_regions_that_are_always_hot_can_be_hidden(page: Page) -> None:
    maps = random_maps()[0, 0]
    maps[:, 3] = 0.5
    one = explanation(maps)
    assert always_on(one) == (3,)
    page.mount(viewer.payload([one], photograph()))
    page.word("dog")
    assert page.text(".vd-always").startswith("1 region (in the upper right) is hot for every word")
    assert "in the upper right" in page.text(".vd-summary")
    page.page.get_by_label("Hide the regions that are hot for every word").check()
    assert page.text(".vd-always").startswith("Hidden: 1 region")
    assert "of the rest" in page.text(".vd-always")
    assert "the rest of its attention" in page.text(".vd-summary")
    assert page.paths("always") == ["M120 0L160 0M120 40L160 40M120 0L120 40M160 0L160 40"]
    rest = maps[1].copy()
    rest[3] = 0
    shares = page.page.evaluate(
        """(text) => { const look = vdUnpackText(text).looks[text.method];
        const { weights } = vdReduce(look, -1, -1, true);
        return vdBoxShares(look, weights, [0, 0, 80, 120]).shares; }""",
        viewer.texts([one])[0])
    left = np.isin(np.arange(12) % 4, (0, 1))
    assert shares[1] == pytest.approx(rest[left].sum() / rest.sum(), abs=1e-3)


def test_methods_side_by_side_agree_as_python_says(page: Page) -> None:
    page.mount(payload(others=[OTHER]))
    page.word("dog")
    page.page.get_by_text("All ways, side by side", exact=True).click()
    thumbs = page.page.locator(".vd-methods .vd-thumb")
    thumbs.nth(1).wait_for()
    value = float(rank_correlation(ONE.mean_map(), OTHER.mean_map())[1])
    assert f"{value:.2f}" in thumbs.nth(1).inner_text()
    assert "chosen" in thumbs.nth(0).inner_text()
    thumbs.nth(0).focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("#v[data-method='rollout']")


def test_ranks_share_ties_and_flat_maps_agree_with_nothing(page: Page) -> None:
    ranks = page.page.evaluate("Array.from(vdRanks([3, 1, 3, 2]))")
    assert ranks == [2.5, 0, 2.5, 1]
    assert page.page.evaluate("vdSpearman([1, 1, 1], [1, 2, 3])") == 0
    assert page.page.evaluate("vdSpearman([1, 5, 9], [9, 2, 1])") == pytest.approx(-1)


def test_a_method_that_shows_no_attention_does_not_speak_of_it(page: Page) -> None:
    covered = explanation(random_maps(), method="occlusion")
    page.mount(viewer.payload([covered], photograph()))
    page.word("dog")
    assert page.text(".vd-summary").startswith("For “dog” the map is strongest")
    assert "of the map" in page.text(".vd-readout")
    page.button("Draw a box").click()
    assert "of the map for" in page.page.locator(".vd-shares li").first.inner_text()
    assert "attention" not in page.text(".vd-summary") + page.text(".vd-shares")


@pytest.mark.parametrize("text", ["a “dog” and, (a) red ball.", "一只“狗”，在《草地》上跑。"])
def test_a_mark_stays_on_the_line_of_its_word(page: Page, text: str) -> None:
    one = viewer.dress(replace(ONE, text=text, words=split_words(text),
                               weights=ONE.weights[:, :, :1].repeat(len(split_words(text)), 2),
                               word_probabilities=(), rivals=(), unread=()), text)
    page.mount(viewer.payload([one], photograph(), "planted"))
    assert page.page.locator(".vd-words").first.inner_text() == text
    assert any(page.page.evaluate(WRAPPED, width)["lines"] > 1 for width in range(90, 200, 10))
    for width in range(90, 300, 3):
        assert not page.page.evaluate(WRAPPED, width)["apart"], width
