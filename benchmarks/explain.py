"""What explanations cost: evidence for a word, maps of all words, and changing word in the browser.

    python -m benchmarks.explain [--checkpoint DIR] [--repeats 5] [--json FILE] [--no-browser]

- *one word's evidence* (deletion, insertion, ten random orders, an order by the distance from the
  centre), on a picture seen for the first time, against one plain forward pass over as many masked
  pictures: the picture encoder on one batch of them, then the decoder teacher-forced over the
  caption. The masked pictures are ready made for that pass, while the evidence has to make them.
- *maps of all words*: picture to caption with maps against picture to caption alone, for each
  method but occlusion, with the app's own settings and with greedy search.
- *changing word*: in Chromium, on a page with no server, from the click on a word until its map is
  drawn on the canvas, and until the frame that shows it is done; without the gliding from map to
  map (as for readers who asked their system for less motion); once with made-up maps of 4 layers x
  8 heads x 15 words x 81 regions and once with the model's own. "Work" is the processor time of
  the page's main thread for one change, all told; it holds on a busy machine too.
"""

import argparse
import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.caption import SHIPPED, example_picture
from benchmarks.timing import interleaved, keep, machine, print_tables, ratio, table
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import Picture, grid_boxes, normalisation, open_picture, to_pixels
from vitdemo.records import Caption, Explanation, Request
from vitdemo.words import split_words

TARGETS = {"evidence": 1.3, "maps": 1.15, "milliseconds": 16.0}
GREEDY = Decoding("greedy", beams=1)
SLOW = "occlusion"
SHAPE = (4, 8, 15, 81)  # of the made-up maps: layers, heads, words, regions
_SENTENCE = "a man with a dog stands on the grass"
QUICK = 4  # turns of what takes less than a second or so, for one of the others
ROUNDS = 4  # times that every word is chosen


def masked_pictures(backend: Any, picture: Picture, caption: Caption,
                    word: int) -> list[Image.Image]:
    """The masked pictures that one word's evidence puts through the model."""
    seen: list[Image.Image] = []
    encode = backend.encode_pictures

    def watched(pictures: Sequence[Image.Image]) -> Any:
        seen.extend(pictures)
        return encode(pictures)

    backend.encode_pictures = watched
    try:
        Engine(backend).evidence(picture, caption, words=[word])
    finally:
        del backend.encode_pictures  # the class's own again
    return [one for one in seen if one is not picture.image]


def plain_pass(backend: Any, pictures: Sequence[Image.Image],
               caption: Caption) -> Callable[[], object]:
    """One batch of pictures through our own model: encoder, fusion, decoder over the caption."""
    model, tokenizer = backend.model, backend.tokenizer
    row = [tokenizer.language_start[caption.language], *tokenizer.pieces(caption.raw_text)[0]]
    inputs = torch.tensor([row], device=backend.device)
    ids, mask = (one.to(backend.device) for one in tokenizer.encode([caption.instruction]))

    @torch.inference_mode()
    def run() -> object:
        config, count = model.config, len(pictures)
        pixels = to_pixels(pictures, config.picture_size, *normalisation(config.backbone))
        features = model.vision.features(pixels.to(backend.device, backend.dtype))
        words, z = model.encode_text(ids, mask)
        memory = model.fuse(model.vision.tokens(features), words.expand(count, -1, -1),
                            mask.expand(count, -1), z.expand(count, -1))
        return model.decoder(inputs.expand(count, -1), memory).float().log_softmax(-1)

    return run


def said_of(backend: Any, picture: Picture) -> Caption:
    """What the model says of the picture, or, where that is hardly a word, a sentence of ours."""
    found = Engine(backend).caption(picture)
    if len(split_words(found.raw_text)) > 1:
        return found
    return replace(found, text=_SENTENCE, raw_text=_SENTENCE)


