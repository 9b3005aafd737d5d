"""What is fetched from an address, and what is not: no server but a public one is ever asked."""

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError
from vitdemo.ui.addresses import PinnedConnection, fetch, is_public

PUBLIC = "93.184.216.34"


class Site(BaseHTTPRequestHandler):
    """Answers by what is asked for; ``asked`` are the paths."""

    asked: list[str]

    def log_message(self, *_: object) -> None:
        """Not in the test's output."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
            return
        self.send_response(404 if kind == "none" else 200)
        if kind == "short":
            self.send_header("Content-Length", "100")
        self.end_headers()
        if kind == "drip":
            for _ in range(200):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        size = LIMITS.max_file_megabytes * 2**20 + 1 if kind == "large" else 0
        self.wfile.write(b"picture" + bytes(size))


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(site: ThreadingHTTPServer, address: str, seconds: float = 10.0) -> bytes:
    """Fetch from the site, whatever public server an address names."""
    names = {"a.example": [PUBLIC], "home.example": ["10.0.0.1"],
             "both.example": [PUBLIC, "127.0.0.1"]}
    pinned = []

    def connect(host: str, at: str, timeout: float) -> http.client.HTTPConnection:
        pinned.append(at)
        return http.client.HTTPConnection("127.0.0.1", site.server_port, timeout=timeout)

    try:
        return fetch(address, lambda host: names.get(host, [host]), connect, seconds)
    finally:
        assert all(one == PUBLIC for one in pinned)


def test_a_picture_is_fetched_through_redirects(site: ThreadingHTTPServer) -> None:
    assert get(site, "https://a.example/x?y=1") == b"picture"
    assert get(site, "https://a.example/to//x") == b"picture"
    assert get(site, "https://a.example/to/https://a.example/to//x") == b"picture"
    assert Site.asked[0] == "/x?y=1"


@pytest.mark.parametrize("address", [
    "https://127.0.0.1/x", "https://home.example/x", "https://both.example/x",
    "https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
    "https://0.0.0.0/", "https://a.example/to/https://127.0.0.1/x",
    "https://a.example/to/https://home.example/x"])
def test_what_is_not_public_is_not_asked(site: ThreadingHTTPServer, address: str) -> None:
    with pytest.raises(PictureError, match="no public address"):
        get(site, address)
    assert len(Site.asked) == ("/to/" in address)


@pytest.mark.parametrize("address", [
    "http://a.example/x", "ftp://a.example/x", "file:///etc/passwd", "https://", "https:///x",
    "https://a.example:22/x", "https://name:word@a.example/x", "https://a.example/a b",
    "https://a.example/\r\nHost: b", "https://[::1", "https://a.example:x/", "x" * 9000,
    "https://a.example/to/http://a.example/x"])
def test_only_plain_https_is_fetched(site: ThreadingHTTPServer, address: str) -> None:
    with pytest.raises(PictureError, match="only addresses that begin with https") as told:
        get(site, address)
    assert len(str(told.value)) < 400


def test_what_does_not_end_well_is_a_sentence(site: ThreadingHTTPServer) -> None:
    for path, sentence in (("none", "status 404"), ("large", "limit of 50 MB"),
                           ("short", "cut off"), ("to//to//to//to//x", "more than 3 times")):
        with pytest.raises(PictureError, match=sentence):
            get(site, f"https://a.example/{path}")
    start = time.monotonic()
    with pytest.raises(PictureError, match="more than 15 seconds"):
        get(site, "https://a.example/drip", seconds=0.5)
    assert time.monotonic() - start < 5
    site.shutdown()
    site.server_close()
    with pytest.raises(PictureError, match="cannot be reached"):
        get(site, "https://a.example/x")
    with pytest.raises(PictureError, match="no server nowhere"):
        fetch("https://nowhere.example", lambda _: [])


def test_certificates_are_checked() -> None:
    connection = PinnedConnection("a.example", PUBLIC, 1)
    assert connection.context.check_hostname
    assert connection.context.verify_mode is ssl.CERT_REQUIRED
    assert (connection.host, connection.port) == ("a.example", 443)


def test_which_addresses_are_public() -> None:
    for one in (PUBLIC, "8.8.8.8", "2606:4700:4700::1111"):
        assert is_public(one), one
    for one in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0",
                "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
                "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:8.8.8.8", "64:ff9b::a00:1",
                "2002:a00:1::", "x", ""):
        assert not is_public(one), one
