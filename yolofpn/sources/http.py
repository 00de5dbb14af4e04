"""http and https with one deadline for an answer as a whole, however slowly it trickles in."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.request
from typing import Any

SILENCE = 15.0  # seconds without a byte


class Deadline:
    """When an answer must be there.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def extend(self, seconds: float) -> None:
        """Extend the deadline to this many seconds from now."""
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._end

    def left(self) -> float:
        """Return the timeout of the next read in seconds.

        Raises:
            TimeoutError: if it is over.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, SILENCE)


def handlers(deadline: Deadline) -> tuple[urllib.request.BaseHandler, ...]:
    """For an opener of urllib whose connections all keep to one deadline: redirects and retries share it."""
    return _Http(deadline), _Https(deadline)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> Any:  # noqa: ANN401 as urllib has it
        def connect(host: str, *, timeout: float) -> http.client.HTTPConnection:
            return _limited(http.client.HTTPConnection(host, timeout=self._deadline.left()), self._deadline)

        return self.do_open(connect, req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        # Not HTTPSHandler's own: it may read all certificates, which takes longer than most answers over http.
        urllib.request.AbstractHTTPHandler.__init__(self)
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> Any:  # noqa: ANN401 as urllib has it
        def connect(host: str, *, timeout: float) -> http.client.HTTPConnection:
            connection = http.client.HTTPSConnection(
                host, timeout=self._deadline.left(), context=ssl.create_default_context()
            )
            return _limited(connection, self._deadline)

        return self.do_open(connect, req)  # type: ignore[arg-type]


def _limited(connection: http.client.HTTPConnection, deadline: Deadline) -> http.client.HTTPConnection:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 as its base
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, deadline))

    connection.response_class = Response
    return connection


class _Reader(io.RawIOBase):
    """Reads from a socket, with the remaining time as timeout."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 as its base
        self._sock.settimeout(self._deadline.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