def ways_of(backend: Any, picture: Picture,
            caption: Caption) -> tuple[dict[str, Callable[[], object]], int]:
    """Everything that is timed in this process, by name, and the number of masked pictures. Each
    time a fresh engine, so that nothing is known of the picture. The evidence is for the longest
    word; which one does not matter."""
    words = split_words(caption.raw_text)
    word = max(range(len(words)), key=lambda place: len(words[place].text))
    masked = masked_pictures(backend, picture, caption, word)
    request = Request(caption.instruction, caption.raw_text, caption.language, "caption")

    def in_batches() -> object:
        return backend.word_probabilities(backend.encode_pictures(masked), request)

    def described(decoding: Decoding, method: str | None) -> Callable[[], object]:
        def run() -> object:
            engine = Engine(backend)
            found = engine.caption(picture, decoding=decoding)
            return found if method is None else engine.explain(picture, found, method)
        return run

    ways: dict[str, Callable[[], object]] = {
        "evidence for one word": lambda: Engine(backend).evidence(picture, caption, words=[word]),
        "plain pass": plain_pass(backend, masked, caption), "same pass, in batches": in_batches}
    for name, decoding in (("", Decoding()), (", greedy", GREEDY)):
        ways[f"caption{name}"] = described(decoding, None)
        for method in Engine(backend).methods:
            if method != SLOW and (not name or method == backend.info.methods[0]):
                ways[f"caption with {method}{name}"] = described(decoding, method)
    return ways, len(masked)


def made_up_maps(picture: Picture) -> Explanation:
    """Random maps of `SHAPE`."""
    layers, _, count, regions = SHAPE
    weights = np.random.default_rng(0).random(SHAPE, dtype=np.float32) ** 4
    text = " ".join(f"word{number}" for number in range(count))
    side = round(regions ** 0.5)
    return Explanation(text, "caption", split_words(text),
                       weights / weights.sum(-1, keepdims=True),
                       grid_boxes((side, side), picture.image.size), (side, side),
                       picture.image.size, "cross-attention",
                       tuple(f"layer {number + 1}" for number in range(layers)))


# In the page: click on each word in turn; milliseconds until its map is drawn, and until the frame
# that shows it is done.
_CLICK = """async (rounds) => {
  const buttons = [...document.querySelectorAll("#v .vd-word")];
  const times = [];
  for (let i = 0; i < rounds * buttons.length; i++) {
    const word = i % buttons.length;
    times.push(await new Promise((done) => requestAnimationFrame(() => {
      const start = performance.now();
      buttons[word].click();
      const found = document.querySelector("#v").dataset.drawn;
      if (found !== `0:${word}:-1:-1`) throw new Error(`word ${word} was not drawn: ${found}`);
      const drawn = performance.now() - start;
      const after = new MessageChannel();  // its turn comes when this frame has been painted
      after.port1.onmessage = () => done([drawn, performance.now() - start]);
      after.port2.postMessage(0);
    })));
  }
  return times;
}"""


def chromium() -> str:
    """Where Chromium is, "" where there is none; the variable CHROMIUM may name one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), "")


def change_of_word(explanations: dict[str, Explanation], picture: Picture,
                   rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Milliseconds from a click on a word, by name of the maps: "drawn" is until its map is on the
    canvas, "shown" until the frame is done, each with the median and the "_max" over all clicks
    after a round that warms up; "first" is the very first map drawn; "work" is the processor time
    of the page's main thread for one change, scripts, styles, layout and painting together."""
    from playwright.sync_api import sync_playwright

    from vitdemo import viewer

    found = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(),
                                         args=["--no-sandbox", "--disable-gpu"])
        for name, explanation in explanations.items():
            context = browser.new_context(viewport={"width": 1280, "height": 900},
                                          reduced_motion="reduce", offline=True)
            page = context.new_page()
            page.set_content(f"<style>{viewer.styles()}</style><div id=v class=vd-viewer></div>")
            page.add_script_tag(content=viewer.script())
            page.evaluate("(payload) => mountViewer(document.querySelector('#v'), payload)",
                          viewer.payload([explanation], picture))
            page.wait_for_selector("#v[data-drawn]")
            warm = page.evaluate(_CLICK, 1)
            tools = context.new_cdp_session(page)
            tools.send("Performance.enable", {"timeDomain": "threadTicks"})
            before = _busy(tools)
            drawn, shown = zip(*page.evaluate(_CLICK, rounds), strict=True)
            work = 1000 * (_busy(tools) - before) / len(drawn)
            found[name] = {"drawn": round(statistics.median(drawn), 2),
                           "drawn_max": round(max(drawn), 2),
                           "shown": round(statistics.median(shown), 2),
                           "shown_max": round(max(shown), 2), "first": round(warm[0][0], 2),
                           "work": round(work, 2), "clicks": len(drawn)}
            context.close()
        browser.close()
    return found


