"""Finds the images and label files of a data set."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yolofpn.config import VocCorners
from yolofpn.data.band_files import NPY_SUFFIX
from yolofpn.data.images import HEIF_SUFFIXES, VIDEO_SUFFIXES, readable_suffixes
from yolofpn.data.problems import Problem, ProblemKind
from yolofpn.errors import UserError
from yolofpn.reading import MAX_FOLDER_DEPTH, ParseError, exists, read_text
from yolofpn.text import from_list_line

_MOST_PARTS = 100  # of a path whose name is looked for in another form
SPLIT_FOLDERS = ("train", "valid", "val", "validation", "test")

# What lies beside images and is no image: labels, lists, notes.
# fmt: off
_NO_IMAGES = frozenset({
    "", ".txt", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv", ".md", ".rst", ".html", ".names",
    ".labels", ".data", ".cache", ".npy", ".pbtxt", ".log", ".ini", ".db", ".lock", ".py", ".sh", ".zip", ".cfg",
    ".weights", ".pt", ".tar",
})
# fmt: on


@dataclass(frozen=True)
class Part:
    """The files of one part of a split, usually of the whole split.

    Attributes:
        images: a folder of images, with its subfolders, or a text file that lists images.
        annotations: the file with the labels of all images, or the folder of the label files of each; by default
            ``labels`` where the image's path says ``images``, else the image's own folder.
        list: a text file with the names of the images that belong to the split, of those in ``images``.
        bases: folders that the lines of a list of images may be relative to, besides the list's own.
    """

    images: Path
    annotations: Path | None = None
    list: Path | None = None
    bases: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The layout of a data set on disk.

    Attributes:
        format: how its annotations are written: the ``key`` of one of ``yolofpn.data.formats.FORMATS``.
        origin: the file or folder that was given, for messages.
        description: what it was taken for, in a few words.
        splits: its parts by split; what tools call valid or validation is ``val`` here.
        names: class names by label; None where the annotations have to say.
        keypoints: YOLO: numbers of the keypoints behind each box.
        voc_corners: VOC: how the corners are to be read.
    """

    format: str
    origin: Path
    description: str
    splits: dict[str, tuple[Part, ...]]
    names: tuple[str, ...] | None = None
    keypoints: int = 0
    voc_corners: VocCorners = "auto"


def split_name(written: str) -> str:
    """Return the split that a folder, file or key names: ``Validation`` and ``valid`` are ``val``."""
    name = written.lower()
    return {"valid": "val", "validation": "val", "training": "train", "default": "train"}.get(name, name)


def split_folders_in(folder: Path) -> list[Path]:
    """Return the subfolders of ``folder`` named like a split."""
    return [folder / name for name in SPLIT_FOLDERS if (folder / name).is_dir()]


def image_folders(folder: Path, subset: str) -> Iterator[Path]:
    """Yield the possible image folders of a split with a single label file, the most likely one first."""
    yield folder / "images" / subset
    yield folder / subset
    yield folder / "images"


def list_images(folder: Path) -> list[Path]:
    """All images of a folder and its subfolders, in a fixed order; hidden files and folders are omitted.

    Arrays (.npy) are images where there are no others: beside images they are something else.

    Raises:
        UserError: if folders are nested deeper than ``MAX_FOLDER_DEPTH``.
    """
    suffixes = readable_suffixes()
    files = list_files(folder)
    images = [path for path in files if path.suffix.lower() in suffixes]
    return images or [path for path in files if path.suffix.lower() == NPY_SUFFIX]


def describe_unread_files(folders: Iterable[Path], *, videos: bool = False) -> str | None:
    """Return a message about files in image folders that are neither images nor labels; None if there are none.

    Args:
        folders: with their subfolders; what is none is skipped.
        videos: whether videos are read, too.
    """
    suffixes = readable_suffixes() | (VIDEO_SUFFIXES if videos else frozenset())
    found = {path for folder in folders if _is_dir(folder) for path in list_files(folder, skip_deep=True)}
    kinds = Counter(path.suffix.lower() for path in found)
    unread = {suffix: count for suffix, count in kinds.items() if suffix not in suffixes and suffix not in _NO_IMAGES}
    if not unread:
        return None
    listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(unread.items(), key=lambda kind: -kind[1])[:5])
    count = sum(unread.values())
    beside = f"{count} file{'s' * (count > 1)} beside the images {'are' if count > 1 else 'is'} not read: {listed}"
    return beside + ("; pip install pillow-heif to read HEIC" if HEIF_SUFFIXES & unread.keys() else "")


