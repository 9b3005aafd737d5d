"""From picture to caption with maps for every word: ours against plain transformers.

    python -m benchmarks.caption [--repeats 7] [--json FILE] [--model CHECKPOINT] [--beams 1]

Both sides have the same BLIP weights (the BLIP-base shape, random) and write the same 20 tokens
from the same picture; before anything is timed the words and the maps of both are checked to be
equal. transformers' `generate` returns no cross-attention for BLIP. Its own fastest way is to run
the vision encoder once, `text_decoder.generate` on its states, and then one pass of
`text_decoder` over the finished text with output_attentions=True. The last row is what a
programmer can do by hand: PyTorch hooks on the cross-attention layers while it generates.

What recording costs is told in two ways, for BLIP and for our own model: the caption with maps
against the caption alone, and the one teacher-forced pass with recording on against off.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.timing import interleaved, keep, machine, print_tables, ratio
from vitdemo.attention.capture import record
from vitdemo.attention.trace import Rows
from vitdemo.backends.base import Backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.device import pick
from vitdemo.records import Request

TOKENS = 20
SHIPPED = "checkpoints/vitdemo-small"


def example_picture() -> Image.Image:
    """A smooth picture of 640 x 480 pixels; time does not depend on what it shows."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)


def random_blip(folder: Path) -> Any:
    """A captioning checkpoint of the BLIP-base shape with random weights, saved and loaded."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    from vitdemo.backends.blip import BlipBackend
    from vitdemo.backends.hub import load_checkpoint

    torch.manual_seed(0)
    # The published BLIP-base has 12 text heads; the default start of its vision weights, 1e-10,
    # would leave every state at zero.
    config = BlipConfig(text_config={"num_attention_heads": 12},
                        vision_config={"initializer_range": 0.02})
    model = BlipForConditionalGeneration(config)
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    tokens = [special.get(i, f"w{i}") for i in range(30522)]
    bias = model.text_decoder.cls.predictions.decoder.bias.data
    bias[[0, 100, 101, 103, 30522, 30523]] = -100.0  # so that its text reads back as the same ids
    model.save_pretrained(folder)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    BlipProcessor(BlipImageProcessor(), BertTokenizer(vocab=vocabulary)).save_pretrained(folder)
    return load_checkpoint(str(folder), pick("cpu"), BlipBackend.family)


class Transformers:
    """Plain transformers on the checkpoint's model and processor."""

    def __init__(self, folder: Path, model: Any, picture: Image.Image, beams: int) -> None:
        from transformers import BlipProcessor

        self.model = model
        self.picture = picture
        self.processor = BlipProcessor.from_pretrained(folder)
        self.sure = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False,
                     "num_beams": beams}

    def _pixels(self) -> Tensor:
        return self.processor(images=self.picture, return_tensors="pt")["pixel_values"]

    def generate(self) -> list[int]:
        """Its `generate` alone: the caption's ids, the start left out."""
        return self.model.generate(pixel_values=self._pixels(), **self.sure)[0, 1:].tolist()

    @torch.no_grad()
    def _generate_from(self, states: Tensor) -> Tensor:
        text = self.model.config.text_config
        return self.model.text_decoder.generate(
            input_ids=torch.tensor([[text.bos_token_id]]), eos_token_id=text.sep_token_id,
            pad_token_id=text.pad_token_id, encoder_hidden_states=states, **self.sure)

    @torch.no_grad()
    def with_maps(self) -> tuple[list[int], np.ndarray]:
        """Ids and weights (L, H, T, N) with nothing but transformers."""
        states = self.model.vision_model(pixel_values=self._pixels()).last_hidden_state
        written = self._generate_from(states)
        output = self.model.text_decoder(input_ids=written[:, :-1], encoder_hidden_states=states,
                                         output_attentions=True)
        return written[0, 1:].tolist(), torch.stack(output.cross_attentions)[:, 0].numpy()

    @torch.no_grad()
    def with_hooks(self) -> tuple[list[int], np.ndarray]:
        """The same with hand-made hooks while it generates (one beam only)."""
        layers = self.model.text_decoder.bert.encoder.layer
        seen: list[list[Tensor]] = [[] for _ in layers]
        handles = [layer.crossattention.self.register_forward_hook(
            lambda _module, _args, output, store=store: store.append(output[1]))
            for layer, store in zip(layers, seen, strict=True)]
        try:
            states = self.model.vision_model(pixel_values=self._pixels()).last_hidden_state
            written = self._generate_from(states)
        finally:
            for handle in handles:
                handle.remove()
        weights = torch.stack([torch.cat(store, dim=2) for store in seen])[:, 0]
        return written[0, 1:].tolist(), weights.numpy()


