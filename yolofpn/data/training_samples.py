"""Training samples: reads, combines and augments images."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.image_cache import ImageCache, Reading
from yolofpn.data.mosaic import LabelledImage, make_mosaic, mixup
from yolofpn.data.sampler import Draw, SampleKey, random_generator
from yolofpn.data.samples import Sample, place_target, to_tensor
from yolofpn.data.transforms import Augmentation, RandomView, random_safe_crop, random_tile, to_rgb
from yolofpn.ops.resize import resize_image
from yolofpn.types import ResizeMode

CACHE_BYTES = 256 * 2**20


class TrainingSamples(Dataset[Sample]):
    """Randomly augmented images; each sample is a pure function of the seed and its key.

    In place of an image that cannot be read the next one that can is taken, and the failure is noted.
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
            dataset: images and ground truth.
            augmentation: ranges and probabilities; None for images that are only resized.
            seed: of all that is random, not negative.
            resize: how single images are brought to the network's size.
            cache_bytes: how much memory every process may use to keep decoded images.
        """
        self._dataset = dataset
        self._augmentation = augmentation
        self._seed = seed
        self._resize: ResizeMode = resize
        self._cache = ImageCache(dataset, cache_bytes)
        if augmentation is not None:
            self._view_of_single = RandomView(augmentation, move=True)
            self._view_of_mosaic = RandomView(augmentation, move=False)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The sample of a key.

        Raises:
            UserError: if too many images in a row cannot be read.
        """
        reading = Reading(self._cache)
        if self._augmentation is None:
            labelled = to_rgb(self._resized(reading.labelled_image(key.index), key.size))
        else:
            # A first showing has the stream that it has where nothing is repeated.
            repeat = (key.repeat,) if key.repeat else ()
            rng = random_generator(self._seed, Draw.SAMPLE, key.epoch, key.index, *repeat)
            labelled = self._varied(self._augmentation, key, reading, rng)
        return Sample(to_tensor(labelled.image), labelled.target, tuple(reading.indices), reading.failures)

    def _varied(
        self, augmentation: Augmentation, key: SampleKey, reading: Reading, rng: np.random.Generator
    ) -> LabelledImage:
        if key.combine and rng.random() < augmentation.mosaic:
            labelled = self._mosaic(augmentation, key, reading, rng)
        else:
            labelled = self._single(augmentation, self._read(augmentation, reading, key.index, rng), key.size, rng)
        if key.combine and rng.random() < augmentation.mixup:
            other = self._read(augmentation, reading, self._partner(key, rng), rng)
            labelled = mixup(labelled, self._single(augmentation, other, key.size, rng))
        return labelled

    def _partner(self, key: SampleKey, rng: np.random.Generator) -> int:
        """A random image; of a shard's, one of the same shard, so that no other has to be at hand."""
        near = self._dataset.neighbours(key.index)
        return near[int(rng.integers(len(near)))]

    @staticmethod
    def _read(augmentation: Augmentation, reading: Reading, index: int, rng: np.random.Generator) -> LabelledImage:
        """An image, or a random tile of it."""
        labelled = reading.labelled_image(index)
        if augmentation.tile is None:
            return labelled
        return random_tile(labelled, rng, side=augmentation.tile, min_visibility=augmentation.min_visibility)

    def _mosaic(
        self, augmentation: Augmentation, key: SampleKey, reading: Reading, rng: np.random.Generator
    ) -> LabelledImage:
        near = self._dataset.neighbours(key.index)
        partners = [near[place] for place in rng.integers(len(near), size=3).tolist()]
        labelled_images = [self._read(augmentation, reading, index, rng) for index in (key.index, *partners)]
        zoom, min_visibility = augmentation.mosaic_zoom, augmentation.min_visibility
        mosaic = make_mosaic(labelled_images, key.size, rng, zoom=zoom, min_visibility=min_visibility)
        return self._view_of_mosaic(to_rgb(mosaic), rng)

    def _single(
        self, augmentation: Augmentation, labelled: LabelledImage, size: tuple[int, int], rng: np.random.Generator
    ) -> LabelledImage:
        if rng.random() < augmentation.crop:
            labelled = random_safe_crop(labelled, rng, crop_scale=augmentation.crop_scale)
        return self._view_of_single(to_rgb(self._resized(labelled, size)), rng)

    def _resized(self, labelled: LabelledImage, size: tuple[int, int]) -> LabelledImage:
        image, placement = resize_image(labelled.image, size, self._resize)
        return LabelledImage(image, place_target(labelled.target, placement))
