"""Files that others named: only regular ones are read, since a pipe, socket or device might never give or never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class SpecialFileError(OSError):
    """A pipe, socket or device in the place of a file: reading it might wait for ever, or never end."""

    def __str__(self) -> str:
        return str(self.strerror)


def require_regular_file(path: str | Path) -> None:
    """See that a path leads to a regular file, for libraries that open it themselves.

    Raises:
        OSError: it is missing, or a pipe, socket or device (``SpecialFileError``); a folder is left to the reader.
    """
    _refuse_special(os.stat(path).st_mode, path)  # noqa: PTH116 takes both kinds of path


def open_regular_file(path: str | Path) -> BinaryIO:
    """A regular file, to be read; unlike ``open`` it never waits for another program.

    Raises:
        OSError: it cannot be opened, or is a pipe, socket or device (``SpecialFileError``).
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 takes both kinds of path; the caller closes it
    try:
        _refuse_special(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe waits for its writer otherwise


def special_kind(path: str | Path) -> str | None:
    """What a path leads to that is neither file nor folder ("a pipe"); None for those, and where nothing is."""
    try:
        return _kind(os.stat(path).st_mode)  # noqa: PTH116 takes both kinds of path
    except (OSError, ValueError):
        return None


def _refuse_special(mode: int, path: str | Path) -> None:
    if kind := _kind(mode):
        raise SpecialFileError(errno.EINVAL, f"is {kind}, not a file", str(path))


def _kind(mode: int) -> str | None:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "a device")


def read_whole(path: str | Path) -> bytes:
    """The content of a regular file of any size: COCO's annotations take half a gigabyte.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular_file(path) as file:
        return file.read()
