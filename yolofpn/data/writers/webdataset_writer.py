"""WebDataset's shards: first a file of labels beside each image, as in the tar, then the tar files of both."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from yolofpn.data.writers.labelled import WrittenImage, WrittenObject, WrittenSplit, label_files, plain

SHARD_BYTES = 256 * 2**20  # a shard is closed when it is larger: some thousand images
SEED = 0  # of the order of images


class WebDatasetWriter:
    """A JSON file for each labelled image, with the size of the image, so that opening a shard decodes none."""

    key: ClassVar[str] = "webdataset"
    help: ClassVar[str] = "SPLIT/SPLIT-NNNNNN.tar, images and labels in random order"
    image_folder: ClassVar[str] = "{split}"
    root: ClassVar[str] = "{split}"
    annotations: ClassVar[str] = "{split}"
    suffix: ClassVar[str | None] = ".json"
    flat: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset({"background", "ignore", "unlabelled"})

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """One for each labelled image."""
        return label_files(split, split.name, ".json", _json)

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """None: data.yaml has the names."""
        return ()


def _json(image: WrittenImage) -> str:
    height, width = image.size
    objects = [_object(entry) for entry in image.objects]
    return json.dumps({"width": width, "height": height, "objects": objects}, ensure_ascii=False)


def _object(entry: WrittenObject) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": entry.name, "box": [plain(side) for side in entry.box]}
    return tree | ({"ignore": True} if entry.ignore else {})


def pack_shards(folder: Path, split: str, limit: int = SHARD_BYTES) -> tuple[int, list[str]]:
    """Move images and labels of a folder into tar files in it; the number of these, and what could not be read.

    Training reads shard after shard, so each gets a random part of the images. A tar depends on its images and their
    names only.

    Args:
        folder: of the split; its images may be links to others.
        split: what the tar files are called.
        limit: bytes of images after which a shard is full.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    import numpy as np  # here, as the help of commands lists the writers

    order = np.random.default_rng(SEED).permutation(len(images)).tolist()
    number, tar, taken, used = 0, None, set[str](), 0
    unreadable = []
    for place in order:
        image = images[place]
        try:
            content = image.read_bytes()
        except OSError as error:
            if not image.is_symlink():
                raise
            unreadable.append(f"{image.readlink()}: cannot be read: {error.strerror}: skipped")
            image.unlink()
            image.with_suffix(".json").unlink(missing_ok=True)
            continue
        if tar is None:
            tar = tarfile.open(folder / f"{split}-{number:06d}.tar", "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            number, used = number + 1, 0
        used += len(content)
        key = _free_key(image.stem, taken)
        _add(tar, key + image.suffix.lower(), content)
        image.unlink()
        labels = image.with_suffix(".json")
        if labels.exists():
            _add(tar, key + ".json", labels.read_bytes())
            labels.unlink()
        if used >= limit:
            tar.close()
            tar = None
    if tar is not None:
        tar.close()
    return number, unreadable


def _free_key(stem: str, taken: set[str]) -> str:
    """A name without dots, at the first of which WebDataset cuts it."""
    wanted = key = stem.replace(".", "_")
    number = 1
    while key in taken:
        number += 1
        key = f"{wanted}-{number}"
    taken.add(key)
    return key


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """The same bytes whoever writes it, and whenever."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
