"""What addresses lead to, and images fetched from them."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Literal

from yolofpn.addresses import PLAYLIST_SUFFIXES, password_hint, shown_url, url_suffix
from yolofpn.data.images import IMAGE_SUFFIXES
from yolofpn.errors import InputError
from yolofpn.sources.http import Deadline, handlers

HEAD_SECONDS = 15.0  # for the head of an answer, redirects included
MAX_BYTES = 64 * 2**20  # of an image
MAX_SECONDS = 120.0  # for a whole image
_PLAYLIST_TYPES = frozenset(
    {
        "application/vnd.apple.mpegurl",
        "application/x-mpegurl",
        "audio/mpegurl",
        "audio/x-mpegurl",
        "application/dash+xml",
    }
)


@dataclass(frozen=True)
class Remote:
    """Detects what an http URL leads to: an image, a video file or a stream."""

    kind: Literal["image", "video", "stream"]
    data: bytes = b""


def fetch(url: str) -> Remote:
    """Ask an http address what it is, by content type and then by suffix; an image is read at once.

    Raises:
        InputError: if no answer, an error, a web page, or an image of more than ``MAX_BYTES``.
    """
    name = shown_url(url)
    deadline = Deadline(HEAD_SECONDS)
    try:
        with open_address(url, deadline) as response:
            kind = _kind(response, name)
            deadline.extend(MAX_SECONDS)
            return Remote(kind, _read(response, name, deadline) if kind == "image" else b"")
    except urllib.error.HTTPError as error:
        hint = f"check the address{password_hint(url)}"
        raise InputError(f"{name}: the server answers {error.code} {error.reason}; {hint}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        # The text of these errors may repeat parts of the address, so only the kind of error is told.
        reason = getattr(error, "reason", error)
        text = "timed out" if isinstance(reason, TimeoutError) else getattr(reason, "strerror", None)
        hint = f"check the address{password_hint(url)}"
        raise InputError(f"{name}: no answer ({text or type(reason).__name__}); {hint}") from None


def open_address(url: str, deadline: Deadline) -> http.client.HTTPResponse:
    """The answer of an http address, with its user and password; its head must come by the deadline.

    Raises:
        OSError, ValueError, http.client.HTTPException: there is none, or it is an error.
    """
    response: http.client.HTTPResponse = _opener(url, deadline).open(_without_user(url))
    return response


def _opener(url: str, deadline: Deadline) -> urllib.request.OpenerDirector:
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return urllib.request.build_opener(*handlers(deadline))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
    passwords.add_password(None, _without_user(url), user, password)
    return urllib.request.build_opener(
        *handlers(deadline),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )


def _without_user(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _kind(response: http.client.HTTPResponse, name: str) -> Literal["image", "video", "stream"]:
    content_type = response.headers.get_content_type() if "Content-Type" in response.headers else ""
    suffix = url_suffix(response.url)
    if content_type == "text/html":
        raise InputError(f"{name}: a web page, not an image or video; give the address of the file itself")
    if content_type.startswith("image/"):
        return "image"
    if content_type in _PLAYLIST_TYPES or content_type.startswith("multipart/"):
        return "stream"
    if not content_type.startswith("video/"):
        if suffix in IMAGE_SUFFIXES:
            return "image"
        if suffix in PLAYLIST_SUFFIXES:
            return "stream"
    return "video" if "Content-Length" in response.headers else "stream"


def _read(response: http.client.HTTPResponse, name: str, deadline: Deadline) -> bytes:
    data = bytearray()
    try:
        while block := response.read1(2**16):
            data += block
            if len(data) > MAX_BYTES:
                raise InputError(
                    f"{name}: the image has more than {MAX_BYTES // 2**20} MiB; download and shrink it first"
                )
            deadline.left()
    except TimeoutError:
        if deadline.over:
            raise InputError(f"{name}: the image takes longer than {MAX_SECONDS:.0f} s; download it first") from None
        raise
    stated = response.headers.get("Content-Length")
    if stated is not None and len(data) < int(stated):
        raise InputError(f"{name}: cut off after {len(data)} of {stated} bytes; try again")
    return bytes(data)
