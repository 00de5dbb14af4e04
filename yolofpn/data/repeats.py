"""Repeat-factor sampling of images of rare classes (LVIS, arXiv 1908.03195, appendix B.2).

A class that the share f of the images holds has the factor max(1, sqrt(t / f)), with a threshold t; an image has the
largest factor of its classes, and an epoch shows it so many times on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolofpn.data.dataset import DetectionDataset

LISTED_CLASSES = 10


@dataclass(frozen=True, eq=False)
class RepeatFactors:
    """Mean number of repeats per epoch.

    Attributes:
        classes: [C] float64, 1 or more; 1 for a class that no image holds.
        images: [N] float64, 1 or more; 1 for an image without an object.
    """

    classes: NDArray[np.float64]
    images: NDArray[np.float64]

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples per epoch, the same in every epoch."""
        return samples_of(self.images)


def repeat_factors(dataset: DetectionDataset, thresh: float) -> RepeatFactors:
    """The factors of a data set's classes and images; a ignore region is no object of its class.

    Args:
        dataset: of at least one image.
        thresh: share of the images, in [0, 1], below which a class is rare; 0: none is.
    """
    objects = ~dataset.ignore
    image_of, label_of = dataset.image_index[objects], dataset.labels[objects].astype(np.int64)
    num_classes = len(dataset.names)
    pairs = np.unique(image_of * num_classes + label_of)
    share = np.bincount(pairs % num_classes, minlength=num_classes) / len(dataset)
    present = share > 0
    classes = np.ones(num_classes)
    classes[present] = np.maximum(1, np.sqrt(thresh / share[present]))
    images = np.ones(len(dataset))
    np.maximum.at(images, image_of, classes[label_of])
    return RepeatFactors(classes, images)


def samples_of(factors: NDArray[np.float64]) -> int:
    """The sum of factors [N], rounded: how many samples every epoch has."""
    whole = np.floor(factors)
    return int(whole.sum()) + _rounded_sum(factors - whole)


def draw_counts(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Factors [N], 1 or more -> [N] how often each image is shown: its factor rounded down or up at random.

    By systematic sampling the counts always add up to ``samples_of(factors)``. What it takes to round that sum, less
    than one sample of an epoch, is shared out among the probabilities.
    """
    whole = np.floor(factors)
    counts = whole.astype(np.int64)
    parts = factors - whole
    extra = _rounded_sum(parts)
    if extra == 0:
        return counts
    # In a new order each time, so that no two images are always rounded alike.
    order = rng.permutation(np.flatnonzero(parts))
    reached = np.floor(np.cumsum(_adding_up_to(extra, parts[order])) + rng.random())
    reached = np.minimum(reached, extra)
    reached[-1] = extra  # it is, but for the last digits of the sum
    counts[order] += np.diff(reached, prepend=0).astype(np.int64)
    return counts


def describe_repeats(dataset: DetectionDataset, factors: RepeatFactors, thresh: float) -> str:
    """Format the number of samples per epoch and the factors of repeated classes."""
    rare = [label for label in np.argsort(-factors.classes, kind="stable").tolist() if factors.classes[label] > 1]
    if not rare:
        return f"repeats: none, as no class is in less than {100 * thresh:g} % of the images (train.repeat_thresh)"
    listed = [f"{dataset.names[label]} x{factors.classes[label]:.2f}" for label in rare[:LISTED_CLASSES]]
    if len(rare) > LISTED_CLASSES:
        listed.append(f"... down to x{factors.classes[rare[-1]]:.2f}")
    return (
        f"repeats: {factors.samples_per_epoch} samples per epoch of {len(dataset)} images; "
        f"{len(rare)} of {len(dataset.names)} classes in less than {100 * thresh:g} % of them (train.repeat_thresh): "
        f"{', '.join(listed)}"
    )


def _rounded_sum(parts: NDArray[np.float64]) -> int:
    return round(float(parts.sum()))


def _adding_up_to(total: int, parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers between 0 and 1, changed in proportion until they add up to their rounded sum, still between 0 and 1."""
    now = float(parts.sum())
    if total <= now:
        return parts * (total / now)
    # What each lacks to 1 shrinks, so that none grows beyond it.
    return 1 - (1 - parts) * ((len(parts) - total) / (len(parts) - now))
