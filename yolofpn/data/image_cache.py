"""Reads images of training samples, with a cache, and replaces unreadable ones."""

from __future__ import annotations

import numpy as np

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.mosaic import LabelledImage
from yolofpn.errors import InputError, UserError
from yolofpn.structures import Image

MAX_UNREADABLE_IN_A_ROW = 100
SMALLEST_SHARE = 0.25  # of a data set; a cache that holds less of it is seldom of use


class ImageCache:
    """Reads images and caches as many decoded ones as its memory allows.

    Training asks for images in random order, so dropping old ones in favour of new ones would gain nothing. Of a
    data set that is much larger than the cache nothing is kept.
    """

    def __init__(self, dataset: DetectionDataset, max_bytes: int) -> None:
        self.dataset = dataset
        self._kept: dict[int, Image] = {}
        form = dataset.form
        whole = form.channels * (4 if form.is_float else 1) * int(dataset.sizes.astype(np.int64).prod(axis=1).sum())
        self._bytes_left = max_bytes if max_bytes >= SMALLEST_SHARE * whole else 0

    def image(self, index: int) -> Image:
        """Return image ``index``, [H, W, 3] uint8 BGR or bands; do not modify it in place.

        Raises:
            InputError: if it cannot be read.
        """
        if (kept := self._kept.get(index)) is not None:
            return kept
        image = self.dataset.image(index)
        if image.nbytes <= self._bytes_left:
            self._bytes_left -= image.nbytes
            self._kept[index] = image
        return image


class Reading:
    """Reads the images of one sample.

    Attributes:
        indices: their numbers, in the order of reading.
        failures: why images could not be read, by their numbers.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self.indices: list[int] = []
        self.failures: dict[int, str] = {}

    def labelled_image(self, index: int) -> LabelledImage:
        """Return image ``index`` with its target or, if it is unreadable, the next readable one.

        Raises:
            UserError: if a long row of images cannot be read.
        """
        dataset = self._cache.dataset
        for step in range(min(len(dataset), MAX_UNREADABLE_IN_A_ROW)):
            candidate = (index + step) % len(dataset)
            try:
                image = self._cache.image(candidate)
            except InputError as error:
                self.failures[candidate] = str(error)
                continue
            self.indices.append(candidate)
            return LabelledImage(image, dataset.target(candidate, (image.shape[0], image.shape[1])))
        first = self.failures[index]
        raise UserError(f"no readable image among {len(self.failures)} in a row; check the data set's paths: {first}")
