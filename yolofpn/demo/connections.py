"""Limits on connections before login: their number, idle time and log messages."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from yolofpn.demo.limits import ConnectionLimits
from yolofpn.demo.sessions import address_key

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_ACCEPTED_AT_ONCE = 64  # before other connections get their turn
_FILES_BESIDE = 100  # that the process needs for weights, videos and libraries

logger = logging.getLogger("yolofpn.demo")


class BoundedListener(socket.socket):
    """A listening socket that closes at once what comes beyond the limits, before any handshake.

    Args:
        limits: of connections, in all and of one address.
        proxies: whose connections are those of many users, and count in all alone.
        **made: what ``socket.socket`` takes.
    """

    def __init__(self, limits: ConnectionLimits, proxies: Sequence[Network] = (), **made: Any) -> None:  # noqa: ANN401
        super().__init__(**made)
        self._most = _allowed(limits.connections)
        self._most_of_address = limits.per_address
        self._proxies = proxies
        self._connections: list[tuple[str, socket.socket]] = []
        self._refused = 0
        self._log_seconds = limits.log_seconds
        self._told = -limits.log_seconds

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection within the limits.

        Raises:
            BlockingIOError: if there is none now.
        """
        for _ in range(_ACCEPTED_AT_ONCE):
            connection, address = super().accept()
            host = str(address[0])
            if self._has_room(host):
                self._connections.append((address_key(host), connection))
                return connection, address
            connection.close()
            self._tell_refused()
        raise BlockingIOError

    def _has_room(self, host: str) -> bool:
        key = address_key(host)
        self._connections = [(other, each) for other, each in self._connections if each.fileno() >= 0]
        if len(self._connections) >= self._most:
            return False
        of_address = sum(other == key for other, _ in self._connections)
        return of_address < self._most_of_address or is_proxy(host, self._proxies)

    def _tell_refused(self) -> None:
        self._refused += 1
        if time.monotonic() - self._told >= self._log_seconds:
            logger.warning(
                "%d connections refused: more than %d in all, or %d of one address",
                self._refused,
                self._most,
                self._most_of_address,
            )
            self._refused, self._told = 0, time.monotonic()


def is_proxy(host: str, proxies: Sequence[Network]) -> bool:
    """Return whether an address is that of a trusted proxy."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in proxies)


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's own, on every system the one that takes connections from ``BoundedListener.accept``.

    Args:
        limits: of connections.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__()
        self._limits = limits

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:  # noqa: ANN401
        """Accept connections as usual, with a timeout of the TLS handshake."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._limits.head_seconds
        return await super().create_server(*arguments, **options)


class _Stalled:
    """Closes a connection whose client does not read the response."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, seconds: float) -> None:
        self._loop = loop
        self._transport = transport
        self._seconds = seconds
        self._left = 0
        self.progress = False
        self._timer = loop.call_later(seconds, self._check)

    def _check(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left and left >= self._left > 0 and not self.progress:
            self._transport.abort()
            return
        self._left, self.progress = left, False
        self._timer = self._loop.call_later(self._seconds / 2, self._check)

    def stop(self) -> None:
        self._timer.cancel()


class HttpProtocol(H11Protocol):
    """uvicorn's, with deadlines for the head of a request and for clients that take nothing of an answer.

    Args:
        limits: of connections.
        **made: what uvicorn gives.
    """

    def __init__(self, limits: ConnectionLimits, **made: Any) -> None:  # noqa: ANN401
        super().__init__(**made)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled: _Stalled | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The deadline of the first request begins."""
        super().connection_made(transport)
        self._stalled = _Stalled(self.loop, transport, self._limits.stall_seconds)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._unwatch()
        if self._stalled is not None:
            self._stalled.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a head does not move its deadline."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The deadline of the next request begins; uvicorn's own is that of its first byte."""
        super().on_response_complete()
        self._watch()

    def resume_writing(self) -> None:
        """The client took something."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.progress = True

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to another protocol."""
        self._unwatch()
        if self._stalled is not None:
            self._stalled.stop()
        super().handle_websocket_upgrade(event)

    def _watch(self) -> None:
        """Start the timeout for a request head, or for the rest of a rejected body."""
        unwanted = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not unwanted:
            self._unwatch()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head_seconds, self.transport.abort)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which ends a connection whose handshake fails, and reads no more than its client takes.

    Args:
        limits: of connections.
        **made: what uvicorn gives.
    """

    def __init__(self, limits: ConnectionLimits, **made: Any) -> None:  # noqa: ANN401
        super().__init__(**made)
        self._limits = limits
        self._stalled: _Stalled | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to check that the client reads responses."""
        super().connection_made(transport)
        self._stalled = _Stalled(self.loop, self.transport, self._limits.stall_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        if self._stalled is not None:
            self._stalled.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The head has come whole, so a handshake that has not begun now never does."""
        super().data_received(data)
        if not self.handshake_initiated:
            self.transport.close()

    def pause_writing(self) -> None:
        """Pings are answered at once, so that who reads no answers must not send more."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client took something."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.progress = True
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()


class FewLines(logging.Filter):
    """Limits log messages about errors that clients can cause to one per minute, without traceback.

    Args:
        clock: seconds.
    """

    FAULTS = (
        "Invalid HTTP request",
        "Unsupported upgrade",
        "No supported WebSocket",
        "Invalid UTF-8",
        "opening handshake",
    )

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            return False  # the server ends; one line says how many requests did not
        fault = next((text for text in self.FAULTS if str(record.msg).startswith(text)), None)
        if fault is None:
            return True
        record.exc_info = record.exc_text = None
        now = self._clock()
        if now - self._told.get(fault, -self._seconds) < self._seconds:
            return False
        self._told[fault] = now
        return True


def _allowed(connections: int) -> int:
    """No more connections than the system gives files to the process: else it says so for each of them."""
    try:
        import resource
    except ImportError:  # Windows
        return connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, max(16, soft - _FILES_BESIDE))
