"""Digest of a data set's content, independent of its folder, to verify the data of a resumed run."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.dataset import DetectionDataset


def fingerprint(dataset: DetectionDataset) -> str:
    """Return a digest of classes, image names and sizes in order, labels and proposals; images are not opened.

    The size of an image is that of its file and that of its pixels, so that one drawn anew is another one.
    """
    names = [unicodedata.normalize("NFC", Path(path).name) for path in dataset.paths]
    text = json.dumps([dataset.names, dataset.category_ids, names, _file_sizes(dataset)])
    arrays: list[NDArray[Any]] = [dataset.sizes, dataset.offsets, dataset.boxes, dataset.labels, dataset.ignore]
    if dataset.proposals is not None:
        arrays += [dataset.proposals.offsets, dataset.proposals.boxes]
    digest = hashlib.sha256(text.encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _file_sizes(dataset: DetectionDataset) -> list[int | None]:
    """Bytes of each image, in its file or shard."""
    if dataset.shards is not None:
        return [*map(int, dataset.shards.sizes)]
    return [_file_size(path) for path in dataset.paths]


def _file_size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
