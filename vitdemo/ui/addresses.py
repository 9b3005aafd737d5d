"""Fetches a picture from an address, for an owner who allows it, and from the public internet only.

A server that fetches what strangers name can be made to fetch what only it can reach (server-side
request forgery). So: https only, on its usual port; every address that a name leads to must be
public, and the connection goes to one that was looked at, so that a second look-up cannot answer
otherwise; each redirect is looked at anew; size and time are bounded. No proxy is used, and no
cookies, names or passwords are sent.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

from vitdemo.config import LIMITS
from vitdemo.errors import PictureError, shortened

SECONDS = 15.0  # for all of it, redirects included
REDIRECTS = 3
PORT = 443
CHUNK = 65_536

Resolve = Callable[[str], list[str]]
Connect = Callable[[str, str, float], http.client.HTTPConnection]


class PinnedConnection(http.client.HTTPSConnection):
    """Speaks to the host ``host``, whose certificate is checked, at the address ``address``."""

    def __init__(self, host: str, address: str, timeout: float) -> None:
        self.context = ssl.create_default_context()
        super().__init__(host, PORT, timeout=timeout, context=self.context)
        self._address = address

    def connect(self) -> None:
        """Connect to the address, whatever the name leads to by now."""
        self.sock = socket.create_connection((self._address, PORT), self.timeout)
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)


def fetch(address: str, resolve: Resolve | None = None, connect: Connect = PinnedConnection,
          seconds: float = SECONDS) -> bytes:
    """What lies at an address: at most as large as a picture file may be.

    Raises:
        PictureError: it may not be fetched, or cannot be.
    """
    end = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        parts = _checked(address)
        host = str(parts.hostname)
        connection = connect(host, _public_address(host, resolve or look_up), seconds)
        found = _get(connection, parts, end)
        if isinstance(found, bytes):
            return found
        address = urljoin(address, found)
    raise PictureError("address.leads_on", count=REDIRECTS)


def look_up(host: str) -> list[str]:
    """All addresses that a name leads to."""
    return [str(row[4][0]) for row in socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(one, ipaddress.IPv6Address) and (one.ipv4_mapped or one.sixtofour or one.teredo):
        return False  # it holds another one
    return (one.is_global and not one.is_multicast and not one.is_reserved
            and not one.is_unspecified)


def _checked(address: str) -> SplitResult:
    shown = shortened(address, 200)
    try:
        parts = urlsplit(address)
        right = (parts.scheme == "https" and bool(parts.hostname)
                 and parts.port in (None, PORT) and "@" not in parts.netloc)
    except ValueError:
        right = False
    if not right or any(ord(one) <= 32 or ord(one) > 126 for one in address):
        raise PictureError("address.kind", address=shown)
    return parts


def _public_address(host: str, resolve: Resolve) -> str:
    try:
        known = resolve(host)
    except (OSError, UnicodeError):
        known = []
    if not known:
        raise PictureError("address.no_server", host=shortened(host, 200))
    if not all(is_public(one) for one in known):
        raise PictureError("address.not_public", host=shortened(host, 200))
    return known[0]


def _get(connection: http.client.HTTPConnection, parts: SplitResult, end: float) -> bytes | str:
    """The answer's body, or where it leads on to."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    opened: list[socket.socket] = []
    late = threading.Timer(max(0.0, end - time.monotonic()), _cut, [connection, opened])
    late.daemon = True
    late.start()  # a server may send a byte now and then, for ever
    try:
        connection.connect()
        opened.append(connection.sock)  # the connection itself lets go of it early
        connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "vitdemo",
                                                 "Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if answer.status in (301, 302, 303, 307, 308) and answer.getheader("Location"):
            return str(answer.getheader("Location"))
        if answer.status != 200:
            raise PictureError("address.status", host=parts.hostname, status=answer.status)
        return _read(answer, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= end:
            raise _too_slow() from error
        why = "certificate" if isinstance(error, ssl.SSLError) else "unreached"
        raise PictureError(f"address.{why}", host=parts.hostname) from error
    finally:
        late.cancel()
        connection.close()


def _read(answer: http.client.HTTPResponse, end: float) -> bytes:
    parts, size, limit = [], 0, LIMITS.max_file_megabytes * 2**20
    while part := answer.read1(CHUNK):
        size += len(part)
        if size > limit:
            raise PictureError("address.large", most=LIMITS.max_file_megabytes)
        parts.append(part)
    if time.monotonic() >= end:
        raise _too_slow()
    if answer.length:  # bytes that were promised and did not come
        raise PictureError("address.cut")
    return b"".join(parts)


def _too_slow() -> PictureError:
    return PictureError("address.slow", seconds=f"{SECONDS:g}")


def _cut(connection: http.client.HTTPConnection, opened: list[socket.socket]) -> None:
    for one in opened or filter(None, [connection.sock]):
        with contextlib.suppress(OSError):  # it has ended by itself
            one.shutdown(socket.SHUT_RDWR)
