"""The engine behind an address: the same answers as in one process, also where replicas break off,
are changed for others, or have never seen the picture."""

import dataclasses
import inspect
import itertools
import json
import math
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import uvicorn
import yaml
from conftest import make_picture
from fake_engine import HeldBackend, PlantedBackend, planted_engine
from PIL import Image
from safetensors.numpy import save

import app
from vitdemo import cli
from vitdemo.borrowed import needs_gpu
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import ServingError, TextError, VitDemoError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.records import Caption, Match, Unread, Word
from vitdemo.serving import client
from vitdemo.serving.client import Fault, RemoteEngine
from vitdemo.serving.replicas import Replicas, start
from vitdemo.serving.server import METHODS, application
from vitdemo.serving.wire import Frames, WireError, framed, pack, unpack
from vitdemo.texts import Message, speaking
from vitdemo.wanted import NotWanted, while_wanted

ROOT = Path(__file__).parent.parent


@contextmanager
def serving(engine: Engine) -> Iterator[str]:
    """An engine's address."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(engine), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(planted_engine()) as made:
        yield made


@pytest.fixture
def photo() -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return open_picture(Image.fromarray(noise))


class Wire(httpx.BaseTransport):
    """The network, where a test can see what is sent, lead it elsewhere and cut it.

    ``sent`` are the sizes of the requests; ``addresses`` have them in turn; ``cut`` says after how
    many bytes the answer to a request, counted from 0, breaks off: None for not at all.
    """

    def __init__(self, *addresses: str, cut: Callable[[int], int | None] = lambda n: None) -> None:
        self._inner = httpx.HTTPTransport()
        self._addresses = itertools.cycle(map(httpx.URL, addresses))
        self._cut = cut
        self.sent: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return self._inner.handle_request(request)
        request.url = request.url.copy_with(port=next(self._addresses).port)
        after = self._cut(len(self.sent))
        self.sent.append(len(request.content))
        if after == 0:
            raise httpx.ConnectError("refused")
        answer = self._inner.handle_request(request)
        if after is None:
            return answer
        answer.stream = Cut(answer.stream, after)  # type: ignore[arg-type]
        return answer


class Cut(httpx.SyncByteStream):
    """An answer that breaks off."""

    def __init__(self, inner: httpx.SyncByteStream, after: int) -> None:
        self._inner, self._left = inner, after

    def __iter__(self) -> Iterator[bytes]:
        for data in self._inner:
            if self._left <= 0:
                break
            yield data[:self._left]
            self._left -= len(data)
        raise httpx.ReadError("broken off")

    def close(self) -> None:
        self._inner.close()


def texts(captions: Iterator[Caption]) -> list[str]:
    return [one.text for one in captions]


def test_every_use_of_the_model_is_asked_of_a_replica() -> None:
    """A method that Engine gains is remote by itself, or written anew."""
    public = {name for name, _ in inspect.getmembers(Engine) if not name.startswith("_")}
    own = {name for name in vars(RemoteEngine) if not name.startswith("_")}
    from_here = {"gallery", "load"}  # they need nothing but what is asked
    assert public - own - from_here == set(METHODS) - own
    assert {name for name, _ in inspect.getmembers(Engine, needs_gpu)} <= set(METHODS)


def test_the_answers_are_those_of_one_process(address: str, photo: Picture) -> None:
    near, far = planted_engine(), Engine.load(EngineConfig(model=address))
    assert isinstance(far, RemoteEngine)
    assert far.info == near.info and far.methods == near.methods
    assert far.picture_side == near.picture_side
    assert texts(far.stream(photo)) == texts(near.stream(photo))
    caption, answer = far.caption(photo), far.ask(photo, "where?")
    assert dataclasses.replace(caption, seconds=0.0) == dataclasses.replace(near.caption(photo),
                                                                            seconds=0.0)
    assert answer.runners_up == near.ask(photo, "where?").runners_up
    for mine, theirs in zip(far.explain(photo, answer), near.explain(photo, answer), strict=True):
        assert np.array_equal(mine.weights, theirs.weights)
        assert np.array_equal(mine.boxes, theirs.boxes)
        assert (mine.words, mine.word_probabilities) == (theirs.words, theirs.word_probabilities)
    told: list[tuple[int, int]] = []
    assert far.evidence(photo, caption, words=[4], progress=lambda *now: told.append(now)) \
        == near.evidence(photo, caption, words=[4])
    assert told and told[-1][0] == told[-1][1]
    assert far.match(photo, ["red"]) == near.match(photo, ["red"])
    assert far.unread("red") == near.unread("red")
    assert np.array_equal(far.embed_pictures([photo, photo]), near.embed_pictures([photo, photo]))
    gallery = far.gallery()
    gallery.add([("a", photo)])
    assert [hit.path for hit in gallery.search_text("red")] == ["a"]
    far.close()
    with pytest.raises(VitDemoError):
        far.ask(photo, "where?")


def test_an_error_is_worded_where_it_is_shown(address: str, photo: Picture) -> None:
    far = RemoteEngine.connect(address)
    with pytest.raises(TextError) as caught:
        far.stream(photo, "x" * 3000)  # at once, not at the first caption
    assert "limit is 2000" in str(caught.value)
    with speaking("zh"):
        assert "2000" in str(caught.value) and "limit" not in str(caught.value)
    with pytest.raises(Fault, match="ZeroDivisionError"):
        far.caption(photo, "Break.")
    with pytest.raises(TypeError):
        far.caption(photo, colour="red")  # told here, as a plain engine does


def test_pixels_go_once(address: str) -> None:
    photo = open_picture(make_picture(7, (300, 200)))
    wire = Wire(address)
    far = RemoteEngine.connect(address, wire)
    caption = far.caption(photo)
    far.explain(photo, caption)
    far.evidence(photo, caption, words=[0])
    first, *later = wire.sent
    assert first > 300 * 200 * 3 > 20 * max(later)


def test_a_replica_that_lacks_the_picture_asks_for_it(address: str) -> None:
    photo = open_picture(make_picture(8, (300, 200)))
    with serving(planted_engine()) as other:
        wire = Wire(address, other, other)
        far = RemoteEngine.connect(address, wire)
        said = {far.ask(photo, "where?").text for _ in range(6)}
    assert len(said) == 1
    assert sum(size > 300 * 200 * 3 for size in wire.sent) == 2  # once for each replica


def test_of_several_addresses_one_has_a_picture_until_it_is_gone() -> None:
    photos = [open_picture(make_picture(seed)) for seed in range(8)]
    backends = [PlantedBackend(), PlantedBackend()]
    with serving(Engine(backends[0])) as first:
        with serving(Engine(backends[1])) as second:
            far = RemoteEngine.connect(f"{first}, {second}")
            for photo in photos * 2:
                far.explain(photo, "red")
            shares = [one.explained for one in backends]
        assert sum(shares) == 16 and all(share % 2 == 0 and share for share in shares)
        said = [far.ask(photo, "where?").text for photo in photos]  # the second one is gone
    assert said == ["left"] * len(photos)


def test_a_picture_is_known_by_its_pixels_alone(address: str) -> None:
    """Whoever gives a picture another one's digest changes nothing for others."""
    red, green = (Picture(make_picture(seed), "0" * 64) for seed in (1, 2))
    far, other = RemoteEngine.connect(address), RemoteEngine.connect(address)
    near = planted_engine()
    for one, engine in ((red, far), (green, other), (red, far)):
        assert np.array_equal(engine.embed_pictures([one]), near.embed_pictures([open_picture(
            one.image)]))


