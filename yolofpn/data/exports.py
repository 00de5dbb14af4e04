"""Data sets described by a file: our data YAML, data.yaml of labelling tools, Darknet's ``.data``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolofpn.config import read_yaml, validate
from yolofpn.data.class_names import line_of, numbered_names, read_names
from yolofpn.data.data_config import DataConfig, PartConfig
from yolofpn.data.image_files import Layout, Part, PathFinder, read_lines, split_name
from yolofpn.errors import UserError
from yolofpn.reading import check_class_names

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")


def layout_of_yaml(path: Path, root: Path | None = None) -> Layout:
    """Our YAML, or a data.yaml as Ultralytics defined it and Roboflow and CVAT write it.

    Args:
        path: the YAML file.
        root: the data set's folder, instead of the one that the file names.

    Raises:
        UserError: if the file is neither, or what it names does not exist.
    """
    tree = read_yaml(path)
    if "format" in tree or "splits" in tree:
        return _layout_of_config(validate(DataConfig, tree, str(path)), path, root)
    if any(key in tree for key in _SPLIT_KEYS):
        return _layout_of_data_yaml(tree, path, root)
    raise UserError(
        f"{path}: describes no data set: it has neither 'format' and 'splits' (cfg/data/coco.yaml is an example) "
        f"nor 'train' and 'val'"
    )


def _layout_of_config(config: DataConfig, path: Path, root: Path | None) -> Layout:
    folder = root if root is not None else path.parent / config.root
    if not folder.is_dir():
        raise UserError(_explain_missing(config, path, folder))
    check_class_names(config.names or (), path)
    splits = {
        split_name(split): tuple(_part(part, folder, path) for part in config.parts(split)) for split in config.splits
    }
    description = f"{config.format} data set in {folder}"
    return Layout(config.format, path, description, splits, config.names, voc_corners=config.voc_corners)


def _part(part: PartConfig, root: Path, path: Path) -> Part:
    def inside(name: str | None) -> Path | None:
        return None if name is None else root / name

    return Part(root / part.images, inside(part.annotations), inside(part.list), (root, path.parent))


def _explain_missing(config: DataConfig, path: Path, folder: Path) -> str:
    needed = [name for split in config.splits for part in config.parts(split) for name in _paths_of(part)]
    where = f" (from {config.url})" if config.url else ""
    return (
        f"{path}: the data set's folder {folder.resolve()} does not exist\n"
        f"it needs {', '.join(dict.fromkeys(needed))}{where}: put them there, or say where they are with data.root=DIR"
    )


def _paths_of(part: PartConfig) -> list[str]:
    return [name for name in (part.images, part.annotations, part.list) if name is not None]


def _layout_of_data_yaml(tree: dict[str, Any], path: Path, root: Path | None) -> Layout:
    bases = [root] if root is not None else _roots_of_data_yaml(tree.get("path"), path)
    splits: dict[str, tuple[Part, ...]] = {}
    for key in _SPLIT_KEYS:
        written = tree.get(key)
        if written:
            places = written if isinstance(written, list) else [written]
            splits[split_name(key)] = tuple(_find_part(str(place), key, bases, path) for place in places)
    keypoints = _keypoint_numbers(tree.get("kpt_shape"), path)
    what = f"YOLO data set of {path}" + (", boxes with keypoints, which are not used" if keypoints else "")
    return Layout("yolo", path, what, splits, _names_of_data_yaml(tree, path), keypoints)


def _keypoint_numbers(shape: object, path: Path) -> int:
    """How many numbers the keypoints of an object are: Ultralytics' pose labels say [number, 2 or 3 values each]."""
    if shape is None:
        return 0
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and 0 < n <= 10_000 for n in shape):
        return int(shape[0] * shape[1])
    raise UserError(f"{path}: kpt_shape: {shape!r:.60} is not of the form [17, 3]")


def _roots_of_data_yaml(written: object, path: Path) -> list[Path]:
    """Where ``path:`` may point: from the file, as all of ours, or from the working folder or its parents."""
    if not written:
        return [path.parent, Path.cwd()]
    finder = PathFinder([path.parent, Path.cwd(), path.parent.parent])
    found = finder.find(str(written))
    return [*([found] if found is not None and found.is_dir() else []), path.parent]


def _find_part(written: str, key: str, bases: list[Path], path: Path) -> Part:
    found = PathFinder(bases).find(written)
    if found is None:
        # Absent splits are common (Roboflow names a test split that it does not write): they fail when they are used.
        return Part(bases[0] / written, bases=tuple(bases))
    return Part(found, bases=tuple(bases))


def _names_of_data_yaml(tree: dict[str, Any], path: Path) -> tuple[str, ...] | None:
    if tree.get("names"):
        return read_names(path)
    count = tree.get("nc")
    return numbered_names(count, line_of(path, "nc")) if isinstance(count, int) and count > 0 else None


def layout_of_darknet_data(path: Path, root: Path | None = None) -> Layout:
    """Darknet's ``.data``: classes, train, valid and names, paths relative to wherever Darknet was started.

    Args:
        path: the file.
        root: a folder to look in first.

    Raises:
        UserError: if the file cannot be read, names no list of images, or a list that does not exist.
    """
    pairs = (line.partition("=") for line in read_lines(path) if not line.startswith("#"))
    options = {key.strip(): value.strip() for key, _, value in pairs if value.strip()}
    bases = [*([root] if root is not None else []), path.parent, path.parent.parent, Path.cwd()]
    finder = PathFinder(bases)
    splits: dict[str, tuple[Part, ...]] = {}
    for key in _SPLIT_KEYS:
        if key in options:
            found = finder.find(options[key])
            if found is None:
                raise UserError(f"{path}: {key} = {options[key]}: no such list of images, nor beside the .data file")
            splits[split_name(key)] = (Part(found, bases=tuple(bases)),)
    if not splits:
        raise UserError(f"{path}: has no line 'train = LIST' or 'valid = LIST' that says which images to take")
    return Layout("yolo", path, f"Darknet data set of {path}", splits, _names_of_darknet_data(options, path))


def _names_of_darknet_data(options: dict[str, str], path: Path) -> tuple[str, ...] | None:
    if "names" in options:
        return read_names(path)
    count = options.get("classes", "")
    if not count.isdecimal() or not count.strip("0"):
        return None
    return numbered_names(int(count[:20]), line_of(path, "classes"))
