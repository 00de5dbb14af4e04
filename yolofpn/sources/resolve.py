"""Resolves files, folders, patterns, lists, URLs and cameras to sources."""

from __future__ import annotations

import glob
import io
import re
import sys
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from yolofpn.addresses import is_url, shown_url
from yolofpn.bands import Bands
from yolofpn.data.band_files import NPY_SUFFIX
from yolofpn.data.images import VIDEO_SUFFIXES, readable_suffixes
from yolofpn.data.reduced_images import NeededSize
from yolofpn.errors import InputError, UserError
from yolofpn.fields import Depth
from yolofpn.reading import MAX_FOLDER_DEPTH, ParseError, exists, read_text
from yolofpn.sources.kinds import Source, camera_source, failed_source, file_source, url_source
from yolofpn.sources.patterns import matching_paths
from yolofpn.text import from_list_line, safe_part

__all__ = ["Source", "resolve_sources"]


def resolve_sources(
    specs: Sequence[str],
    *,
    vid_stride: int = 1,
    depth: Depth | Bands = "auto",
    needed: NeededSize | None = None,
) -> Iterator[Source]:
    """Yield the sources of ``specs`` in order; files are opened lazily.

    A spec is an image, a video, a folder (all images and videos in and below it, sorted, hidden ones left out), a
    pattern such as ``day*/**/*.jpg``, the number of a camera, an address (rtsp://, http://, ... of a stream, an image
    or a video), a ``.txt`` file with one of these per line, or ``-`` for such a list on standard input. Lines that
    start with ``#`` are comments; relative paths in a list are tried as written, then from where the list lies.

    Args:
        specs: one or more.
        vid_stride: of videos and streams take the frames 0, n, 2n, ...
        depth: which value is white in images of more than 8 bits, or how bands are read, which videos have not.
        needed: given if only the network looks at the images: the smallest size that will do in place of theirs, to
            which JPEG images are reduced.

    Raises:
        UserError: if nothing is given, or the only spec names nothing. With several specs (and in lists) one that names
            nothing becomes a Source whose ``frames`` raise that error, so that the others go on.
    """
    if vid_stride < 1:
        raise UserError(f"a video stride of {vid_stride} is impossible: 1 takes every frame, 2 every other one")
    if not specs:
        raise UserError("no source is given: name an image, a video, a folder, an address or a camera's number")
    reading = _Reading(vid_stride, depth, needed)
    if len(specs) == 1:
        found = _expand(specs[0], reading)
    else:
        found = chain.from_iterable(_or_failed(spec, partial(_expand, spec, reading)) for spec in specs)
    return _with_own_paths(found)


@dataclass(frozen=True)
class _Reading:
    vid_stride: int
    depth: Depth | Bands
    needed: NeededSize | None


def _with_own_paths(sources: Iterable[Source]) -> Iterator[Source]:
    """Append numbers to paths (``dog-2.jpg``) that equal an earlier one up to suffix, case and unsafe characters.

    So every source has its own name for results, whichever of the others are skipped.
    """
    taken: set[str] = set()
    repeats: Counter[str] = Counter()
    for source in sources:
        path = source.relative_path
        own_key = _key(path)
        while _key(path) in taken:
            repeats[own_key] += 1
            path = source.relative_path.with_stem(f"{source.relative_path.stem}-{repeats[own_key] + 1}")
        taken.add(_key(path))
        yield replace(source, relative_path=path)


def _key(path: Path) -> str:
    parts = [safe_part(part) for part in path.with_suffix("").parts]
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def _expand(spec: str, reading: _Reading) -> Iterator[Source]:
    """The sources that one spec names; a spec that is wrong as a whole raises at once."""
    if spec == "-":
        return _from_list(_standard_input(), Path(), reading)
    if spec.lower().startswith("file://"):
        from urllib.request import url2pathname  # with TLS and more behind it

        return _expand_path(Path(url2pathname(urllib.parse.urlsplit(spec).path)), reading)
    if is_url(spec):
        return iter([url_source(spec, reading.vid_stride, reading.depth, reading.needed)])
    if _is_number(spec):
        return iter([camera_source(int(spec), reading.vid_stride, reading.depth)])
    return _expand_path(Path(spec), reading)


def _expand_path(path: Path, reading: _Reading) -> Iterator[Source]:
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({error}); check the path") from None
    if is_folder:
        return _from_folder(path, reading)
    if not is_there and glob.has_magic(str(path)):
        return _from_pattern(str(path), reading)
    if not is_there:
        raise InputError(f"{path}: no such file or folder; check the path")
    if path.suffix.lower() == ".txt" and path.is_file():
        return _from_list(_lines_of(path), path.parent, reading)
    return iter([file_source(path, Path(path.name), reading.vid_stride, reading.depth, reading.needed)])