def list_files(folder: Path, *, skip_deep: bool = False) -> list[Path]:
    """All files of a folder and its subfolders, in a fixed order; hidden ones are omitted.

    Args:
        folder: the uppermost one; a link back up is not followed twice.
        skip_deep: leave out what lies deeper than ``MAX_FOLDER_DEPTH``, instead of an error.

    Raises:
        UserError: if folders are nested deeper than that.
    """
    found: list[Path] = []
    visited: set[tuple[int, int]] = set()  # a link may lead back up
    waiting = [(str(folder), 0)]
    while waiting:
        parent, depth = waiting.pop()
        try:
            status = os.stat(parent)  # noqa: PTH116 a Path for each folder takes longer than reading it
            if (status.st_dev, status.st_ino) in visited:
                continue
            with os.scandir(parent) as entries:
                shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except (OSError, ValueError):  # it cannot be read, or no folder can have its name
            continue
        if depth == MAX_FOLDER_DEPTH:
            if skip_deep:
                continue
            name = f"{parent[:100]}...{parent[-80:]}" if len(parent) > 200 else parent
            raise UserError(f"{name}: folders are nested deeper than {MAX_FOLDER_DEPTH} here: move its files up")
        visited.add((status.st_dev, status.st_ino))
        folders = [entry.path for entry in shown if _is_folder(entry)]
        inside = set(folders)
        found += [Path(entry.path) for entry in shown if entry.path not in inside]
        waiting += [(path, depth + 1) for path in reversed(folders)]
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


class FileIndex:
    """Finds images by what a file calls them, in whatever Unicode form and below whatever folders of its writer."""

    def __init__(self, folder: Path) -> None:
        paths = list_images(folder)
        prefix = len(str(folder / "x")) - 1
        self._by_path = {composed(str(path)[prefix:].replace(os.sep, "/")): path for path in paths}
        counts = Counter(composed(path.name) for path in paths)
        self._by_name = {composed(path.name): path for path in paths if counts[composed(path.name)] == 1}
        stems = Counter(composed(path.stem) for path in paths)
        self._by_stem = {composed(path.stem): path for path in paths if stems[composed(path.stem)] == 1}

    def find(self, written: str) -> Path | None:
        """The image as written, else directly in the folder, else wherever only one has that name.

        A name without suffix, as Open Images writes them, finds the only image that is called so.
        """
        written = composed(written)
        # Label Studio writes Windows paths and folders of its own server in front of the name.
        posix = written.replace("\\", "/")
        name = PurePosixPath(posix).name
        found = (self._by_path.get(candidate) for candidate in (written, posix, name))
        hit = next((path for path in found if path is not None), None)
        if hit is not None:
            return hit
        # Label Studio puts eight digits in front of the name of an image that is uploaded.
        original = re.sub(r"^[0-9a-f]{8}-", "", name)
        return self._by_name.get(name) or self._by_stem.get(name) or self._by_name.get(original)


class NameFinder:
    """Finds files whose names are written in another Unicode form than on disk (NFC and NFD look alike)."""

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, path: Path) -> Path | None:
        """Return the file or folder, as written or in another Unicode form; None if there is none."""
        if exists(path):
            return path
        if str(path).isascii() or path.parent == path or len(path.parts) > _MOST_PARTS:
            return None
        parent = self.find(path.parent)
        if parent is None or not parent.is_dir():
            return None
        if parent not in self._listings:
            self._listings[parent] = {unicodedata.normalize("NFC", entry.name): entry for entry in parent.iterdir()}
        return self._listings[parent].get(unicodedata.normalize("NFC", path.name))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped; names that are not UTF-8 come as the system gives them.

    Raises:
        UserError: if it is missing or no text.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a list of images, one per line") from None
    except ParseError as error:
        raise UserError(f"{path}: {error}: expected a list of images, one per line") from None
    # Not splitlines: it also ends lines at characters that a file's name may hold.
    return [from_list_line(line.strip(" \t")) for line in re.split(r"[\r\n]+", text) if line.strip(" \t")]


