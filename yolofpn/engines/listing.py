"""Names the images of folders, patterns, lists, tables and shards one after the other, without opening any of them."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from yolofpn.addresses import is_http, is_url, local_path, shown
from yolofpn.data.band_files import NPY_SUFFIX
from yolofpn.data.images import VIDEO_SUFFIXES, readable_suffixes
from yolofpn.engines.path_tables import TABLE_SUFFIXES, table_paths
from yolofpn.engines.reading_on import read_on
from yolofpn.engines.storage import entries_of, join, open_stream
from yolofpn.errors import InputError, UserError
from yolofpn.reading import MAX_FOLDER_DEPTH
from yolofpn.remote_files import attempted, file_system
from yolofpn.sources.patterns import matching_paths
from yolofpn.sources.resolve import files_below
from yolofpn.text import from_list_line

LOOKED_AT = 100  # names of each source, before the workers start
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


@dataclass(frozen=True)
class _Options:
    """As of ``list_images``."""

    column: str | None
    bands: bool

    def take(self, name: str) -> bool:
        """Whether a file of this name is listed where others are not."""
        return _suffix(name) in _wanted_suffixes(self.bands) or name.lower().endswith(TAR_SUFFIXES)


def list_images(specs: Sequence[str], column: str | None = None, *, bands: bool = False) -> Iterator[Listed]:
    """All images and tars of ``specs``, in order; what cannot be listed stands among them.

    A spec is an image, a folder (images and tars in and below it, sorted), a pattern, a tar, or a list of these: a
    ``.txt`` file with one per line, or a Parquet or CSV file; all of them local or at an address. ``{000..099}`` in an
    address or path stands for each number, as WebDataset has it.

    Args:
        specs: one or more.
        column: of the paths in Parquet and CSV files; by default see ``table_paths``.
        bands: whether the weights take bands, so that ``.npy`` files are images.
    """
    options = _Options(column, bands)
    return chain.from_iterable(_of_numbered(spec, options) for spec in specs)


def check_sources(specs: Sequence[str], column: str | None = None, *, bands: bool = False) -> None:
    """See that an image can be named of each spec, so that a mistyped one is found before workers start.

    Args:
        specs: as of ``list_images``.
        column: likewise.
        bands: likewise.

    Raises:
        UserError: of a spec none can, in the first ``LOOKED_AT`` that it names.
    """
    for spec in specs:
        first: Listed | None = None
        for listed in islice(list_images([spec], column, bands=bands), LOOKED_AT):
            first = first or listed
            if listed.kind != "failed":
                break
        else:
            raise UserError(first.message if first else f"{shown(spec)}: no images or tar files in it")


def _numbered(spec: str) -> Iterator[str]:
    found = _NUMBERS.search(spec)
    if found is None:
        yield spec
        return
    first, last = found[1], found[2]
    if int(first) > int(last):
        raise InputError(f"{shown(spec)}: {found[0]} counts down: write {{{last}..{first}}}")
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{spec[: found.start()]}{number:0{len(first)}}{spec[found.end() :]}")


def _of_numbered(spec: str, options: _Options) -> Iterator[Listed]:
    try:
        for each in _numbered(spec):
            yield from _or_failed(each, options)
    except InputError as error:
        yield Listed(spec, "failed", str(error))


def _or_failed(spec: str, options: _Options) -> Iterator[Listed]:
    try:
        yield from _named(spec, options)
    except InputError as error:
        yield Listed(spec, "failed", str(error))


def _named(spec: str, options: _Options) -> Iterator[Listed]:
    suffix = _suffix(spec)
    if suffix == ".txt":
        return _from_lines(spec, read_on(spec, lambda: _lines(spec), (), what="lines"), options)
    if suffix in TABLE_SUFFIXES:
        return _from_lines(spec, table_paths(spec, options.column), options)
    path = local_path(spec)
    if path is not None:
        return _from_path(path, options)
    return _from_address(spec, options)


def _from_path(path: Path, options: _Options) -> Iterator[Listed]:
    if path.is_dir():
        return _from_folder(path, options)
    if path.exists():
        return iter([_file(str(path))])
    if not glob.has_magic(str(path)):
        raise InputError(f"{path}: no such file or folder; check the path")
    matches = sorted(set(matching_paths(str(path))))
    if not matches:
        raise InputError(f"{path}: nothing matches this pattern; check it")
    wanted = [match for match in matches if Path(match).is_dir() or options.take(match)]
    return chain.from_iterable(_from_path(Path(match), options) for match in wanted or matches)


def _from_folder(folder: Path, options: _Options) -> Iterator[Listed]:
    for each in files_below(folder, lambda path: options.take(path.name)):
        if isinstance(each, Path):
            yield _file(str(each))
        else:
            yield Listed(each.name, "failed", _message(each.frames))


def _from_address(uri: str, options: _Options) -> Iterator[Listed]:
    if is_http(uri):
        return iter([_file(uri)])
    system, place = file_system(uri)
    there = _kind_of(system, place) if glob.has_magic(place) else None
    if there == "file":
        return iter([_file(uri)])
    if glob.has_magic(place) and there is None:
        matches = attempted(lambda: sorted(system.glob(place)), shown(uri), "listed")
        if not matches:
            raise InputError(f"{shown(uri)}: nothing matches this pattern; check it")
        return (_file(system.unstrip_protocol(match)) for match in matches)
    if options.take(uri) and not uri.endswith("/") and there is None:
        return iter([_file(uri)])
    return _below(uri, options, MAX_FOLDER_DEPTH)


def _kind_of(system: Any, place: str) -> str | None:  # noqa: ANN401 an fsspec file system
    """'file' or 'directory'; None where there is no such name, or none that may be asked for."""
    try:
        kind: str = attempted(lambda: system.info(place)["type"], place)
    except InputError:
        return None
    return kind


def _below(uri: str, options: _Options, depth: int) -> Iterator[Listed]:
    if depth == 0:
        raise InputError(f"{shown(uri)}: skipped, folders are nested too deep; name it as a source")
    for name, is_folder in entries_of(uri):
        if name.startswith("."):
            continue
        if is_folder:
            try:
                yield from _below(join(uri, name), options, depth - 1)
            except InputError as error:
                yield Listed(join(uri, name), "failed", str(error))
        elif options.take(name):
            yield _file(join(uri, name))


def _lines(uri: str) -> Iterator[str]:
    with open_stream(uri) as stream:
        for line in stream:
            text = line.decode("utf-8", "surrogateescape").strip().removeprefix("\ufeff")
            if text and not text.startswith("#"):
                yield from_list_line(text)


def _from_lines(origin: str, lines: Iterator[str], options: _Options) -> Iterator[Listed]:
    """Images of a list; relative paths are tried as written, then from where the list lies."""
    for line in lines:
        if _suffix(line) in (".txt", *TABLE_SUFFIXES):
            message = f"{shown(line)}: a list cannot name another list; name both on the command line"
            yield Listed(line, "failed", message)
            continue
        try:
            for spec in _numbered(line):
                # Most lines are images, of which none is looked at twice: a missing one is told when it is opened.
                if (is_url(spec) or Path(spec).is_absolute()) and options.take(spec) and not glob.has_magic(spec):
                    yield _file(spec)
                else:
                    yield from _or_failed(_beside(spec, origin), options)
        except InputError as error:
            yield Listed(line, "failed", str(error))


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


@cache
def _wanted_suffixes(bands: bool) -> frozenset[str]:
    return readable_suffixes() | VIDEO_SUFFIXES | ({NPY_SUFFIX} if bands else frozenset())


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
