"""Addresses: of what kind they are, and how they are shown without secrets; nothing is opened, and little imported."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path, PurePosixPath

STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "mms", "mmsh"})
PLAYLIST_SUFFIXES = frozenset({".m3u8", ".mpd"})
_LIVE_SUFFIXES = PLAYLIST_SUFFIXES | {".mjpg", ".mjpeg", ".cgi"}
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SECRET_VALUE = re.compile(
    r"(?i)([\w-]*(?:user|usr|login|pass|pwd|token|auth|key|secret|sig|session|cred)[\w-]*=)[^&;/?#]*"
)
# Folders of data sets are called user_id=17 and session=3; those of no one password=x.
_SECRET_IN_PATH = re.compile(r"(?i)([\w-]*(?:pass|pwd|secret)[\w-]*=)[^&;/?#]*")
_HOST_AND_PORT = re.compile(r"[^:@]*:\d{1,5}")


def is_url(spec: str) -> bool:
    """Return whether ``spec`` is a URL."""
    return _URL.match(spec) is not None


def is_http(uri: str) -> bool:
    """Whether an address is one of the web."""
    return uri.partition("://")[0].lower() in ("http", "https")


def local_path(uri: str) -> Path | None:
    """The path of a local file or folder; None: it is an address of something else."""
    if uri.lower().startswith("file://"):
        from urllib.request import url2pathname  # it imports what opens connections

        return Path(url2pathname(urllib.parse.urlsplit(uri).path))
    return None if is_url(uri) else Path(uri)


def shown(uri: str) -> str:
    """An address or path as it may be printed and stored."""
    return shown_url(uri) if is_url(uri) else uri


def looks_live(url: str) -> bool:
    """Return whether a URL has the scheme or suffix of a live stream."""
    return url_suffix(url) in _LIVE_SUFFIXES


def shown_url(url: str) -> str:
    """``url`` without user, password and values that look like secrets, for names, files and logs.

    Values are those of the query; in a path only passwords, except in addresses of streams, which some cameras want
    users and tokens in.
    """
    scheme, _, rest = without_user(url).partition("://")
    if "=" not in rest:  # the patterns take a millisecond, also where there is no value
        return f"{scheme}://{rest}"
    if scheme.lower() in STREAM_SCHEMES:
        return f"{scheme}://" + _SECRET_VALUE.sub(r"\1***", rest)
    path = re.split("[?#]", rest, maxsplit=1)[0]
    query = _SECRET_VALUE.sub(r"\1***", rest[len(path) :])
    return f"{scheme}://" + _SECRET_IN_PATH.sub(r"\1***", path) + query


def without_user(url: str) -> str:
    """``url`` without user and password.

    A password may hold any character, so where there may be one everything up to the last ``@`` goes. Only
    ``http://host:8080/a@2x.jpg``, and the like of storage, has a port there, as the standard says.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    has_port = scheme.lower() not in STREAM_SCHEMES and _HOST_AND_PORT.fullmatch(authority)
    if "@" in authority or (":" in authority and not has_port):
        rest = rest.rpartition("@")[2]
    return f"{scheme}://{rest}"


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


def url_suffix(url: str) -> str:
    """The suffix of the file that a URL names, in small letters; empty without one."""
    try:
        return PurePosixPath(urllib.parse.urlsplit(url).path).suffix.lower()
    except ValueError:  # no address at all
        return ""
