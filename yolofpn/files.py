"""Files of our own: written whole or not at all, with errors that name the fix, and the folder that caches them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import platformdirs

from yolofpn.errors import UserError
from yolofpn.text import list_line

SYNC_SECONDS = 1.0  # what a power cut may cost
NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # pipes and some network folders know no such thing
CACHE_VARIABLE = "YOLOFPN_CACHE"
RUN_WEIGHTS = "weights.safetensors"  # in the folder of a training run: the best ones
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def cache_folder() -> Path:
    """Return the cache folder: ``YOLOFPN_CACHE``, else that of the system."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("yolofpn", appauthor=False))


class AppendFile:
    """A text file that is complete after every ``append``, whenever the program dies and however full the disk is.

    What is older than ``SYNC_SECONDS`` at an ``append`` is brought to the disk by it, so that it survives a power cut.

    Args:
        path: the file; it is emptied first, unless ``keep`` is given.
        head: what it begins with.
        tail: what closes its format, such as ``]``: every append overwrites it and puts it behind itself, in one write.
        errors: what becomes of a file's name that is not UTF-8: an escape, which JSON reads back, or its own bytes
            (``surrogateescape``).
        keep: of an existing file so many bytes stay, in place of the head.

    Raises:
        UserError: it cannot be written; also from ``append``, and then the file is as it was before.
    """

    def __init__(
        self, path: Path, *, head: str = "", tail: str = "", errors: str = "backslashreplace", keep: int = 0
    ) -> None:
        self.path = path
        self._errors = errors
        self._tail = tail.encode()
        self._end = keep
        self._synced = time.monotonic()
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if keep else "wb", buffering=0)
            self._file.truncate(keep)
        if not keep:
            self.append(head)

    def append(self, text: str) -> None:
        """Write ``text`` before the tail."""
        data = text.encode("utf-8", self._errors)
        with write_errors(self.path):
            try:
                self._write_at_end(data + self._tail)
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._end)
                    self._write_at_end(self._tail)
                raise
        self._end += len(data)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            with write_errors(self.path):
                self._sync()

    def end(self, tail: str) -> None:
        """Write ``tail`` in place of the tail, as the last thing before ``close``."""
        with write_errors(self.path):
            self._write_at_end(tail.encode("utf-8", self._errors))

    def close(self) -> None:
        """Bring all to the disk and close the file."""
        with write_errors(self.path):
            try:
                self._sync()
            finally:
                self._file.close()

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in NO_SYNC:
                raise
        self._synced = time.monotonic()

    def _write_at_end(self, data: bytes) -> None:
        self._file.seek(self._end)
        while data:
            data = data[self._file.write(data) :]


class StandardOutput:
    """Standard output, flushed after every ``append``."""

    def append(self, text: str) -> None:
        """Write ``text``.

        Raises:
            UserError: whoever read the output has gone, or it leads to a full disk.
        """
        if sys.__stdout__ is None:  # the shell's >&-, or a program without a console
            raise UserError("standard output: is closed: give --output a folder")
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            # What is still buffered would fail again, loudly, when the interpreter ends.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise UserError(f"standard output: {error.strerror}: earlier output is complete") from None

    def close(self) -> None:
        """Standard output stays open: it belongs to the whole program."""


def part_path(path: Path, *, unique: bool = False) -> Path:
    """Return the temporary path of a file; ``unique`` if several processes may write it at once."""
    return path.with_name(f".{path.name}.{os.getpid()}.part" if unique else f".{path.name}.part")


@contextlib.contextmanager
def unfinished(path: Path, *, unique: bool = False) -> Iterator[Path]:
    """Where to write, in an existing folder; afterwards it has the name ``path``, or is gone where writing failed."""
    part = part_path(path, unique=unique)
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(part)):
            error.filename = str(path)  # what is shown to the user
        raise


def replace_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a whole file, its folder included, so that under ``path`` there is never half of it.

    Args:
        path: of the file.
        data: its content.
        sync: return only when the content lies on the disk, so that it survives a power cut.

    Raises:
        OSError: it cannot be written; the file that was there is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(path) as part:
        part.write_bytes(data)
        if sync:
            with part.open("rb") as file:
                os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a whole file, its folder included, so that under ``path`` there is never half of it.

    Args:
        path: of the file.
        data: its content.
        sync: return only when the content lies on the disk, so that it survives a power cut.

    Raises:
        UserError: it cannot be written.
    """
    with write_errors(path):
        replace_file(path, data, sync=sync)


def write_list(path: Path, names: Iterable[str]) -> None:
    """Write a list of files, one on each line; names that are not UTF-8 keep their bytes.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, "".join(f"{list_line(name)}\n" for name in names).encode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names the file, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "free some space, or choose another disk" if error.errno in NO_ROOM else "choose another folder"
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: cannot be written: {reason}: {remedy} with --output\nfiles written before this one are complete"
        ) from None


_locks: set[int] = set()  # handles that hold a folder


def _leave_locks_to_the_parent() -> None:
    """A process that loads images may outlive a run that was killed; the folder must be free all the same."""
    for handle in _locks:
        with contextlib.suppress(OSError):
            os.close(handle)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


@contextlib.contextmanager
def locked_output(folder: Path) -> Iterator[None]:
    """Keep other runs out of an existing output folder; the system ends the lock with the process that holds it.

    Raises:
        UserError: another run writes there.
    """
    with write_errors(folder):
        # A folder can be locked itself, which leaves no file behind, except on Windows.
        owner = os.getpid()
        place = folder / ".lock" if sys.platform == "win32" else folder
        handle = os.open(place, os.O_RDWR | os.O_CREAT if sys.platform == "win32" else os.O_RDONLY)
    try:
        if not _try_lock(handle, folder):
            raise UserError(f"{folder}: another run writes there: wait for its end, or choose another --output")
        _locks.add(handle)
        yield
    finally:
        if owner == os.getpid():  # in a forked process it is closed already
            _locks.discard(handle)
            os.close(handle)


def _try_lock(handle: int, folder: Path) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        reason = error.strerror or error
        print(f"warning: {folder}: its disk has no locks ({reason}): let no other run write there", file=sys.stderr)
    return True
