"""Shards of object storage and web servers, kept on the disk up to a limit.

The least recently used ones are removed. Each run looks once whether a kept shard is still that of its URL. All
processes of a machine share the folder: one downloads a shard, the others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from yolofpn.addresses import is_url, shown
from yolofpn.errors import InputError, UserError
from yolofpn.files import NO_ROOM, cache_folder, replace_file, unfinished
from yolofpn.remote_files import attempted, file_system

CACHE_VARIABLE = "YOLOFPN_SHARD_CACHE_GB"
DEFAULT_GB = 50.0
FAILED_FOR = 60.0  # seconds before a failed download is begun again: each image of the shard asks for it
CHUNK = 4 * 2**20
# What file systems of fsspec say of a file that changes with its content, each by names of its own.
_MARKS = ("size", "ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "Last-Modified", "LastModified", "created")

_compared: set[str] = set()  # URLs of this process, or of the one that forked it
# When and why downloads failed, and which file (its inode) was kept then, by URL.
_failed: dict[str, tuple[float, str, int | None]] = {}


def local_shard(place: str) -> Path:
    """A file with the content of a shard, downloaded if it has to be.

    Raises:
        InputError: it cannot be downloaded.
        UserError: no shard can be kept, as the disk is full or ``YOLOFPN_SHARD_CACHE_GB`` is no number.
    """
    if not is_url(place):
        return Path(place)
    limit_bytes()  # that it is wrong is said before the first download
    folder = cache_folder() / "shards"
    path = folder / (hashlib.sha256(place.encode()).hexdigest()[:32] + ".tar")
    if place not in _compared or not _touch(path):
        _refuse_recent_failure(place, path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_suffix(".lock")):
                if not _touch(path) or not _is_current(place, path):
                    version = _version(place)  # before the download: what changes meanwhile is seen by the next run
                    _download(place, path)
                    replace_file(_note(path), (version or "").encode())
                    _make_room(folder, path)
                _compared.add(place)
        except OSError as error:
            _refuse_full_disk(folder, error)
            raise InputError(f"{folder}: {error.strerror or error}: cannot keep shards") from None
    return path


def kept_version(path: Path) -> str:
    """What the store said of a kept shard when it was downloaded; empty if nothing is known."""
    try:
        return _note(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _note(path: Path) -> Path:
    return path.with_suffix(".version")


def _is_current(place: str, path: Path) -> bool:
    """Whether a kept shard is that of its URL, as far as the store can be asked."""
    if place in _compared:
        return True
    now = _version(place)
    return now is None or now == kept_version(path)


def _version(place: str) -> str | None:
    """Size, ETag or the like of a URL as JSON; None if the store does not answer."""
    try:
        system, name = file_system(place, "shards")
        info = system.info(name)
    except Exception:  # each file system has its own; what is wrong is said by the download
        return None
    return json.dumps({mark: str(info[mark]) for mark in _MARKS if info.get(mark) is not None})


def limit_bytes() -> int:
    """How much the folder may hold; ``YOLOFPN_SHARD_CACHE_GB``, by default 50 GB.

    Raises:
        UserError: it is no number, or negative.
    """
    written = os.environ.get(CACHE_VARIABLE, "")
    try:
        limit = int(float(written or DEFAULT_GB) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise UserError(f"{CACHE_VARIABLE}={written}: is no number of gigabytes: give one such as 50")
    return limit


def require_room(needed: int, why: str) -> None:
    """The shards that are read in turns have to fit, or each image would download a whole one again.

    Args:
        needed: their bytes.
        why: what they are, for the message.

    Raises:
        UserError: they do not fit.
    """
    if needed > limit_bytes():
        raise UserError(
            f"{CACHE_VARIABLE}: {limit_bytes() / 1e9:g} GB hold less than {why}: set it to {needed / 1e9:.3g} or more, "
            "or lower train.shuffle_shards"
        )


def _touch(path: Path) -> bool:
    """Note that a shard was used; whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _refuse_recent_failure(place: str, path: Path) -> None:
    when, why, kept = _failed.get(place, (0.0, "", None))
    if why and time.monotonic() < when + FAILED_FOR and _inode(path) == kept:  # no other process has downloaded it
        raise InputError(why)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _download(place: str, path: Path) -> None:
    def copy() -> None:
        with unfinished(path, unique=True) as part, part.open("wb") as target, system.open(name, "rb") as source:
            shutil.copyfileobj(source, target, CHUNK)

    for part in path.parent.glob(f".{path.name}.*.part"):  # of processes that were killed: no other one has the lock
        with contextlib.suppress(OSError):
            part.unlink()
    system, name = file_system(place, "shards")
    try:
        attempted(copy, shown(place), "downloaded", to_disk=True)
    except InputError as error:
        _failed[place] = time.monotonic(), str(error), _inode(path)
        raise


def _refuse_full_disk(folder: Path, error: OSError) -> None:
    if error.errno in NO_ROOM:
        raise UserError(
            f"{folder}: {error.strerror}: make room, lower {CACHE_VARIABLE}, or set YOLOFPN_CACHE to another disk"
        ) from None


def _make_room(folder: Path, newest: Path) -> None:
    """Remove the shards that were not used for longest, but not the newest one."""
    used = []
    for path in folder.glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            used.append((stat.st_mtime_ns, stat.st_size, path))
    total, limit = sum(size for _, size, _ in used), limit_bytes()
    for _, size, path in sorted(used):
        if total <= limit:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            _note(path).unlink(missing_ok=True)
            total -= size


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time; where the system has no such locks, each downloads for itself."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