@pytest.mark.parametrize("after", [0, 1, 700, 3000])
def test_a_broken_answer_is_asked_for_again_and_given_once(
        address: str, photo: Picture, after: int) -> None:
    wire = Wire(address, cut=lambda number: after if number < 2 else None)
    far = RemoteEngine.connect(address, wire)
    assert texts(far.stream(photo)) == texts(planted_engine().stream(photo))
    assert len(wire.sent) >= 3
    wire = Wire(address, cut=lambda number: after if number < 2 else None)
    far = RemoteEngine.connect(address, wire)
    assert far.ask(photo, "where?").text == "left"


def test_what_breaks_every_replica_ends(address: str, photo: Picture) -> None:
    wire = Wire(address, cut=lambda number: 100)
    with pytest.raises(ServingError, match="broke off"):
        RemoteEngine.connect(address, wire).ask(photo, "where?")
    assert len(wire.sent) == client.MOST_BREAKS


def test_silence_ends(address: str, photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServingError, match="No engine has answered"):
        RemoteEngine.connect("http://127.0.0.1:9/", patience=0.1)
    far = RemoteEngine.connect(address, Wire(address, cut=lambda number: 0))
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    with pytest.raises(ServingError, match="No engine has answered"):
        far.ask(photo, "where?")


def test_vectors_of_two_kinds_of_weights_never_mix(address: str, photo: Picture) -> None:
    backend = PlantedBackend()
    backend.info = dataclasses.replace(backend.info, revision="2")
    backend.embed_pictures = lambda features: -np.ones(  # type: ignore[method-assign]
        (len(features), 4), np.float32) / 2
    with serving(Engine(backend)) as other:
        far = RemoteEngine.connect(address, Wire(address, other))
        expected = planted_engine().embed_pictures([photo])
        for _ in range(10):
            assert np.array_equal(far.embed_pictures([photo]), expected)
        changed = RemoteEngine.connect(address, Wire(other))
        with pytest.raises(ServingError, match="another model"):
            changed.embed_pictures([photo])


