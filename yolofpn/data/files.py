"""Where the pictures and label files of a data set lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from yolofpn.data.dataset import Problem, ProblemKind
from yolofpn.data.images import IMAGE_SUFFIXES
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, read_text


@dataclass(frozen=True)
class Part:
    """Where one part of a split lies, usually all of it.

    Attributes:
        images: a folder of pictures, with its subfolders, or a text file that lists pictures.
        annotations: COCO: the JSON file. VOC and YOLO: the folder of the label files; by default ``labels`` where the
            picture's path says ``images``, else the picture's own folder.
        list: a text file with the names of the pictures that belong to the split, of those in ``images``.
        bases: folders that the lines of a list of pictures may be relative to, besides the list's own.
    """

    images: Path
    annotations: Path | None = None
    list: Path | None = None
    bases: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A data set as it lies on disk.

    Attributes:
        format: how its annotations are written.
        origin: the file or folder that was given, for messages.
        description: what it was taken for, in a few words.
        splits: its parts by split; what tools call valid or validation is ``val`` here.
        names: class names by label; None where the annotations have to say.
    """

    format: Literal["coco", "voc", "yolo"]
    origin: Path
    description: str
    splits: dict[str, tuple[Part, ...]]
    names: tuple[str, ...] | None = None


def split_name(written: str) -> str:
    """The split that a folder, file or key stands for: ``Validation`` and ``valid`` are ``val``."""
    name = written.lower()
    return {"valid": "val", "validation": "val", "training": "train", "default": "train"}.get(name, name)


def list_pictures(folder: Path) -> list[Path]:
    """All pictures of a folder and its subfolders, in a fixed order; hidden files and folders are left out."""
    found = []
    visited: set[str] = set()  # a link may lead back up
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        found += [Path(parent, name) for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]  # noqa: PTH122
    return found


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped; names that are not UTF-8 come as the system gives them.

    Raises:
        UserError: it is missing or no text.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a list of pictures, one per line") from None
    except ParseError as error:
        raise UserError(f"{path}: {error}: expected a list of pictures, one per line") from None
    # Not splitlines: it also ends lines at characters that a file's name may hold.
    return [line.strip(" \t") for line in re.split(r"[\r\n]+", text) if line.strip(" \t")]


@dataclass
class PathFinder:
    """Finds files that another program wrote down relative to a folder of its own.

    Attributes:
        bases: the folders to look in, in this order.
    """

    bases: Sequence[Path]
    _last_hit: tuple[int, int] = field(default=(0, 0), init=False)

    def find(self, written: str) -> Path | None:
        """The file or folder as written, else without leading ``../``, else without a leading ``data/``; or None."""
        forms = list(_forms(written))
        base, form = self._last_hit  # a list of 100,000 lines is of one kind: looking there first saves time
        if form < len(forms) and _exists(path := self.bases[base] / forms[form]):
            return path
        for form, name in enumerate(forms):
            for base, folder in enumerate(self.bases):
                if _exists(path := folder / name):
                    self._last_hit = base, form
                    return path
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have, such as one of 5,000 characters
        return False


def _forms(written: str) -> Iterator[str]:
    yield written
    parts = PurePosixPath(written.replace("\\", "/")).parts
    inside = [part for part in parts if part not in ("..", "/")]
    yield "/".join(inside) or "."
    if len(inside) > 1 and inside[0] == "data":
        yield "/".join(inside[1:])  # CVAT's lists begin with a folder that is not in its archive


def pictures_of(part: Part, problems: list[Problem]) -> list[Path]:
    """The pictures of a part; those that are listed but missing become problems.

    Raises:
        UserError: the folder or list does not exist.
    """
    if part.images.is_dir():
        pictures = list_pictures(part.images)
        return pictures if part.list is None else _listed(part.list, pictures, problems)
    if not part.images.exists():
        raise UserError(
            f"{part.images}: no such folder or list of pictures\n"
            f"put the pictures there, or say where the data set is with data.root=DIR"
        )
    finder = PathFinder([part.images.parent, *part.bases])
    found = []
    for line in read_lines(part.images):
        path = finder.find(line)
        if path is None:
            _report_missing(line, part.images, problems)
        elif path.is_dir():
            found += list_pictures(path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _listed(names: Path, pictures: Iterable[Path], problems: list[Problem]) -> list[Path]:
    """Those of ``pictures`` that a list names, by path, file name or stem, in the order of the list."""
    known: dict[str, Path] = {}
    for path in pictures:
        known.setdefault(path.name, path)
        known.setdefault(path.stem, path)
        known[str(path)] = path
    found = []
    for line in read_lines(names):
        name = PurePosixPath(line.replace("\\", "/")).name
        hit = known.get(line) or known.get(name) or known.get(Path(name).stem)
        if hit is None:
            _report_missing(line, names, problems)
        else:
            found.append(hit)
    return list(dict.fromkeys(found))


def _report_missing(line: str, names: Path, problems: list[Problem]) -> None:
    problems.append(Problem(ProblemKind.MISSING_PICTURE, line, f"listed in {names} but not on disk: left out"))


def label_candidates(picture: Path, part: Part, suffix: str) -> list[Path]:
    """Where the label file of a picture may be, the likeliest place first."""
    if part.annotations is not None:
        places = [part.annotations / f"{picture.stem}{suffix}"]
        if part.images.is_dir() and picture.parent != part.images:
            places.insert(0, part.annotations / picture.relative_to(part.images).with_suffix(suffix))
        return places
    places = [picture.with_suffix(suffix)]
    for place in range(len(picture.parts) - 2, 0, -1):
        if picture.parts[place] in ("images", "JPEGImages"):
            twin = Path(*picture.parts[:place], "labels", *picture.parts[place + 1 :])
            places.insert(0, twin.with_suffix(suffix))
            break
    return places
