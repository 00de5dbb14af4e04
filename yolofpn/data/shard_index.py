"""What is in a shard: where its images are, how large they are, and their labels; read once and kept.

A sample is the files of a tar whose names are equal up to the first dot, as in WebDataset: an image, and its labels as
``.json`` or as YOLO's ``.txt``.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from yolofpn.addresses import is_url
from yolofpn.data.images import image_size, readable_suffixes
from yolofpn.data.labelled_images import number
from yolofpn.data.shard_cache import kept_version, local_shard
from yolofpn.data.shards import image_name, shard_name
from yolofpn.data.tar_headers import MAX_MEMBER_BYTES, CheckedInfo, complete_files
from yolofpn.errors import InputError
from yolofpn.files import cache_folder, replace_file
from yolofpn.reading import ParseError, as_side, parse_json

VERSION = 2
MAX_LABEL_BYTES = 16_000_000  # of one image

Label = tuple[str | int, float, float, float, float, bool]  # class by name or number, x1, y1, x2, y2, ignore


class Member(NamedTuple):
    """An image of a shard.

    Attributes:
        name: of the member.
        offset: its first byte.
        size: its bytes.
        height: of the image in pixels.
        width: of the image in pixels.
        labels: its objects; None if nobody has labelled it.
    """

    name: str
    offset: int
    size: int
    height: int
    width: int
    labels: list[Label] | None


class ShardIndex(NamedTuple):
    """The images of a shard, and what is wrong with it: (name, reason)."""

    members: list[Member]
    problems: list[tuple[str, str]]


def read_index(place: str) -> ShardIndex:
    """The index of a shard, from the cache if the file has not changed since.

    Raises:
        InputError: the shard cannot be read at all.
    """
    path = local_shard(place)
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"{shard_name(place)}: {error.strerror or error}") from None
    # A URL's file is kept under its name; the time is that of the last use.
    identity = [VERSION, place if is_url(place) else str(path.resolve()), stat.st_size]
    identity.append(kept_version(path) if is_url(place) else stat.st_mtime_ns)
    kept = cache_folder() / "shard-indices" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}.json"
    if (index := _kept(kept)) is not None:
        return index
    index = scan(path, shard_name(place))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, json.dumps(index).encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # a cache that cannot be written only costs time
    return index


def _kept(path: Path) -> ShardIndex | None:
    try:
        members, problems = parse_json(path.read_bytes())
        return ShardIndex(
            [
                Member(name, offset, size, height, width, None if labels is None else [tuple(each) for each in labels])
                for name, offset, size, height, width, labels in members
            ],
            [(name, reason) for name, reason in problems],
        )
    except (OSError, ParseError, ValueError, TypeError, IndexError):
        return None


def scan(path: Path, name: str) -> ShardIndex:
    """Read a tar file from start to end.

    Raises:
        InputError: it cannot be opened, or is no tar file without compression.
    """
    problems: list[tuple[str, str]] = []
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(path, "r:", tarinfo=CheckedInfo) as tar, path.open("rb") as file:
            for entry in _entries(tar, file, name, problems):
                folder, _, base = entry.name.rpartition("/")
                key, _, suffix = base.partition(".")
                samples.setdefault(f"{folder}/{key}", {})["." + suffix.lower()] = entry
            members = [
                member
                for key, files in samples.items()
                if (member := _member(key, files, file, name, problems)) is not None
            ]
    except tarfile.TarError as error:
        raise InputError(f"{name}: is not a tar file without compression ({error})") from None
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from None
    return ShardIndex(members, problems)


def _entries(
    tar: tarfile.TarFile, file: IO[bytes], name: str, problems: list[tuple[str, str]]
) -> Iterator[tarfile.TarInfo]:
    count = 0
    try:
        for entry in complete_files(tar, file):
            count += 1
            yield entry
    except tarfile.TarError as error:
        problems.append((name, f"is damaged behind {count} files ({error}): the rest is skipped"))


def _member(
    key: str, files: dict[str, tarfile.TarInfo], file: IO[bytes], shard: str, problems: list[tuple[str, str]]
) -> Member | None:
    suffix = next((suffix for suffix in files if suffix in readable_suffixes()), None)
    if suffix is None:
        if files.keys() & {".json", ".txt"} and not files.keys() <= {".txt"}:
            problems.append((image_name(shard, key.strip("/")), "has labels but no image: skipped"))
        return None
    entry = files[suffix]
    name = image_name(shard, entry.name)
    if entry.size > MAX_MEMBER_BYTES:
        problems.append((name, f"has {entry.size} bytes, more than the {MAX_MEMBER_BYTES} of an image: skipped"))
        return None
    tree = _labels(files.get(".json"), file, _json, name, problems)
    try:
        height, width = (as_side(tree.get(side)) for side in ("height", "width")) if tree else (0, 0)
        if not height or not width:
            height, width = image_size(_read(file, entry), name=name)
    except (InputError, ParseError, OSError) as error:
        problems.append((name, f"{error}: skipped"))
        return None
    labels: list[Label] | None = None
    if tree is not None:
        labels = list(_objects(tree, name, problems))
    elif ".txt" in files:
        rows = _labels(files[".txt"], file, _lines, name, problems)
        labels = None if rows is None else list(_yolo(rows, height, width, name, problems))
    return Member(entry.name, entry.offset_data, entry.size, height, width, labels)


def _read(file: IO[bytes], entry: tarfile.TarInfo) -> bytes:
    file.seek(entry.offset_data)
    return file.read(entry.size)


def _labels(
    entry: tarfile.TarInfo | None,
    file: IO[bytes],
    parse: Callable[[bytes], Any],
    name: str,
    problems: list[tuple[str, str]],
) -> Any:  # noqa: ANN401
    """Parsed labels of an image; None if it has none, or they cannot be read."""
    if entry is None:
        return None
    try:
        if entry.size > MAX_LABEL_BYTES:
            raise ParseError(f"{entry.size} bytes are too many")
        return parse(_read(file, entry))
    except (ParseError, UnicodeDecodeError) as error:
        problems.append((name, f"{os.path.basename(entry.name)}: {error}: taken as unlabelled"))  # noqa: PTH119
        return None


def _json(content: bytes) -> dict[str, Any]:
    tree = parse_json(content)
    if not isinstance(tree, dict):
        raise ParseError("is not an object with 'objects'")
    return tree


def _lines(content: bytes) -> list[list[str]]:
    return [line.split() for line in content.decode().splitlines() if line.strip()]


def _objects(tree: dict[str, Any], name: str, problems: list[tuple[str, str]]) -> Iterator[Label]:
    """``objects`` with ``box`` [x1, y1, x2, y2] and ``name``, or ``annotations`` with COCO's ``bbox`` and category."""
    entries = tree.get("objects", tree.get("annotations", []))
    for place, entry in enumerate(entries if isinstance(entries, list) else [], start=1):
        box = entry.get("box", entry.get("bbox")) if isinstance(entry, dict) else None
        sides = [number(side) for side in box] if isinstance(box, list) and len(box) == 4 else None
        label = (
            next((entry[key] for key in ("name", "category", "category_id") if key in entry), None) if sides else None
        )
        if sides is None or not isinstance(label, str | int) or isinstance(label, bool):
            problems.append((name, f"object {place}: has no box of four numbers, or no name: dropped"))
            continue
        if "box" not in entry:
            sides = [sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3]]
        x1, y1, x2, y2 = sides
        yield label, x1, y1, x2, y2, bool(entry.get("ignore") or entry.get("iscrowd"))


def _yolo(
    rows: list[list[str]], height: int, width: int, name: str, problems: list[tuple[str, str]]
) -> Iterator[Label]:
    """Lines of class number, centre and size as shares of the image."""
    for place, row in enumerate(rows, start=1):
        values = [number(word) for word in row]
        if len(values) != 5 or values[0] != values[0] // 1:
            problems.append((name, f"line {place}: is not a class number and four numbers: dropped"))
            continue
        label, x, y, w, h = values
        yield (
            int(label), (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height, False
        )  # fmt: skip
