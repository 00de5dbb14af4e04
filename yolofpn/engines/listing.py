"""Names the images of folders, patterns, lists, tables and shards one after the other, without opening any of them."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal

from yolofpn.data.images import VIDEO_SUFFIXES, readable_suffixes
from yolofpn.engines.path_tables import TABLE_SUFFIXES, table_paths
from yolofpn.engines.storage import (
    attempted,
    entries_of,
    file_system,
    is_http,
    join,
    local_path,
    open_stream,
    shown,
)
from yolofpn.errors import InputError, UserError
from yolofpn.reading import MAX_FOLDER_DEPTH
from yolofpn.sources.addresses import is_url
from yolofpn.sources.patterns import matching_paths
from yolofpn.sources.resolve import files_below
from yolofpn.text import from_list_line

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_QUERY = re.compile("[?#]")
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Listed:
    """An image, a tar of images, or what could not be listed.

    Attributes:
        uri: a path or address as it is opened, perhaps with secrets.
        kind: 'image', 'tar', or 'failed'.
        message: why it failed.
    """

    uri: str
    kind: Literal["image", "tar", "failed"]
    message: str = ""


def list_images(specs: Sequence[str], column: str | None = None) -> Iterator[Listed]:
    """All images and tars of ``specs``, in order; what cannot be listed stands among them.

    A spec is an image, a folder (images and tars in and below it, sorted), a pattern, a tar, or a list of these: a
    ``.txt`` file with one per line, or a Parquet or CSV file; all of them local or at an address. ``{000..099}`` in an
    address or path stands for each number, as WebDataset has it.

    Args:
        specs: one or more.
        column: of the paths in Parquet and CSV files; by default see ``table_paths``.
    """
    return chain.from_iterable(_or_failed(each, column) for spec in specs for each in _numbered(spec))


def check_sources(specs: Sequence[str], column: str | None = None) -> None:
    """See that the first image of each spec can be named, so that a mistyped one is found before workers start.

    Raises:
        UserError: of a spec none can.
    """
    for spec in specs:
        first = next(_named(next(_numbered(spec)), column), None)
        if first is None:
            raise UserError(f"{shown(spec)}: no images or tar files in it")
        if first.kind == "failed":
            raise UserError(first.message)


def _numbered(spec: str) -> Iterator[str]:
    found = _NUMBERS.search(spec)
    if found is None:
        yield spec
        return
    first, last = found[1], found[2]
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{spec[: found.start()]}{number:0{len(first)}}{spec[found.end() :]}")


def _or_failed(spec: str, column: str | None) -> Iterator[Listed]:
    try:
        yield from _named(spec, column)
    except InputError as error:
        yield Listed(spec, "failed", str(error))


def _named(spec: str, column: str | None) -> Iterator[Listed]:
    suffix = _suffix(spec)
    if suffix == ".txt":
        return _from_lines(spec, _lines(spec), column)
    if suffix in TABLE_SUFFIXES:
        return _from_lines(spec, table_paths(spec, column), column)
    path = local_path(spec)
    if path is not None:
        return _from_path(path)
    return _from_address(spec)


def _from_path(path: Path) -> Iterator[Listed]:
    if path.is_dir():
        return _from_folder(path)
    if path.exists():
        return iter([_file(str(path))])
    if not glob.has_magic(str(path)):
        raise InputError(f"{path}: no such file or folder; check the path")
    matches = sorted(set(matching_paths(str(path))))
    if not matches:
        raise InputError(f"{path}: nothing matches this pattern; check it")
    wanted = [match for match in matches if Path(match).is_dir() or _is_wanted(match)]
    return chain.from_iterable(_from_path(Path(match)) for match in wanted or matches)


def _from_folder(folder: Path) -> Iterator[Listed]:
    for each in files_below(folder, lambda path: _is_wanted(path.name)):
        if isinstance(each, Path):
            yield _file(str(each))
        else:
            yield Listed(each.name, "failed", _message(each.frames))


def _from_address(uri: str) -> Iterator[Listed]:
    if is_http(uri):
        return iter([_file(uri)])
    system, place = file_system(uri)
    if glob.has_magic(place):
        matches = attempted(lambda: sorted(system.glob(place)), shown(uri), "listed")
        if not matches:
            raise InputError(f"{shown(uri)}: nothing matches this pattern; check it")
        return (_file(system.unstrip_protocol(match)) for match in matches)
    if _is_wanted(uri) and not uri.endswith("/"):
        return iter([_file(uri)])
    return _below(uri, MAX_FOLDER_DEPTH)


def _below(uri: str, depth: int) -> Iterator[Listed]:
    if depth == 0:
        raise InputError(f"{shown(uri)}: skipped, folders are nested too deep; name it as a source")
    for name, is_folder in entries_of(uri):
        if name.startswith("."):
            continue
        if is_folder:
            try:
                yield from _below(join(uri, name), depth - 1)
            except InputError as error:
                yield Listed(join(uri, name), "failed", str(error))
        elif _is_wanted(name):
            yield _file(join(uri, name))


def _lines(uri: str) -> Iterator[str]:
    try:
        with open_stream(uri) as stream:
            for line in stream:
                text = line.decode("utf-8", "surrogateescape").strip().removeprefix("\ufeff")
                if text and not text.startswith("#"):
                    yield from_list_line(text)
    except OSError as error:
        raise InputError(f"{shown(uri)}: not read to its end ({type(error).__name__}); run again") from None


def _from_lines(origin: str, lines: Iterator[str], column: str | None) -> Iterator[Listed]:
    """Images of a list; relative paths are tried as written, then from where the list lies."""
    for line in lines:
        if _suffix(line) in (".txt", *TABLE_SUFFIXES):
            message = f"{shown(line)}: a list cannot name another list; name both on the command line"
            yield Listed(line, "failed", message)
            continue
        for spec in _numbered(line):
            # Most lines are images, of which none is looked at twice: a missing one is told when it is opened.
            if (is_url(spec) or Path(spec).is_absolute()) and _is_wanted(spec) and not glob.has_magic(spec):
                yield _file(spec)
            else:
                yield from _or_failed(_beside(spec, origin), column)


def _beside(spec: str, origin: str) -> str:
    if is_url(spec):
        return spec
    if local_path(origin) is None:
        return join(origin.rpartition("/")[0], spec)
    there = str((local_path(origin) or Path()).parent / spec)
    return there if not Path(spec).exists() and (Path(there).exists() or glob.has_magic(there)) else spec


def _file(uri: str) -> Listed:
    name = uri.lower()
    if name.partition("?")[0].endswith(TAR_SUFFIXES):
        return Listed(uri, "tar")
    if _suffix(uri) in VIDEO_SUFFIXES:
        return Listed(uri, "failed", f"{shown(uri)}: a video, which engines do not take; run without --engine for it")
    return Listed(uri, "image")


def _is_wanted(name: str) -> bool:
    return _suffix(name) in _wanted_suffixes() or name.lower().endswith(TAR_SUFFIXES)


@cache
def _wanted_suffixes() -> frozenset[str]:
    return readable_suffixes() | VIDEO_SUFFIXES


def _suffix(spec: str) -> str:
    """In small letters, of the file that a path or address names; pathlib is too slow for millions of lines."""
    if is_url(spec):
        spec = _QUERY.split(spec.partition("://")[2], maxsplit=1)[0]
    stem, dot, suffix = spec.rpartition("/")[2].rpartition(".")
    return dot + suffix.lower() if stem else ""


def _message(frames: Callable[[], Iterator[object]]) -> str:
    try:
        next(frames())
    except InputError as error:
        return str(error)
    raise AssertionError("a failed source gives no frames")
