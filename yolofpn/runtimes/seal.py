"""Exported graphs that hold the sha256 of themselves: one flipped bit of a weight is noticed when they are opened."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from pathlib import Path

UNSEALED = hashlib.sha256(b"yolofpn").hexdigest()  # stands where the digest will be


def seal(path: Path, beside: Sequence[Path] = ()) -> None:
    """Write the digest of a graph's files into it, where ``UNSEALED`` stands.

    Args:
        path: of the graph.
        beside: further files that belong to it.

    Raises:
        ValueError: ``UNSEALED`` does not stand there once.
        OSError: the file cannot be written.
    """
    digest = digest_of(path, UNSEALED, beside)
    if digest is None:
        raise ValueError(f"{path}: has no single place for its digest")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        start = content.find(UNSEALED.encode())
        content[start : start + len(digest)] = digest.encode()


def digest_of(path: Path, written: str, beside: Sequence[Path] = ()) -> str | None:
    """The sha256 of a graph's files, as if ``UNSEALED`` stood in place of the digest ``written`` in it.

    Args:
        path: of the graph.
        written: what it says that its digest is.
        beside: further files that belong to it.

    Returns:
        None if ``written`` does not stand there once.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(written.encode())
        if start < 0 or content.find(written.encode(), start + 1) >= 0:
            return None
        with memoryview(content) as view:
            digest.update(view[:start])
            digest.update(UNSEALED.encode())
            digest.update(view[start + len(written) :])
    for other in beside:
        with other.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
