"""Addresses: what they lead to, how they are shown without secrets, and images fetched from them."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from yolofpn.data.images import IMAGE_SUFFIXES
from yolofpn.errors import InputError
from yolofpn.sources.http import Deadline, handlers

HEAD_SECONDS = 15.0  # for the head of an answer, redirects included
MAX_BYTES = 64 * 2**20  # of an image
MAX_SECONDS = 120.0  # for a whole image
STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "mms", "mmsh"})
_PLAYLIST_TYPES = frozenset(
    {
        "application/vnd.apple.mpegurl",
        "application/x-mpegurl",
        "audio/mpegurl",
        "audio/x-mpegurl",
        "application/dash+xml",
    }
)
_PLAYLIST_SUFFIXES = frozenset({".m3u8", ".mpd"})
_LIVE_SUFFIXES = _PLAYLIST_SUFFIXES | {".mjpg", ".mjpeg", ".cgi"}
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SECRET_VALUE = re.compile(r"(?i)([\w-]*(?:user|usr|login|pass|pwd|token|auth|key|secret|sig|session)[\w-]*=)[^&;/?#]*")


@dataclass(frozen=True)
class Remote:
    """Detects what an http URL leads to: an image, a video file or a stream."""

    kind: Literal["image", "video", "stream"]
    data: bytes = b""


def is_url(spec: str) -> bool:
    """Return whether ``spec`` is a URL."""
    return _URL.match(spec) is not None


def looks_live(url: str) -> bool:
    """Return whether a URL has the scheme or suffix of a live stream."""
    return _suffix(url) in _LIVE_SUFFIXES


def shown_url(url: str) -> str:
    """``url`` without user, password and values that look like secrets, for names, files and logs.

    A password may hold any character, so where there may be one everything up to the last ``@`` goes.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or ":" in authority:
        rest = rest.rpartition("@")[2]
    return f"{scheme}://" + _SECRET_VALUE.sub(r"\1***", rest)


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


def password_hint(url: str) -> str:
    """Return a hint for URLs with special characters in user or password; empty if there are none."""
    user_and_password, at, _ = url.partition("://")[2].rpartition("@")
    user, colon, password = user_and_password.partition(":")
    # What looks like a port and a path, as in host:8080/a@2x.jpg, is no password.
    if not (at and colon) or "/" in user or re.match(r"\d+[/?]", password):
        return ""
    odd = [character for character in "#@/?[]" if character in password]
    if re.search(r"%(?![0-9A-Fa-f]{2})", password):
        odd.insert(0, "%")
    written = " and ".join(f"{character} as {urllib.parse.quote(character, safe='')}" for character in odd)
    return f"; in a password write {written}" if odd else ""


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
    suffix = _suffix(response.url)
    if content_type == "text/html":
        raise InputError(f"{name}: a web page, not an image or video; give the address of the file itself")
    if content_type.startswith("image/"):
        return "image"
    if content_type in _PLAYLIST_TYPES or content_type.startswith("multipart/"):
        return "stream"
    if not content_type.startswith("video/"):
        if suffix in IMAGE_SUFFIXES:
            return "image"
        if suffix in _PLAYLIST_SUFFIXES:
            return "stream"
    return "video" if "Content-Length" in response.headers else "stream"


def _suffix(url: str) -> str:
    try:
        return PurePosixPath(urllib.parse.urlsplit(url).path).suffix.lower()
    except ValueError:  # no address at all
        return ""


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
