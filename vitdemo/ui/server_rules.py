"""Which names the server goes by, whose pages it answers, and what every answer says of itself."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
           "Cross-Origin-Resource-Policy": "same-origin"}


@dataclass(frozen=True)
class ServerRules:
    """Which names the server answers to, and which pages may show it in a frame.

    ``hosts`` are names without a port; "*.example.org" means all below it and "*" any. Any IP
    address is one of its names where ``addresses`` is set: no page of others can pretend to be at
    one. ``proxied`` are names that a proxy in front of it goes by. ``frames`` are sources of a
    content policy, beside the app itself.
    """

    hosts: tuple[str, ...] = LOOPBACK
    addresses: bool = False
    proxied: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    def answers_to(self, host: str) -> bool:
        """Whether a header ``Host`` names this server."""
        name = _name(host)
        return bool(name) and (_matches(name, (*self.hosts, *self.proxied))
                               or (self.addresses and _is_address(name)))

    def own_page(self, origin: str, host: str) -> bool:
        """Whether a header ``Origin`` is that of this server's own pages."""
        try:
            page = urlsplit(origin)
            default = {"http": 80, "https": 443}.get(page.scheme)
            here = urlsplit(f"//{host}")
            same = (page.hostname == here.hostname
                    and (page.port or default) == (here.port or default))
        except ValueError:
            return False
        named = tuple(name for name in self.proxied if name != "*")
        return default is not None and bool(page.hostname) and (
            same or _matches(str(page.hostname), named))

    def headers(self) -> dict[str, str]:
        """What every answer carries."""
        frames = " ".join(("'self'", *self.frames))
        found = {**HEADERS, "Content-Security-Policy": f"frame-ancestors {frames}"}
        return found if self.frames else {**found, "X-Frame-Options": "SAMEORIGIN"}


def _name(host: str) -> str:
    try:
        split = urlsplit(f"//{host}")
        plain = split.path or split.query or split.fragment or "@" in host
        return "" if plain or (split.port or 0) < 0 else split.hostname or ""
    except ValueError:
        return ""


def _matches(name: str, known: tuple[str, ...]) -> bool:
    return any(one == "*" or name == one.lower()
               or (one.startswith("*.") and name.endswith(one[1:].lower())) for one in known)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