def random_native() -> Backend:
    """Our own model, small, with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from vitdemo.backends.native import NativeBackend
    from vitdemo.config import ModelConfig
    from vitdemo.models.vlm import VLM
    from vitdemo.tokens import SPECIAL, UNKNOWN, TextTokenizer

    config = ModelConfig.from_size("small")
    tokens = [*SPECIAL, *(f"w{i}" for i in range(config.vocabulary - len(SPECIAL)))]
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)},
                                      unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(SPECIAL))
    torch.manual_seed(0)
    return NativeBackend(VLM(config).eval(), TextTokenizer(made, config.max_text_tokens),
                         name="random small", revision="random", placement=pick("cpu"))


def caption(backend: Backend, picture: Image.Image, decoding: Decoding,
            explain: bool) -> tuple[str, np.ndarray | None]:
    """Picture to finished caption, and to the maps (L, H, Q, K) of all its words."""
    features = backend.encode_pictures([picture])[0]
    *_, step = backend.generate(features, "", "en", decoding)
    if not explain:
        return step.text, None
    (found,) = backend.explain(features, Request("", step.text, "en", "caption"))
    return step.text, found.weights


def teacher_forced(backend: Any, picture: Image.Image) -> tuple[Callable[[], object], ...]:
    """The teacher-forced pass over 20 tokens: recording off, and on."""
    features = backend.encode_pictures([picture])[0]
    (trace,) = backend.traces(features, Request("", "", "en", "caption"))
    trace = dataclasses.replace(trace, written_ids=tuple(range(1000, 1001 + TOKENS)))
    modules = [trace.layers[number].module for number in trace.looking]

    @torch.no_grad()
    def off() -> Tensor:
        return trace.run(Rows(), trace.everything)

    @torch.no_grad()
    def on() -> Tensor:
        with record(modules) as looks:
            trace.run(Rows(), trace.everything)
        return torch.stack(looks.weights)

    return off, on


def check_equal(backend: Any, picture: Image.Image, decoding: Decoding,
                sides: Sequence[Callable[[], tuple[list[int], np.ndarray]]]) -> None:
    """Stop where ours and transformers do not give the same words and the same maps."""
    text, weights = caption(backend, picture, decoding, explain=True)
    for side in sides:
        ids, want = side()
        if backend.encode(text)[0] != ids or len(ids) != TOKENS:
            raise SystemExit("The words of ours and of transformers differ; nothing was timed.")
        worst = float(np.abs(weights - want[..., 1:]).max())
        if worst > 1e-5:
            raise SystemExit(f"The maps differ by up to {worst:.1e}; nothing was timed.")


def measure(repeats: int, model: str, beams: int) -> dict[str, Any]:
    """Run everything in one interleaved run; seconds and ratios by name."""
    from vitdemo.backends.blip import BlipBackend
    from vitdemo.backends.registry import load_backend

    ran_on = machine()  # now, while the load is that of others
    picture = example_picture()
    decoding = Decoding("greedy" if beams == 1 else "beam", beams=beams, length_penalty=1.0,
                        max_tokens=TOKENS, min_tokens=TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_blip(Path(folder))
        theirs = Transformers(Path(folder), checkpoint.model, picture, beams)
    blip = BlipBackend(checkpoint)
    native = load_backend(EngineConfig(model=model, device="cpu")) if model else random_native()
    ways: dict[str, Callable[[], object]] = {
        "transformers, generate alone": theirs.generate,
        "transformers, with maps": theirs.with_maps,
        "transformers, with hand-made hooks": theirs.with_hooks,
        "ours, BLIP, caption alone": lambda: caption(blip, picture, decoding, False),
        "ours, BLIP, with maps": lambda: caption(blip, picture, decoding, True),
        "ours, own model, caption alone": lambda: caption(native, picture, decoding, False),
        "ours, own model, with maps": lambda: caption(native, picture, decoding, True)}
    if beams > 1:  # hooks would see all beams, and cannot tell which one won
        del ways["transformers, with hand-made hooks"]
    check_equal(blip, picture, decoding,
                [theirs.with_maps] + ([theirs.with_hooks] if beams == 1 else []))
    for name, pair in (("BLIP", teacher_forced(blip, picture)),
                       ("own model", teacher_forced(native, picture))):
        ways[f"one pass, {name}, recording off"], ways[f"one pass, {name}, recording on"] = pair
    times = interleaved(ways, repeats)
    ratios = {f"{a} / {b}": round(ratio(times, a, b), 3) for a, b in COMPARISONS
              if a in times and b in times}
    return {"benchmark": "caption", "tokens": TOKENS, "beams": beams, "repeats": repeats,
            "own_model": native.info.name, "machine": ran_on, "ratios": ratios,
            "seconds": {name: {"median": round(time.median, 4), "spread": round(time.spread, 3)}
                        for name, time in times.items()}}


COMPARISONS = (
    ("ours, BLIP, with maps", "transformers, generate alone"),
    ("ours, BLIP, with maps", "transformers, with maps"),
    ("ours, BLIP, with maps", "transformers, with hand-made hooks"),
    ("ours, BLIP, caption alone", "transformers, generate alone"),
    ("ours, BLIP, with maps", "ours, BLIP, caption alone"),
    ("ours, own model, with maps", "ours, own model, caption alone"),
    ("one pass, BLIP, recording on", "one pass, BLIP, recording off"),
    ("one pass, own model, recording on", "one pass, own model, recording off"),
)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns that count (default 7)")
    parser.add_argument("--beams", type=int, default=1, help="1 is greedy (default)")
    parser.add_argument("--model", default="", help="our own model's checkpoint; without it "
                        f"{SHIPPED} where it is there, else random weights")
    parser.add_argument("--json", default="", help="write the result to this file")
    given = parser.parse_args()
    if given.repeats < 1 or not 1 <= given.beams <= 10:
        parser.error("--repeats must be 1 or more, --beams 1 to 10")
    model = given.model or (SHIPPED if Path(SHIPPED, "config.json").is_file() else "")
    result = measure(given.repeats, model, given.beams)
    print(f"{TOKENS} tokens, {given.beams} beam(s), median of {given.repeats}; own model: "
          f"{result['own_model']}; {result['machine']}\n")
    print_tables(result)
    keep(result, given.json)


if __name__ == "__main__":
    main()