def _busy(tools: Any) -> float:
    """Seconds of processor time that the page's main thread has used."""
    found = tools.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in found if one["name"] == "TaskDuration")


def measure(checkpoint: str, repeats: int, browser: bool, device: str = "cpu") -> dict[str, Any]:
    """Run everything: ratios, seconds, and milliseconds in the browser."""
    from vitdemo.backends.registry import load_backend

    ran_on = machine()
    backend: Any = load_backend(EngineConfig(model=checkpoint, device=device))
    if backend.info.family != "native":
        raise SystemExit("The plain pass is that of our own model; give one of its checkpoints.")
    picture = open_picture(example_picture())
    engine = Engine(backend)
    methods = [name for name in engine.methods if name != SLOW]
    caption = said_of(backend, picture)
    ways, masked = ways_of(backend, picture, caption)
    quick = {name: way for name, way in ways.items() if name.startswith("caption")}
    times = interleaved({name: way for name, way in ways.items() if name not in quick}, repeats)
    times |= interleaved(quick, QUICK * repeats)
    pairs = [("evidence for one word", "plain pass"),
             ("evidence for one word", "same pass, in batches"),
             *((f"caption with {method}", "caption") for method in methods),
             (f"caption with {methods[0]}, greedy", "caption, greedy")]
    result = {"benchmark": "explain", "repeats": repeats, "masked_pictures": masked,
              "model": backend.info.name, "default_method": methods[0], "machine": ran_on,
              "targets": TARGETS,
              "ratios": {f"{a} / {b}": round(ratio(times, a, b), 3) for a, b in pairs},
              "seconds": {name: {"median": round(time.median, 4), "spread": round(time.spread, 3)}
                          for name, time in times.items()}}
    if browser:
        (own,) = engine.explain(picture, caption, methods[0])
        result["milliseconds"] = change_of_word(
            {" x ".join(map(str, SHAPE)): made_up_maps(picture), backend.info.name: own}, picture)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", default=SHIPPED, metavar="DIR", help=(
        f"a checkpoint of our own model (default {SHIPPED})"))
    parser.add_argument("--repeats", type=int, default=5, help="turns that count (default 5)")
    parser.add_argument("--no-browser", action="store_true", help="leave Chromium out")
    parser.add_argument("--json", default="", help="write the result to this file")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error("--repeats must be 1 or more")
    if not given.no_browser and not chromium():
        parser.error("no Chromium was found; install one, name it in the variable CHROMIUM, or "
                     "give --no-browser")
    result = measure(given.checkpoint, given.repeats, not given.no_browser)
    print(f"{result['model']}, {result['masked_pictures']} masked pictures, median of "
          f"{given.repeats}; {result['machine']}\n")
    print_tables(result)
    if "milliseconds" in result:
        keys = ("drawn", "drawn_max", "shown", "shown_max", "first", "work")
        print("\n" + table(("change of word, ms", *(key.replace("_", ", ") for key in keys)),
                           [(name, *(f"{of[key]:.1f}" for key in keys))
                            for name, of in result["milliseconds"].items()]))
    keep(result, given.json)


if __name__ == "__main__":
    main()
