"""Finds near-duplicates, such as neighbouring frames or copies in another size or quality."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from yolofpn.structures import Image

HASH_BYTES = 32
# Of 256 bits: on photographs, re-encoding, halving or brightening changed up to 32 bits of all but one image in a
# hundred, while different images of Pascal VOC differed by 55 at least, different microscope fields by 82.
MAX_DISTANCE = 32
_SIDE = 16
_CHUNK = 64


def difference_hash(image: Image) -> NDArray[np.uint8]:
    """[32] uint8: whether the brightness of 16 x 16 cells falls or rises from each one to the next on its right.

    Args:
        image: [H, W, 3] uint8, BGR.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    cells = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, 1:] > cells[:, :-1])


def nearest(hashes: NDArray[np.uint8], others: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each of ``hashes`` [N, 32] the nearest of ``others`` [M, 32], and its distance in bits.

    Raises:
        ValueError: if there are no others.
    """
    if not len(others):
        raise ValueError("there is nothing to compare with")
    words, other_words = hashes.view(np.uint64), others.view(np.uint64)  # [N, 4], [M, 4]
    index = np.zeros(len(words), dtype=np.int64)
    distance = np.zeros(len(words), dtype=np.int64)
    for start in range(0, len(words), _CHUNK):
        rows = slice(start, start + _CHUNK)
        bits = np.zeros((len(words[rows]), len(other_words)), dtype=np.uint16)
        for word in range(words.shape[1]):
            bits += np.bitwise_count(words[rows, word, None] ^ other_words[None, :, word])
        index[rows] = bits.argmin(axis=1)
        distance[rows] = bits.min(axis=1)
    return index, distance
