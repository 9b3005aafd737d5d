"""Models of transformers behind one interface: time and memory against plain transformers.

    python -m benchmarks.backends [--models blip,smolvlm] [--repeats 3] [--json FILE]

Each family is made in code with random weights and the shape of a published model, its words are
whole tokens (w17), and both sides have one model, one picture of 640 x 480 pixels and write the
same 20 tokens, greedily; before anything is timed words and maps of both are checked to be equal.
Two shapes are smaller than the published ones: SmolVLM is given a picture of one tile (512 x 384
pixels), and Mllama has ten layers of 1,024 channels and tiles of 336 pixels.

- *maps*: from the picture to the text with the cross-attention of every layer, head and word, or
  in one stream of text its attention to the picture; against `generate` with output_attentions=True
  under eager attention. BLIP's gives none: there it is `text_decoder.generate` and one more pass.
- *words*: picture to text alone; against `generate` with its fused attention.
- *half*: the same by ours in bf16 (`--dtype bfloat16`), where the processor multiplies in it;
  against `generate` in float32.
- *second*: another text on the same picture, against the first one, picture and text.
- *evidence*: a word's probability on masked pictures, as a map's check asks for it; against as many
  plain forward passes of the whole model over masked pictures and text.

Time is the process's own processor time, of one thread, so that others disturb it less.
Memory is what the process has at most while a way runs above what it had before, freed memory
having been given back; it is read from Linux's /proc.
"""

import argparse
import ctypes
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.caption import TOKENS, Transformers, caption, example_picture, random_blip
from benchmarks.random_models import BUILDERS
from benchmarks.timing import interleaved, keep, machine, print_tables, ratio, table
from train.adapt import multiplies_bf16
from vitdemo.attention.masking import Masker
from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.lock import DeviceLock
from vitdemo.preprocess import open_picture
from vitdemo.records import Request
from vitdemo.trials import Trials

DECODING = Decoding("greedy", max_tokens=TOKENS, min_tokens=TOKENS)
MASKED = 4  # pictures of the evidence
BARS = {"maps, time": 0.7, "maps, memory": 0.5, "words, time": 1.0, "half, time": 0.7,
        "second, time": 0.5, "evidence, time": 1.1}
RATIOS = {"maps": ("ours: maps", "theirs: maps"), "words": ("ours: words", "theirs: words"),
          "half": ("ours: words in bf16", "theirs: words"),
          "second": ("ours: second", "ours: words"),
          "evidence": ("ours: evidence", "theirs: passes")}


class Plain:
    """Plain transformers on the backend's own model and processor."""

    def __init__(self, backend: Any, picture: Image.Image, prompt: str | None, more: int) -> None:
        self.model, self.processor = backend.model, backend.processor
        self.picture, self.prompt = picture, prompt
        self.sure = {"max_new_tokens": TOKENS + more, "min_new_tokens": TOKENS + more,
                     "do_sample": False}
        (trace,) = backend.traces(backend.encode_pictures([picture])[0],
                                  Request("", "w1", "en", "caption"))
        self.columns = list(trace.regions.places)
        self.looking = [layer.name for layer in trace.layers if layer.name]
        config = self.model.config.get_text_config()
        self.layers = getattr(config, "cross_attention_layers", None)

    def inputs(self, picture: Image.Image) -> dict[str, Any]:
        """What its own processor makes of the picture and the prompt."""
        if self.prompt is None:
            return dict(self.processor.image_processor(picture, return_tensors="pt"))
        return dict(self.processor(text=[self.prompt], images=[[picture]], return_tensors="pt"))

    @torch.no_grad()
    def generate(self) -> list[int]:
        """The ids that it writes."""
        written = self.model.generate(**self.inputs(self.picture), **self.sure)
        return written[0, -TOKENS:].tolist()

    @torch.no_grad()
    def with_maps(self) -> tuple[list[int], np.ndarray]:
        """Ids, and weights (L, H, T, K) over the picture's regions."""
        self.switch("eager")
        try:
            output = self.model.generate(**self.inputs(self.picture), output_attentions=True,
                                         return_dict_in_generate=True, **self.sure)
        finally:
            self.switch("sdpa")
        crossed = output.get("cross_attentions")
        steps = output.attentions if crossed is None else crossed
        layers = range(len(steps[0])) if self.layers is None else self.layers
        weights = torch.stack([torch.stack([step[layer][0, :, -1][:, self.columns]
                                            for step in steps[-TOKENS:]], 1) for layer in layers])
        return output.sequences[0, -TOKENS:].tolist(), weights.numpy()

    def switch(self, attention: str) -> None:
        """Between fused attention and the one that hands its weights out."""
        for part in (self.model, getattr(self.model, "decoder", None)):
            if part is not None:
                part.set_attn_implementation(attention)

    @torch.no_grad()
    def passes(self, pictures: Sequence[Image.Image], ids: Sequence[int]) -> None:
        """The log-probabilities of the written ids on each picture, by one pass each."""
        written = torch.tensor([list(ids)])
        for picture in pictures:
            given = self.inputs(picture)
            if self.model.config.is_encoder_decoder:
                start = torch.tensor([[self.model.generation_config.decoder_start_token_id]])
                given["decoder_input_ids"] = torch.cat([start, written], 1)
            else:
                given["input_ids"] = torch.cat([given["input_ids"], written], 1)
                given["logits_to_keep"] = TOKENS + 1
                for name in ("attention_mask", "cross_attention_mask"):
                    if name in given:  # what was written sees all
                        last = given[name][:, -1:]
                        given[name] = torch.cat([given[name], last.expand(
                            -1, TOKENS, *last.shape[2:])], 1)
            self.model(**given).logits.float().log_softmax(-1)


