"""Samples for training: read, combined, cropped, resized, moved, flipped and recoloured."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.mosaic import LabelledImage, make_mosaic, mixup
from yolofpn.data.picture_cache import PictureCache, Reading
from yolofpn.data.sampler import Draw, SampleKey, random_generator
from yolofpn.data.samples import Sample, place_target, to_tensor
from yolofpn.data.transforms import Augmentation, RandomView, random_safe_crop, to_rgb
from yolofpn.ops.resize import resize_image
from yolofpn.types import ResizeMode

CACHE_BYTES = 256 * 2**20


class TrainingSamples(Dataset[Sample]):
    """Randomly varied pictures; each sample is a pure function of the seed and its key.

    In place of a picture that cannot be read the next one that can is taken, and the failure is noted.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        augmentation: Augmentation | None,
        *,
        seed: int = 0,
        resize: ResizeMode = "letterbox",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Sets up the transforms.

        Args:
            dataset: pictures and ground truth.
            augmentation: ranges and probabilities; None for pictures that are only resized.
            seed: of all that is random, not negative.
            resize: how single pictures are brought to the network's size.
            cache_bytes: how much memory every process may use to keep decoded pictures.
        """
        self._dataset = dataset
        self._augmentation = augmentation
        self._seed = seed
        self._resize: ResizeMode = resize
        self._cache = PictureCache(dataset, cache_bytes)
        if augmentation is not None:
            self._view_of_single = RandomView(augmentation, move=True)
            self._view_of_mosaic = RandomView(augmentation, move=False)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The sample of a key.

        Raises:
            UserError: too many pictures in a row cannot be read.
        """
        reading = Reading(self._cache)
        if self._augmentation is None:
            picture = to_rgb(self._resized(reading.picture(key.index), key.size))
        else:
            # A first showing has the stream that it has where nothing is repeated.
            repeat = (key.repeat,) if key.repeat else ()
            rng = random_generator(self._seed, Draw.SAMPLE, key.epoch, key.index, *repeat)
            picture = self._varied(self._augmentation, key, reading, rng)
        return Sample(to_tensor(picture.image), picture.target, tuple(reading.indices), reading.failures)

    def _varied(
        self, augmentation: Augmentation, key: SampleKey, reading: Reading, rng: np.random.Generator
    ) -> LabelledImage:
        if key.combine and rng.random() < augmentation.mosaic:
            picture = self._mosaic(augmentation, key, reading, rng)
        else:
            picture = self._single(augmentation, reading.picture(key.index), key.size, rng)
        if key.combine and rng.random() < augmentation.mixup:
            other = reading.picture(int(rng.integers(len(self))))
            picture = mixup(picture, self._single(augmentation, other, key.size, rng))
        return picture

    def _mosaic(
        self, augmentation: Augmentation, key: SampleKey, reading: Reading, rng: np.random.Generator
    ) -> LabelledImage:
        partners = rng.integers(len(self), size=3).tolist()
        pictures = [reading.picture(index) for index in (key.index, *partners)]
        zoom, min_visibility = augmentation.mosaic_zoom, augmentation.min_visibility
        mosaic = make_mosaic(pictures, key.size, rng, zoom=zoom, min_visibility=min_visibility)
        return self._view_of_mosaic(to_rgb(mosaic), rng)

    def _single(
        self, augmentation: Augmentation, picture: LabelledImage, size: tuple[int, int], rng: np.random.Generator
    ) -> LabelledImage:
        if rng.random() < augmentation.crop:
            picture = random_safe_crop(picture, rng, crop_scale=augmentation.crop_scale)
        return self._view_of_single(to_rgb(self._resized(picture, size)), rng)

    def _resized(self, picture: LabelledImage, size: tuple[int, int]) -> LabelledImage:
        image, placement = resize_image(picture.image, size, self._resize)
        return LabelledImage(image, place_target(picture.target, placement))
