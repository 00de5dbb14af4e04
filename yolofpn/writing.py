"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def part_path(path: Path) -> Path:
    """Where a file is put together before it gets its name."""
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Where to write, in an existing folder; afterwards it has the name ``path``, or is gone where writing failed."""
    part = part_path(path)
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
