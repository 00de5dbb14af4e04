"""Login sessions and their expiry."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from yolofpn.demo.limits import SessionLimits


@dataclass
class _Session:
    address: str
    began: float
    used: float


class Sessions:
    """The sessions of a server; each ends when it was not used for a while, and some days after it began.

    Args:
        limits: of their number and age.
        clock: seconds.
    """

    def __init__(self, limits: SessionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # the one used longest ago first
        self._of_address: Counter[str] = Counter()

    def begin(self, address: str) -> str:
        """A new one, whose key cannot be guessed; the oldest of the address, or of all, may end for it."""
        if self._of_address[address] >= self._limits.per_address:
            self.end(next(key for key, session in self._sessions.items() if session.address == address))
        elif len(self._sessions) >= self._limits.sessions:
            self.end(next(iter(self._sessions)))
        key = secrets.token_urlsafe(24)
        now = self._clock()
        self._sessions[key] = _Session(address, now, now)
        self._of_address[address] += 1
        return key

    def use(self, key: str) -> bool:
        """Return whether ``key`` is a valid session key, and renew it."""
        session = self._sessions.get(key)
        if session is None:
            return False
        now = self._clock()
        if now - session.used > self._limits.idle_seconds or now - session.began > self._limits.seconds:
            self.end(key)
            return False
        session.used = now
        self._sessions.move_to_end(key)
        return True

    def end(self, key: str) -> None:
        """Forget a session."""
        address = self._sessions.pop(key).address
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def __len__(self) -> int:
        return len(self._sessions)


def read_cookie(headers: Iterable[str], name: str, most_chars: int) -> str:
    """The value of a cookie, empty if it is not there.

    ``http.cookies`` is not used: before Python 3.11.10 its time grows with the square of a hostile header's length.

    Args:
        headers: the values of all ``Cookie`` headers of a request.
        name: of the cookie.
        most_chars: of a header; what lies behind is ignored.
    """
    for header in headers:
        for part in header[:most_chars].split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return ""


def address_key(host: str) -> str:
    """Return the key that a client is counted by: its IPv4 address, or the /64 network of its IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
