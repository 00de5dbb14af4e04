"""Files that a pattern such as ``day*/**/*.jpg`` names, by a walk that ends: in depth, and where links lead back up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from glob import has_magic
from itertools import pairwise
from pathlib import Path

from yolofpn.reading import MAX_FOLDER_DEPTH

ANY_FOLDERS = "**"


def matching_paths(pattern: str, too_deep: list[str] | None = None) -> Iterator[str]:
    """Files and folders that match, in no particular order and perhaps twice; hidden ones only where written so.

    Args:
        pattern: as of ``glob`` with ``recursive=True``: ``**`` as a part of its own is any number of folders.
        too_deep: receives the folders below ``**`` that are nested deeper than ``MAX_FOLDER_DEPTH`` and skipped.
    """
    path = Path(pattern)
    parts = [part for part in path.parts if part != path.anchor]
    several = [part == before == ANY_FOLDERS for before, part in pairwise(["", *parts])]
    single = [part for part, repeated in zip(parts, several, strict=True) if not repeated]
    return _matching(path.anchor, single, [] if too_deep is None else too_deep)


def _matching(folder: str, parts: Sequence[str], too_deep: list[str]) -> Iterator[str]:
    first, rest = parts[0], parts[1:]
    if first == ANY_FOLDERS:
        for below in _folders(folder, frozenset(), too_deep):
            if rest:
                yield from _matching(below, rest, too_deep)
            else:
                yield from (_join(below, entry.name) for entry in _entries(below) if not entry.name.startswith("."))
        return
    names = [entry.name for entry in _entries(folder) if _fits(entry.name, first)] if has_magic(first) else [first]
    for path in (_join(folder, name) for name in names):
        if not rest:
            if os.path.lexists(path):
                yield path
        elif os.path.isdir(path):  # noqa: PTH112 many of them
            yield from _matching(path, rest, too_deep)


def _folders(folder: str, above: frozenset[tuple[int, int]], too_deep: list[str]) -> Iterator[str]:
    """``folder`` and all below it; ``above`` are those on the top-down pathway, against circles of links."""
    try:
        status = os.stat(folder or os.curdir)  # noqa: PTH116 many of them
    except (OSError, ValueError):
        return
    real = status.st_dev, status.st_ino
    if real in above:
        return
    if len(above) == MAX_FOLDER_DEPTH:
        too_deep.append(folder)
        return
    yield folder
    for entry in _entries(folder):
        if not entry.name.startswith(".") and _is_dir(entry):
            yield from _folders(_join(folder, entry.name), above | {real}, too_deep)


def _join(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 many of them


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it cannot be read."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return list(entries)
    except (OSError, ValueError):
        return []


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) and (pattern.startswith(".") or not name.startswith("."))