def test_another_version_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "__version__", "0.0.1")
    with pytest.raises(ServingError, match=r"0\.0\.1"):
        RemoteEngine.connect(address)


def test_what_nobody_waits_for_ends_in_the_replica(photo: Picture) -> None:
    backend = HeldBackend()
    with serving(Engine(backend)) as made:
        far = RemoteEngine.connect(made)
        still = threading.Event()
        still.set()
        with backend.hold("weigh"):
            with ThreadPoolExecutor(1) as thread:
                asked = thread.submit(while_wanted(still.is_set).run, far.evidence, photo,
                                      "red left right")
                backend.reached("weigh")
                still.clear()
                with pytest.raises(NotWanted):
                    asked.result(60)
        assert far.ask(photo, "what red?").text  # behind whatever slice was under way
        assert backend.calls["weigh"] < 5, "the work went on"


def test_answers_of_many_at_once_never_mix(address: str) -> None:
    far = RemoteEngine.connect(address, Wire(address, cut=lambda number: 900 if number % 7 == 0
                                             else None))
    photos = [open_picture(make_picture(seed)) for seed in range(4)]

    def ask(number: int) -> str:
        return far.caption(photos[number % 4], f"Say: picture {number} of many").text

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(60)))
    assert found == [f"Picture {number} of many." for number in range(60)]


@pytest.mark.parametrize("value", [
    None, True, 3, -0.5, math.inf, "你好", (1, (2, "a")), [], {"a": (1,)}, frozenset({"b", "a"}),
    Word("a", 0, 1), Match("a", 0.1, 0.2, Unread((Word("a", 0, 1),), 3)),
    Message("typed.count", count=3)])
def test_a_value_comes_back_as_it_was(value: object) -> None:
    back = unpack(pack(value))
    assert back == value and type(back) is type(value)


def test_an_error_comes_back_as_it_was() -> None:
    error = TextError("typed.count", count=TextError("typed.sentences", count=2, most=1))
    back = unpack(pack(error))
    assert type(back) is TextError and back.message == error.message and str(back) == str(error)


@pytest.mark.parametrize("data", [
    b"", b"\x00" * 8, b"pickle" * 10, pack(1)[:-4],
    save({}, metadata={"value": json.dumps({"record": "Popen", "values": {"mapping": []}})}),
    save({}, metadata={"value": json.dumps({"array": "0"})}),
    save({}, metadata={"value": json.dumps({"new": 1})}),
    save({}, metadata={"value": "[" * 100_000}),
    save({"0": np.zeros((2, 2), np.uint8)}, metadata={"value": json.dumps(
        {"picture": "", "pixels": "0"})}),
], ids=range(9))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data)


def test_the_compose_file_says_what_the_programs_take() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    page = app.parse(shlex.split(services["page"]["command"])[2:])
    engine = cli.parser().parse_args(shlex.split(services["engine"]["command"])[3:])
    assert page.remote and page.model == f"http://engine:{engine.port}/"
    assert page.store.startswith("milvus://milvus:") and engine.replicas


@pytest.mark.parametrize("flag, value", [("--replicas", "4-2"), ("--replicas", "0"),
                                         ("--port", "0"), ("--gpus", "-1"), ("--route", "a/b")])
def test_a_bad_flag_of_the_engine_is_told(flag: str, value: str,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    others = [] if flag == "--replicas" else ["--replicas", "2"]
    assert cli.main(["engine", *others, f"{flag}={value}"]) == 2
    assert flag in capsys.readouterr().err


@pytest.mark.slow
def test_ray_serves_and_replaces_a_replica(tiny_checkpoint: Path, photo: Picture) -> None:
    """With the real Ray: two replicas answer, and one of them is killed."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: "
                                            "pip install -r requirements-serve.txt")
    from ray import serve

    config = EngineConfig(model=str(tiny_checkpoint), device="cpu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        place = start(config, Replicas(2, 2, 0.1), "127.0.0.1", port, "tiny")
        far, near = RemoteEngine.connect(place), Engine.load(config)
        expected = near.ask(photo, "what is there?").text
        replicas = [one for one in psutil.Process().children(recursive=True)
                    if any("ServeReplica" in word for word in one.cmdline())]
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(far.ask, photo, "what is there?") for _ in range(40)]
            asked[5].result()
            replicas[0].kill()
            assert {one.result().text for one in asked} == {expected}
    finally:
        serve.shutdown()
        ray.shutdown()


def test_a_row_is_taken_apart_however_it_comes() -> None:
    row = [b"", b"a" * 300, b"b"]
    data = b"".join(map(framed, row))
    for step in (1, 7, 1000):
        frames, found = Frames(), []
        for place in range(0, len(data), step):
            found += frames.add(data[place:place + step])
        assert found == row
    with pytest.raises(WireError):
        Frames().add(b"\xff" * 8)
