"""The page's side: an engine whose model is on other machines, behind one address or several.

An address is an engine's (`python -m vitdemo engine`) or that of whatever shares requests out to
several of them with the same model: any of them may be asked anything. Of several addresses, with
commas between them, all requests about one picture go to the same one as long as it answers.
"""

import inspect
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import httpx

from vitdemo import __version__, wanted
from vitdemo.borrowed import streams
from vitdemo.cache import LRU
from vitdemo.config import EngineConfig
from vitdemo.device import without_gpu
from vitdemo.engine import Engine
from vitdemo.errors import ServingError, TaskError
from vitdemo.measures import Measures
from vitdemo.preprocess import Picture
from vitdemo.records import ModelInfo
from vitdemo.serving.server import METHODS, VERSION
from vitdemo.serving.wire import Frames, WireError, fingerprint, pack, unpack
from vitdemo.texts import language

PATIENCE = 60.0  # seconds that an address may not answer, while a replica starts again, say
SILENCE = 30.0  # seconds without a sign of life, after which a replica is taken for dead
MOST_BREAKS = 4  # times that a request may be broken off: it may be what breaks the replicas
MOST_OTHERS = 8  # times that a replica may have another model, while they are changed
GOING_ON = ("wait", "begun", "progress", "value")  # messages that do not end an answer
SENT = 1024  # pictures of which it is remembered that they were sent


class _Broken(Exception):
    """There was no answer, or not all of it; ``begun``: somebody worked on the request."""

    def __init__(self, why: str, begun: bool = False) -> None:
        super().__init__(why)
        self.begun = begun


class Fault(Exception):
    """The program failed in a replica, whose log says more."""