def _or_failed(name: str, expand: Callable[[], Iterator[Source]]) -> Iterator[Source]:
    try:
        yield from expand()
    except UserError as error:
        yield failed_source(shown_url(name) if is_url(name) else name, str(error))


def _from_folder(folder: Path, reading: _Reading) -> Iterator[Source]:
    found = (
        file_source(each, each.relative_to(folder), reading.vid_stride, reading.depth, reading.needed)
        if isinstance(each, Path)
        else each
        for each in files_below(folder, partial(_has_known_suffix, depth=reading.depth))
    )
    first = next(found, None)
    if first is None:
        suffixes = " ".join(sorted(readable_suffixes() | VIDEO_SUFFIXES))
        raise UserError(f"{folder}: no images or videos in this folder or below; looked for\n{suffixes}")
    return chain([first], found)


def files_below(
    folder: Path, is_wanted: Callable[[Path], bool], above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[Path | Source]:
    """Files in and below a folder, sorted by path, hidden ones left out.

    Args:
        folder: where to begin.
        is_wanted: which files.
        above: the folders on the top-down pathway, against circles of links.

    Yields:
        A path, or in the place of a folder that cannot be read a failed source.
    """
    try:
        status = folder.stat()
        real = status.st_dev, status.st_ino
        if real in above:
            return
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield failed_source(
            str(folder), f"{folder}: this folder cannot be read ({error.strerror}); check its permissions"
        )
        return
    if len(above) == MAX_FOLDER_DEPTH:
        yield _skipped(folder)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from files_below(entry, is_wanted, above | {real})
        elif is_wanted(entry):
            yield entry


def _skipped(folder: Path) -> Source:
    text = str(folder)
    name = text if len(text) <= 200 else f"{text[:100]}...{text[-80:]}"
    reason = f"skipped, folders are nested deeper than {MAX_FOLDER_DEPTH}; name it as a source"
    return failed_source(name, f"{name}: {reason}")


def _has_known_suffix(path: Path, depth: Depth | Bands) -> bool:
    if isinstance(depth, Bands) and path.suffix.lower() == NPY_SUFFIX:
        return True
    return path.suffix.lower() in readable_suffixes() | VIDEO_SUFFIXES


def _from_pattern(pattern: str, reading: _Reading) -> Iterator[Source]:
    """The images and videos that match; where none does, the folders, or the files of other names."""
    too_deep: list[str] = []
    matches = [Path(match) for match in sorted(set(matching_paths(pattern, too_deep)))]
    if not matches:
        raise UserError(f"{pattern}: nothing matches this pattern; check it")
    skipped = (_skipped(Path(folder)) for folder in too_deep)
    folders = [path for path in matches if path.is_dir()]
    files = [path for path in matches if not path.is_dir() and _has_known_suffix(path, reading.depth)]
    if not files:
        others = folders or matches
        found = (_or_failed(str(path), partial(_expand_path, path, reading)) for path in others)
        return chain(chain.from_iterable(found), skipped)
    parts = Path(pattern).parts
    root = Path(*parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))])
    sources = (
        file_source(path, path.relative_to(root), reading.vid_stride, reading.depth, reading.needed) for path in files
    )
    return chain(sources, skipped)


def _from_list(lines: Iterable[str], folder: Path, reading: _Reading) -> Iterator[Source]:
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        spec = from_list_line(line)
        if spec == "-" or (spec.lower().endswith(".txt") and not is_url(spec)):
            yield failed_source(spec, f"{spec}: a list cannot name another list; name both on the command line")
            continue
        if not (is_url(spec) or _is_number(spec) or exists(Path(spec))):
            spec = _beside_list(spec, folder)
        yield from _or_failed(spec, partial(_expand, spec, reading))


def _beside_list(spec: str, folder: Path) -> str:
    """``spec`` as seen from the list's folder if something is there, else as written."""
    there = str(folder / spec)
    found = exists(Path(there)) or (glob.has_magic(there) and any(True for _ in matching_paths(there)))
    return there if found else spec


def _is_number(spec: str) -> bool:
    return spec.isascii() and spec.isdecimal() and len(spec) <= 9


def _lines_of(path: Path) -> list[str]:
    try:
        # Not splitlines: it also ends lines at characters that a file's name may hold.
        lines = re.split(r"[\r\n]+", read_text(path))
    except (OSError, ParseError) as error:
        raise InputError(f"{path}: not a readable list of sources ({error}); write one path per line") from None
    if not any(line.strip() and not line.strip().startswith("#") for line in lines):
        raise UserError(f"{path}: the list names no source; write one path per line")
    return lines


def _standard_input() -> Iterator[str]:
    if sys.stdin is None:  # a service may run without
        raise InputError("standard input: is closed; give the sources as arguments or in a .txt list")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    try:
        yield from sys.stdin
    except (UnicodeDecodeError, OSError, ValueError):
        raise InputError("standard input: not a list of sources; send one path per line") from None
