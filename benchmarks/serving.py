"""The engine behind an address beside the one in this process, and what becomes of requests when a
replica is killed.

    python -m benchmarks.serving [--requests 48] [--rounds 3] [--killed 200] [--ray] [--json FILE]

Callers who ask for captions, all at once: of an engine in this process, of one replica, and of two.
They take turns within a round, on the same pictures, which no engine has seen before. Then two
replicas are asked ``--killed`` times, and one of them is killed in the middle, as by `kill -9`:
each request has to come to its end, with each of its words once and the text that it has anyway.

Replicas are processes of `python -m vitdemo engine`, each with an address; with ``--ray`` they are
Ray Serve's, behind one, which starts a new one for the one that was killed.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

from benchmarks.start import ROOT, free_port, settings, stop
from benchmarks.timing import machine, table, write_json
from vitdemo.config import Decoding, EngineConfig
from vitdemo.engine import Engine
from vitdemo.preprocess import Picture, open_picture
from vitdemo.serving.client import RemoteEngine
from vitdemo.serving.replicas import Replicas, start

CALLERS = 8
GREEDY = Decoding(strategy="greedy")
START = 600.0  # seconds that replicas may take to start
ONE, TWO = "one replica", "two replicas"


@dataclass
class Served:
    """Engines behind addresses, by their number, and how one of the two is killed."""

    engines: dict[str, Engine]
    kill: Callable[[], None]


@contextlib.contextmanager
def processes(checkpoint: str) -> Iterator[Served]:
    """Replicas that are processes of the command line."""
    ports = [free_port() for _ in range(3)]
    running = [subprocess.Popen(
        [sys.executable, "-m", "vitdemo", "engine", "--port", str(port), "--model", checkpoint,
         "--device", "cpu"], cwd=ROOT, env=settings() | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for port in ports]
    try:
        one, *two = [f"http://127.0.0.1:{port}/" for port in ports]
        yield Served({ONE: RemoteEngine.connect(one, patience=START),
                      TWO: RemoteEngine.connect(",".join(two), patience=START)},
                     running[1].kill)
    finally:
        for process in running:
            stop(process)


@contextlib.contextmanager
def ray_replicas(checkpoint: str) -> Iterator[Served]:
    """Replicas of Ray Serve, at two routes of one address."""
    import ray
    from ray import serve

    config, port = EngineConfig(model=checkpoint, device="cpu"), free_port()
    try:
        addresses = [start(config, Replicas(count, count, 0.1), "127.0.0.1", port, route)
                     for count, route in ((1, "one"), (2, "two"))]
        two = [one for one in psutil.Process().children(recursive=True)
               if any("ServeReplica:two" in word for word in one.cmdline())]
        yield Served({name: RemoteEngine.connect(address, patience=START) for name, address
                      in zip((ONE, TWO), addresses, strict=True)}, two[0].kill)
    finally:
        serve.shutdown()
        ray.shutdown()


def photographs(count: int, turn: int) -> list[Picture]:
    """As many different pictures: parts of the examples, another for every turn."""
    files = sorted((ROOT / "examples").glob("*.jpg"))
    made = []
    for number in range(count):
        with Image.open(files[number % len(files)]) as image:
            edge = 1 + number // len(files) + 8 * turn
            made.append(open_picture(image.crop((edge, edge, *image.size)).resize((640, 480))))
    return made


def seconds(engine: Engine, pictures: Sequence[Picture]) -> float:
    """Until all callers have captions of all pictures."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(lambda one: engine.caption(one, decoding=GREEDY), pictures))
    return time.perf_counter() - begun


def throughput(engines: dict[str, Engine], requests: int, rounds: int) -> dict[str, list[float]]:
    """Requests a second of each engine over those of the first, one for each round."""
    for engine in engines.values():
        seconds(engine, photographs(2, rounds))  # warms up
    found: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(rounds):
        pictures = photographs(requests, turn)
        taken = {name: seconds(engine, pictures) for name, engine in engines.items()}
        first = next(iter(taken.values()))
        for name, value in taken.items():
            found[name].append(first / value)
    return found


def killed(near: Engine, served: Served, requests: int) -> dict[str, int]:
    """Requests to two replicas of which one is killed, counted by what became of them."""
    pictures = photographs(8, 0)
    expected = [_said(near, one) for one in pictures]
    counts = dict.fromkeys(("requests", "lost", "twice", "other"), 0)
    ended = threading.Semaphore(0)

    def ask(number: int) -> None:
        try:
            said = _said(served.engines[TWO], pictures[number % len(pictures)])
            should = expected[number % len(pictures)]
            counts["twice"] += len(said) > len(should)
            counts["other"] += said != should
        except Exception as error:
            counts["lost"] += 1
            print(f"lost: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            counts["requests"] += 1
            ended.release()

    with ThreadPoolExecutor(CALLERS) as callers:
        for number in range(requests):
            callers.submit(ask, number)
        for _ in range(requests // 3):
            ended.acquire()
        served.kill()
    return counts


def _said(engine: Engine, picture: Picture) -> list[str]:
    """A caption as it grows."""
    return [one.text for one in engine.stream(picture, decoding=GREEDY)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print two tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=48, help="of a round (default: 48)")
    parser.add_argument("--rounds", type=int, default=3, help="0: none (default: 3)")
    parser.add_argument("--killed", type=int, default=200, metavar="REQUESTS",
                        help="in the midst of which a replica is killed (default: 200)")
    parser.add_argument("--ray", action="store_true", help="replicas of Ray Serve")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "vitdemo-small")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    args = parser.parse_args(argv)
    for flag, least, most in (("requests", 2, 10_000), ("rounds", 0, 100), ("killed", 0, 100_000)):
        if not least <= getattr(args, flag) <= most:
            parser.error(f"--{flag} is {getattr(args, flag)}; it must be from {least} to {most}.")
    checkpoint = str(args.checkpoint.resolve())
    near = Engine.load(EngineConfig(model=checkpoint, device="cpu"))
    with (ray_replicas if args.ray else processes)(checkpoint) as served:
        ratios = throughput({"in this process": near, **served.engines}, args.requests,
                            args.rounds) if args.rounds else {}
        counts = killed(near, served, args.killed) if args.killed else {}
    if ratios:
        print(table([f"{CALLERS} callers", "throughput", "least", "most"], [
            [name, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"]
            for name, values in ratios.items()]), end="\n\n")
    if counts:
        print(table(list(counts), [[str(value) for value in counts.values()]]))
    info = machine()
    if info["load"] > 1:
        print(f"\nThe machine was busy (load {info['load']}): compare ratios only.")
    if args.json:
        write_json(args.json, {"machine": info, "throughput": ratios, "killed": counts})
    return 1 if any(counts.get(name, 0) for name in ("lost", "twice", "other")) else 0


if __name__ == "__main__":
    raise SystemExit(main())
