"""What keeping freed memory gives (`vitdemo/allocator.py`): the picture encoder with and without.

    python -m benchmarks.allocator [--model DIR] [--turns 10] [--json FILE]

Two processes take turns, one that keeps what it frees and one with glibc's own settings; in each
turn both encode four batches of four ready tensors, in the main thread and in another, as the app
does. Beside the seconds stand the page faults of a picture and the most memory that was held.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.timing import Timing, keep, machine, ratio, table

BATCH, BATCHES = 4, 4


def serve(how: str, model: str) -> None:
    """Encode for every line of standard input; run in a process of its own."""
    import resource

    import torch

    from vitdemo.allocator import keep_freed_memory
    from vitdemo.models.checkpoint import load_checkpoint

    if how == "kept" and not keep_freed_memory():
        raise SystemExit("This system's memory cannot be kept; there is nothing to compare.")
    loaded = load_checkpoint(model).model.eval()
    side = loaded.config.picture_size
    pixels = torch.randn(BATCH, 3, side, side).to(memory_format=torch.channels_last)

    def encode() -> dict[str, float]:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with torch.inference_mode():
            for _ in range(BATCHES):
                loaded.vision.features(pixels)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {"seconds": time.perf_counter() - start, "peak_mb": after.ru_maxrss / 1024,
                "faults": (after.ru_minflt - before) / (BATCH * BATCHES)}

    with ThreadPoolExecutor(1) as other:
        for line in sys.stdin:
            run: Callable[[], Any] = encode if line == "main\n" else other.submit(encode).result
            print(json.dumps(run()), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="checkpoints/vitdemo-small")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    servers = {how: subprocess.Popen(
        [sys.executable, "-m", "benchmarks.allocator", "--serve", how, options.model],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for how in ("plain", "kept")}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for turn in range(-1, options.turns):  # the first warms up
        for how in sorted(servers, reverse=turn % 2 == 0):
            for thread in ("main", "other"):
                answer = ask(servers[how], thread)
                if turn >= 0:
                    found.setdefault((thread, how), []).append(answer)
    for server in servers.values():
        server.communicate()
    times = {way: Timing(tuple(turn["seconds"] for turn in turns)) for way, turns in found.items()}
    rows = [(f"{thread} thread, {how}", f"{BATCH * BATCHES / time.median:.1f}",
             f"{time.spread:.0%}", f"{found[thread, how][-1]['faults']:,.0f}",
             f"{found[thread, how][-1]['peak_mb']:.0f}")
            for (thread, how), time in sorted(times.items(), reverse=True)]
    print(table(("encoder", "pictures/s", "spread", "page faults a picture", "peak MB"), rows))
    ratios = {thread: ratio(times, (thread, "kept"), (thread, "plain"))
              for thread in ("main", "other")}
    for thread, value in ratios.items():
        print(f"{thread} thread: {value:.2f} of the time")
    keep({"machine": machine(), "ratios": ratios,
          "turns": {" ".join(way): turns for way, turns in found.items()}}, options.json)


def ask(server: "subprocess.Popen[str]", thread: str) -> dict[str, float]:
    """One turn of one process."""
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(thread + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise SystemExit("The other process ended; its message stands above.")
    answer: dict[str, float] = json.loads(line)
    return answer


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()