@dataclass
class PathFinder:
    """Finds files listed by another program with paths relative to an unknown folder.

    Attributes:
        bases: the folders to look in, in this order.
    """

    bases: Sequence[Path]
    _last_hit: tuple[int, int] = field(default=(0, 0), init=False)
    _names: NameFinder = field(default_factory=NameFinder, init=False)

    def find(self, written: str) -> Path | None:
        """The file or folder as written, else without leading ``../``, else without a leading ``data/``; or None."""
        forms = list(_forms(written))
        base, form = self._last_hit  # a list of 100,000 lines is of one kind: looking there first saves time
        if form < len(forms) and (hit := self._names.find(self.bases[base] / forms[form])):
            return hit
        for form, name in enumerate(forms):
            for base, folder in enumerate(self.bases):
                if hit := self._names.find(folder / name):
                    self._last_hit = base, form
                    return hit
        return None


def _forms(written: str) -> Iterator[str]:
    yield written
    parts = PurePosixPath(written.replace("\\", "/")).parts
    inside = [part for part in parts if part not in ("..", "/")]
    yield "/".join(inside) or "."
    if len(inside) > 1 and inside[0] == "data":
        yield "/".join(inside[1:])  # CVAT's lists begin with a folder that is not in its archive


def images_of(part: Part, problems: list[Problem]) -> list[Path]:
    """The images of a part; those that are listed but missing become problems.

    Raises:
        UserError: if the folder or list does not exist.
    """
    if part.images.is_dir():
        images = list_images(part.images)
        return images if part.list is None else _listed(part.list, images, problems)
    if not part.images.exists():
        raise UserError(
            f"{part.images}: no such folder or list of images\n"
            f"put the images there, or say where the data set is with data.root=DIR"
        )
    finder = PathFinder([part.images.parent, *part.bases])
    found = []
    for line in read_lines(part.images):
        path = finder.find(line)
        if path is None:
            _report_missing(line, part.images, problems)
        elif path.is_dir():
            found += list_images(path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _listed(names: Path, images: Iterable[Path], problems: list[Problem]) -> list[Path]:
    """Return the ``images`` that a list names by path, file name or stem, in the order of the list."""
    known: dict[str, Path] = {}
    for path in images:
        known.setdefault(composed(path.name), path)
        known.setdefault(composed(path.stem), path)
        known[composed(str(path))] = path
    found = []
    for line in map(composed, read_lines(names)):
        name = PurePosixPath(line.replace("\\", "/")).name
        hit = known.get(line) or known.get(name) or known.get(Path(name).stem)
        if hit is None:
            _report_missing(line, names, problems)
        else:
            found.append(hit)
    return list(dict.fromkeys(found))


def composed(text: str) -> str:
    """The Unicode form (NFC) in which names are compared: accents may be characters of their own, or not."""
    return unicodedata.normalize("NFC", text)


def _report_missing(line: str, names: Path, problems: list[Problem]) -> None:
    problems.append(Problem(ProblemKind.MISSING_IMAGE, line, f"listed in {names} but not on disk: skipped"))


def label_candidates(image: Path, part: Part, suffix: str) -> list[Path]:
    """Return the possible label files of an image, the most likely one first."""
    if part.annotations is not None:
        places = [part.annotations / f"{image.stem}{suffix}"]
        if part.images.is_dir() and image.parent != part.images:
            places.insert(0, part.annotations / image.relative_to(part.images).with_suffix(suffix))
        return places
    places = [image.with_suffix(suffix)]
    for place in range(len(image.parts) - 2, -1, -1):
        if image.parts[place] in ("images", "JPEGImages"):
            twin = Path(*image.parts[:place], "labels", *image.parts[place + 1 :])
            places.insert(0, twin.with_suffix(suffix))
            break
    return places