class RemoteEngine(Engine):
    """`Engine` over the network: what needs the model is asked of a replica, the rest is done
    here.

    A request that is broken off is made again, of whichever replica then answers: each can be made
    any number of times, and the caller is given every value of it once. Pixels of a picture are
    sent to a replica that lacks them, the picture's digest otherwise.
    """

    def __init__(self, address: str, client: httpx.Client, *, info: ModelInfo,
                 methods: tuple[str, ...], picture_side: int) -> None:
        self.config = EngineConfig(model=address)
        self.measures = Measures()
        self._address, self._addresses, self._client = address, listed(address), client
        self._info, self._methods, self._side = info, methods, picture_side
        self._model = fingerprint(info)
        self._guard = threading.Lock()  # of what follows
        self._sent: LRU[bool] = LRU(SENT)
        self._under_way = 0
        self._turn, self._closed = 0, False
        for name, method in METHODS.items():
            setattr(self, name, self._asking(name, method))

    @classmethod
    def connect(cls, address: str, transport: httpx.BaseTransport | None = None,
                patience: float = PATIENCE) -> "RemoteEngine":
        """Ask an address what its model is; it is waited for while it starts.

        Raises:
            ServingError: nobody answers there, or another version of the program.
        """
        client = httpx.Client(transport=transport, limits=httpx.Limits(max_connections=None),
                              timeout=httpx.Timeout(SILENCE, connect=10.0, pool=None))
        for _, one in zip(_tries(address, patience), itertools.cycle(listed(address)),
                          strict=False):
            with suppress(httpx.TransportError, _Broken):
                answer = client.get(one)
                _refused(one, answer)
                return cls(address, client, **unpack(answer.content))
        raise AssertionError("the tries end with an error")

    @property
    def info(self) -> ModelInfo:
        """What the model is and can do; it stays the same for this engine's life."""
        return self._info

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the ways to explain, the default one first."""
        return self._methods

    @property
    def picture_side(self) -> int:
        """Pixels of the square that the model squeezes every picture to, or 0."""
        return self._side

    @property
    def cached_bytes(self) -> int:
        """0: features are kept where the model is."""
        return 0

    @without_gpu
    def waiting(self) -> tuple[int, int]:
        """How many requests are under way; which are checks, only the replicas know."""
        return self._under_way, 0

    @without_gpu
    def close(self) -> None:
        """Ask nothing any more."""
        self._closed = True
        self._client.close()

    @without_gpu
    def randomised(self, seed: int = 0) -> NoReturn:
        """Nothing of a model comes here: `explain_randomised` is asked as a whole."""
        raise TaskError("serving.no_copy")

    def _asking(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the same signature, answered by a replica."""
        signature = inspect.signature(method)

        def asked(*arguments: Any, **settings: Any) -> Iterator[Any]:
            signature.bind(self, *arguments, **settings)
            progress = settings.pop("progress", None)
            if progress is not None:
                settings["progress"] = True
            return self._values(name, arguments, settings, progress)

        def stream(*arguments: Any, **settings: Any) -> Iterator[Any]:
            values = asked(*arguments, **settings)
            next(values)  # what is wrong with the arguments is told at once
            return values

        def call(*arguments: Any, **settings: Any) -> Any:
            [value] = asked(*arguments, **settings)
            return value

        return stream if streams(method) else call

    def _values(self, name: str, arguments: tuple[Any, ...], settings: dict[str, Any],
                progress: Callable[[int, int], object] | None) -> Iterator[Any]:
        """The values of a call, each once, however often it is made; before a row of them None."""
        given, breaks, others, attached = 0, 0, 0, False
        row, turn = streams(METHODS[name]), self._first(arguments)
        with self._counted():
            for heard in _tries(self._address, PATIENCE):
                body, count = self._packed(name, arguments, settings, attached), 0
                try:
                    for kind, *value in self._messages(
                            self._addresses[turn % len(self._addresses)], body):
                        wanted.check()
                        if kind == "model":  # while the replicas are changed, others have the old
                            others, turn = others + 1, turn + 1
                            break
                        heard()
                        if kind == "error":
                            raise value[0]
                        if kind == "fault":
                            raise Fault(value[0])
                        if kind == "progress" and progress is not None:
                            progress(*value)
                        if kind == "begun" and row:
                            row = False
                            yield None
                        if kind == "value":
                            count += 1
                            if count > given:
                                given = count
                                yield value[0]
                        if kind == "end":
                            return
                        attached = attached or kind == "pictures"
                except _Broken as broken:
                    breaks, turn = breaks + broken.begun, turn + 1
                    if breaks >= MOST_BREAKS:
                        raise ServingError("serving.broken", count=breaks) from broken
                if others >= MOST_OTHERS:
                    raise ServingError("serving.other_model", address=self._address,
                                       name=self._info.name)

    def _first(self, arguments: tuple[Any, ...]) -> int:
        """The number of the address that is asked first: of a picture's, else each in turn."""
        for one in arguments:
            if isinstance(one, Picture):
                return int(one.digest[:8], 16)
        with self._guard:
            self._turn += 1
            return self._turn

    def _packed(self, name: str, arguments: tuple[Any, ...], settings: dict[str, Any],
                attached: bool) -> bytes:
        def attach(digest: str) -> bool:
            with self._guard:
                new = self._sent.get(digest) is None
                self._sent.put(digest, True)
            return attached or new

        return pack({"model": self._model, "language": language(), "method": name,
                     "arguments": list(arguments), "settings": settings}, attach)

    def _messages(self, address: str, body: bytes) -> Iterator[list[Any]]:
        """The messages of one try, up to the one that ends it.

        Raises:
            _Broken: there was none that ends it.
            ServingError: the request is refused.
        """
        if self._closed:
            raise TaskError("chooser.closed")
        frames, begun, last = Frames(), False, None
        try:
            with self._client.stream("POST", address, content=body) as answer:
                _refused(address, answer)
                for data in answer.iter_raw():  # to its end, so that the connection is kept
                    for frame in frames.add(data):
                        begun, message = True, unpack(frame)
                        if message[0] in GOING_ON:
                            yield message
                        else:
                            last = message
        except (httpx.TransportError, httpx.StreamError, WireError) as error:
            if last is None:
                raise _Broken(type(error).__name__, begun) from error
        if last is None:
            raise _Broken("it ended early", begun)
        yield last

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._guard:
            self._under_way += 1
        try:
            yield
        finally:
            with self._guard:
                self._under_way -= 1


def listed(addresses: str) -> list[str]:
    """Addresses with commas between them, one by one."""
    return [one.strip() for one in addresses.split(",") if one.strip()]


def _refused(address: str, answer: httpx.Response) -> None:
    """Raise what a status other than that of an answer means."""
    if answer.status_code >= 500 or answer.status_code in (404, 408, 429):  # it may come
        raise _Broken(f"status {answer.status_code}")
    if answer.status_code != 200 or answer.headers.get(VERSION) != __version__:
        raise ServingError("serving.refused", address=address, status=answer.status_code,
                           here=__version__, there=answer.headers.get(VERSION, "?"))


def _tries(address: str, patience: float) -> Iterator[Callable[[], None]]:
    """A try after the other, with pauses that grow; each gets what it calls when it hears from the
    other side. The pauses end when the work is not wanted any more.

    Raises:
        ServingError: nothing was heard for ``patience`` seconds.
    """
    heard, pause = time.monotonic(), 0.05

    def hear() -> None:
        nonlocal heard, pause
        heard, pause = time.monotonic(), 0.0

    while True:
        wanted.check()
        yield hear
        if time.monotonic() - heard > patience:
            raise ServingError("serving.silent", address=address, seconds=math.ceil(patience))
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(1.0, max(0.05, 2 * pause))
