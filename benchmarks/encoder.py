"""The picture encoder on a CPU: what folding batch norm, passes side by side and OpenVINO give.

    python -m benchmarks.encoder [--checkpoint DIR] [--turns 10]

These take turns over the same 32 ready tensors: as trained or with batch norm folded
(`vitdemo/models/folding.py`), in passes of four that share the cores or in passes of one that each
have a core (`vitdemo/streams.py`), and OpenVINO, where it is installed, picture by picture. The
last encode a single picture, as for one caption.
"""

import argparse
import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import interleaved, keep, machine, ratio, run_all, table
from vitdemo.allocator import keep_freed_memory
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.models.folding import folded
from vitdemo.models.openvino_encoder import OpenVINOEncoder
from vitdemo.streams import side_by_side

PICTURES, TOGETHER = 32, 4


def measure(checkpoint: Path, turns: int) -> dict[str, Any]:
    """Pictures a second of each way, and its time over the first of its kind."""
    keep_freed_memory()
    model = load_checkpoint(checkpoint).model.eval()
    side = model.config.picture_size
    encoders: dict[str, Any] = {"as trained": model.vision, "folded": folded(model.vision, side)}
    torchs = [*encoders]
    if importlib.util.find_spec("openvino"):
        encoders["OpenVINO"] = OpenVINOEncoder(encoders["folded"], side)
    pixels = torch.randn(PICTURES, 3, side, side).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(name: str, batch: torch.Tensor) -> None:
        encoders[name].features(batch)

    ways = {}
    for name in torchs:
        work = partial(encode, name)
        for how, each, size in (("one by one", map, TOGETHER), ("side by side", side_by_side, 1)):
            ways[f"{name}, {how}"] = partial(run_all, each, work, pixels.split(size))
    if "OpenVINO" in encoders:
        ways["OpenVINO, one by one"] = partial(encode, "OpenVINO", pixels)
    for name in encoders:
        ways[f"{name}, a single picture"] = partial(encode, name, pixels[:1])
    times = interleaved(ways, turns)
    print()
    rows, found = [], {}
    for way, timing in times.items():
        single = "single" in way
        base = "as trained, a single picture" if single else "as trained, one by one"
        found[way] = {"pictures a second": (1 if single else PICTURES) / timing.median,
                      "spread": timing.spread, "ratio": ratio(times, way, base)}
        rows.append((way, f"{found[way]['pictures a second']:.1f}", f"{timing.spread:.0%}",
                     f"{found[way]['ratio']:.2f}"))
    print(table(("encoder", "pictures/s", "spread", "time / as trained"), rows))
    return {"machine": machine(), "ways": found}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/vitdemo-small"))
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", default="", metavar="FILE")
    args = parser.parse_args()
    keep(measure(args.checkpoint, args.turns), args.json)


if __name__ == "__main__":
    main()
