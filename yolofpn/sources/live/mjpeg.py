"""MJPEG over http, read by Python for FFmpeg, so that a frame has a limit before it is in memory."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer

from yolofpn.errors import InputError
from yolofpn.sources.http import Deadline
from yolofpn.sources.live.capture import Patience
from yolofpn.sources.remote import MAX_BYTES, open_address

_OTHERS = (".m3u8", ".mpd", ".mp4", ".ts", ".flv", ".webm", ".mkv")  # formats that FFmpeg itself asks for


def may_be_mjpeg(url: str) -> bool:
    """Return whether to read a URL as MJPEG over http, which the URL itself does not tell."""
    path = url.partition("?")[0].lower()
    return path.startswith(("http://", "https://")) and not path.endswith(_OTHERS)


class Body:
    """The file object that av.open reads; it counts the bytes between frames.

    Args:
        response: with the parts in its body.
        deadline: when the next frame must be there.
        seconds: from one frame to the next at most.
    """

    def __init__(self, response: http.client.HTTPResponse, deadline: Deadline, seconds: float) -> None:
        self._response = response
        self._deadline = deadline
        self._seconds = seconds
        self._bytes = 0
        self.next_frame()

    def next_frame(self) -> None:
        """A frame is complete: the count begins anew."""
        self._bytes = 0
        self._deadline.extend(self._seconds)

    def read(self, size: int) -> bytes:
        """Return received data, up to ``size`` bytes.

        Raises:
            InputError: if more than ``MAX_BYTES`` have come without a frame.
            TimeoutError: if no frame has come in time.
        """
        self._deadline.left()
        data = self._response.read1(size)
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise InputError(f"a frame of more than {MAX_BYTES // 2**20} MiB")
        return data


@contextmanager
def open_mjpeg(url: str, patience: Patience, options: dict[str, str]) -> Iterator[tuple[InputContainer, Body] | None]:
    """The parts of a multipart answer as a container; None if the answer is of another kind.

    Raises:
        OSError, ValueError, http.client.HTTPException, av.FFmpegError, InputError: it cannot be opened.
    """
    deadline = Deadline(patience.open_timeout)
    with open_address(url, deadline) as response:
        if not response.headers.get_content_type().startswith("multipart/"):
            yield None
            return
        body = Body(response, deadline, patience.read_timeout)
        with av.open(body, "r", format="mpjpeg", options=options, metadata_errors="replace") as container:
            yield container, body