class PlainBlip(Transformers):
    """See `benchmarks.caption`."""

    @torch.no_grad()
    def passes(self, pictures: Sequence[Image.Image], ids: Sequence[int]) -> None:
        """As `Plain.passes`."""
        start = self.model.config.text_config.bos_token_id
        for picture in pictures:
            pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
            self.model(pixel_values=pixels, input_ids=torch.tensor([[start, *ids]])
                       ).logits.float().log_softmax(-1)


def sides(name: str, folder: Path, picture: Image.Image) -> tuple[Any, Any, Any]:
    """Ours, ours in bf16 and theirs of a family, with one model; the second None where that gains
    nothing."""
    if name == "blip":
        random_blip(folder)
    else:
        BUILDERS[name](folder)
    backend, half = (load_backend(EngineConfig(model=str(folder), device="cpu", dtype=dtype))
                     if dtype == "float32" or multiplies_bf16() else None
                     for dtype in ("float32", "bfloat16"))
    assert backend is not None
    ours: Any = backend
    if name == "blip":
        return ours, half, PlainBlip(folder, ours.model, picture, beams=1)
    prompt = {"vit-gpt2": lambda: None, "florence2": lambda: "<DETAILED_CAPTION>",
              "smolvlm": lambda: ours.prompt("", "en", "caption").text,
              "mllama": lambda: ours.prompt("", False).text}[name]()
    # Florence-2 first writes a mark of the beginning, which ours puts there.
    return ours, half, Plain(ours, picture, prompt, more=int(name == "florence2"))


def check_equal(name: str, backend: Any, picture: Image.Image, theirs: Any) -> list[int]:
    """The ids that both write; stop where words or maps differ."""
    text, weights = caption(backend, picture, DECODING, explain=True)
    ids, want = theirs.with_maps()
    if [f"w{number}" for number in ids] != text.split() or theirs.generate() != ids:
        raise SystemExit(f"{name}: the words of ours and of transformers differ.")
    assert weights is not None
    want = want[..., 1:] if name == "blip" else want
    if weights.shape != want.shape or np.abs(weights - want).max() > 1e-4:
        raise SystemExit(f"{name}: the maps of ours and of transformers differ.")
    return ids


def with_memory(way: Callable[[], object], peaks: list[float]) -> Callable[[], object]:
    """The same, which notes by how many bytes the process grew meanwhile."""
    def run() -> object:
        before = peak()
        found = way()
        peaks.append(peak(since=before))
        return found
    return run


def peak(since: float | None = None) -> float:
    """The bytes that the process has, freed memory given back and the highest mark forgotten; with
    ``since``, how far that mark is above it."""
    if since is None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return 1024 * float(sizes["VmRSS" if since is None else "VmHWM"]) - (since or 0)


def measure(name: str, repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """One family: ratios, and seconds of every way."""
    photo = open_picture(example_picture())
    picture = photo.image
    with tempfile.TemporaryDirectory() as folder:
        backend, half, theirs = sides(name, Path(folder), picture)
    ids = check_equal(name, backend, picture, theirs)
    text = " ".join(f"w{number}" for number in ids)
    features = backend.encode_pictures([picture])[0]
    request = Request("", text, "en", "caption")
    (found,) = backend.explain(features, request)
    hidden = np.random.default_rng(0).random((MASKED, len(found.boxes))) < 0.5
    masked = list(Masker(picture, found.boxes).pictures(hidden))

    def second() -> object:
        return list(backend.generate(features, "", "en", DECODING))

    ways: dict[str, Callable[[], object]] = {
        "theirs: maps": theirs.with_maps,
        "ours: maps": lambda: caption(backend, picture, DECODING, explain=True),
        "theirs: words": theirs.generate,
        "ours: words": lambda: caption(backend, picture, DECODING, explain=False),
        "ours: second": second,
        "theirs: passes": lambda: theirs.passes(masked, ids),
        "ours: evidence": lambda: Trials(backend, DeviceLock()).probabilities(
            photo, request, found.boxes, hidden),
    }
    if half is not None:
        ways["ours: words in bf16"] = lambda: caption(half, picture, DECODING, explain=False)
    peaks: dict[str, list[float]] = {way: [] for way in ways}
    # What is checked first is warm.
    times = interleaved({way: with_memory(run, peaks[way]) for way, run in ways.items()}, repeats,
                        warmups=0, clock=time.process_time)
    ratios = {}
    for what, (ours, base) in RATIOS.items():
        if ours not in ways:
            continue
        ratios[f"{name}: {what}, time"] = ratio(times, ours, base)
        ratios[f"{name}: {what}, memory"] = statistics.median(peaks[ours]) / max(
            1.0, statistics.median(peaks[base]))
    return ratios, {f"{name}: {way}": {
        "median": timing.median, "spread": timing.spread, "all": list(timing.seconds),
        "megabytes": statistics.median(peaks[way]) / 2**20} for way, timing in times.items()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends",
                                     description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", default="blip,florence2,vit-gpt2,smolvlm,mllama",
                        help="which, joined by commas (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way (default: 3)")
    parser.add_argument("--json", metavar="FILE", default="", help="save the result as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine(), "bars": BARS, "ratios": {}, "seconds": {}}
    for name in options.models.split(","):
        ratios, seconds = measure(name, options.repeats)
        result["ratios"] |= ratios
        result["seconds"] |= seconds
    print_tables(result)
    print(table(("way", "MB"), [(way, f"{one['megabytes']:.0f}")
                                for way, one in result["seconds"].items()]))
    keep(result, options.json)


if __name__ == "__main__":
    main()
