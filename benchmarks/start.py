"""Cold start: from starting a process to its first caption.

    python -m benchmarks.start [--repeats 5] [--checkpoint DIR] [--json FILE]

The ways, each in a fresh process:

- transformers: a short script of plain transformers that loads a BLIP and captions;
- vitdemo, same BLIP: `python -m vitdemo caption` with that BLIP, as many tokens, greedy too;
- vitdemo: `python -m vitdemo caption` with the demo's own model, as a user runs it;
- app: `python app.py` until it has answered its first request, maps for every word included.

The BLIP has the shape of BLIP-base and random weights, made on the spot: what it says makes no
sense, how long it takes does. A first turn, which fills the system's file cache, is not counted,
so this is the start of a process and not that of a machine.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.caption import random_blip
from benchmarks.timing import Timing, machine, ratio, table, write_json

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 20  # that BLIP writes
APP, SERVED = "app", "app, page served"
LONGEST = 600.0  # seconds that one start may take
POLL = 0.05  # seconds between two looks at the app

PLAIN = f"""
import sys
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

processor = BlipProcessor.from_pretrained(sys.argv[1])
model = BlipForConditionalGeneration.from_pretrained(sys.argv[1]).eval()
inputs = processor(Image.open(sys.argv[2]).convert("RGB"), return_tensors="pt")
written = model.generate(**inputs, num_beams=1, min_new_tokens={TOKENS}, max_new_tokens={TOKENS})
print(processor.decode(written[0], skip_special_tokens=True))
"""


class BenchmarkError(Exception):
    """A run failed; the text says which and why."""


def settings() -> dict[str, str]:
    """The environment of every run: the CPU for all alike, no hub, no remarks."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONWARNINGS": "ignore", "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONIOENCODING": "utf-8"}


def time_command(command: Sequence[str]) -> float:
    """Seconds until a command has printed its caption and ended.

    Raises:
        BenchmarkError: it failed, took too long or printed nothing.
    """
    start = time.perf_counter()
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=settings(), check=False,
                              capture_output=True, text=True, encoding="utf-8", timeout=LONGEST)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command[:3])} took over {LONGEST:.0f} s.") from error
    seconds = time.perf_counter() - start
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchmarkError(f"{' '.join(command[:3])} gave no caption (exit code "
                             f"{done.returncode}): {done.stderr.strip()[-600:]}")
    return seconds


def time_app(checkpoint: Path, picture: Path) -> tuple[float, float]:
    """Seconds from starting app.py until its page is served, and until it has captioned a picture.

    Raises:
        BenchmarkError: it ended, took too long or gave no caption.
    """
    from gradio_client import Client, handle_file

    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        app = subprocess.Popen([sys.executable, "app.py", "--model", str(checkpoint), "--port",
                                str(port)], cwd=ROOT, env=settings(), stdin=subprocess.DEVNULL,
                               stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_for(address, app, start)
            ready = time.perf_counter() - start
            client = Client(address, verbose=False, analytics_enabled=False,
                            httpx_kwargs={"trust_env": False})
            shown = client.predict(picture=handle_file(str(picture)), api_name="/explain")
            answered = time.perf_counter() - start
        except BenchmarkError as error:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-600:]
            raise BenchmarkError(f"{error} {words}".strip()) from error
        finally:
            stop(app)
    if not shown["explanations"]:
        raise BenchmarkError(f"the app gave no caption with maps, but {str(shown)[:300]}.")
    return ready, answered


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_app(checkpoint: Path) -> Iterator[str]:
    """The app as a person runs it, on the CPU; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile() as said:
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--model", str(checkpoint), "--device",
             "cpu"], cwd=ROOT, env=settings(), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT)
        try:
            wait_for(address, app, time.perf_counter())
            yield address
        finally:
            stop(app)


def stop(app: "subprocess.Popen[bytes]") -> None:
    """End the app, by force where it does not end by itself."""
    app.terminate()
    try:
        app.wait(15)
    except subprocess.TimeoutExpired:
        app.kill()
        app.wait()


def wait_for(address: str, app: "subprocess.Popen[bytes]", start: float) -> None:
    """Until a page is served at the address."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        if app.poll() is not None:
            raise BenchmarkError(f"app.py ended with exit code {app.returncode}.")
        if time.perf_counter() - start > LONGEST:
            raise BenchmarkError(f"app.py served nothing within {LONGEST:.0f} s.")
        try:
            with opener.open(address, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(POLL)


def measure(checkpoint: Path, picture: Path, blip: Path, repeats: int) -> dict[str, Timing]:
    """Every counted run, by way; "app, page served" is the part of "app" before its answer.

    Not `timing.interleaved`: what a run takes to end is no part of its start.
    """
    caption = ["-m", "vitdemo", "caption", str(picture), "--model"]
    commands = {
        "transformers": ["-c", PLAIN, str(blip), str(picture)],
        "vitdemo, same BLIP": [*caption, f"blip:{blip}", "--strategy", "greedy", "--min-tokens",
                               str(TOKENS), "--max-tokens", str(TOKENS)],
        "vitdemo": [*caption, str(checkpoint)],
    }
    names = [*commands, SERVED, APP]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        now: dict[str, float] = {}
        for name in names if turn % 2 == 0 else reversed(names):
            if name in commands:
                now[name] = time_command(commands[name])
            elif name == APP:
                now[SERVED], now[APP] = time_app(checkpoint, picture)
        kind = f"turn {turn} of {repeats}" if turn else "turn that is not counted"
        print(f"{kind}: " + "; ".join(f"{name} {now[name]:.2f} s" for name in names),
              file=sys.stderr, flush=True)
        if turn > 0:
            for name in names:
                seconds[name].append(now[name])
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="counted turns (default: 5)")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small",
                        help="the demo's model (default: checkpoints/vitdemo-small)")
    parser.add_argument("--blip", type=Path, metavar="DIR",
                        help="a BLIP captioning checkpoint (default: BLIP-base's shape, random)")
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "cat.jpg")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        parser.error(f"--repeats is {args.repeats}; it must be 1 or more.")
    for flag, path in (("--checkpoint", args.checkpoint / "meta.json"),
                       ("--picture", args.picture)):
        if not path.is_file():
            parser.error(f"{flag}: there is no {path}.")
    try:
        with tempfile.TemporaryDirectory(prefix="vitdemo-start-") as folder:
            blip = args.blip or Path(folder)
            if args.blip is None:
                random_blip(blip)
            times = measure(args.checkpoint.resolve(), args.picture.resolve(), blip.resolve(),
                            args.repeats)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ratios = {name: ratio(times, name, "transformers") for name in times}
    rows = [[name, f"{ratios[name]:.2f}", f"{timing.median:.2f} s", f"{timing.spread:.0%}"]
            for name, timing in times.items()]
    print(table(["from process start to first caption", "ratio", "median", "spread"], rows))
    if args.json:
        write_json(args.json, {
            "seconds": {name: list(timing.seconds) for name, timing in times.items()},
            "ratio_to_transformers": ratios, "checkpoint": args.checkpoint.name,
            "blip": args.blip.name if args.blip else "BLIP-base, random weights",
            "blip_tokens": TOKENS, "machine": machine()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
