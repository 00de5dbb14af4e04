"""Samples for evaluation: resized images with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from yolofpn.bands import in_tensor_order
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.sampler import SampleKey
from yolofpn.errors import InputError
from yolofpn.ops.resize import LETTERBOX_FILL, NetworkImage, Placement, resize_for_detection
from yolofpn.structures import Target
from yolofpn.types import ResizeMode


@dataclass(frozen=True)
class Sample:
    """A sample created from a key.

    Attributes:
        image: [N, h, w], N = 3 RGB, uint8 or float32 of the range 0..255.
        target: in pixels of ``image``.
        indices: the images it is made of, the key's own first.
        failures: why images could not be read, by their number in the data set.
        original: evaluation only: the ground truth in the image's own pixels.
        placement: evaluation only: where the image lies in ``image``.
    """

    image: Tensor
    target: Target
    indices: tuple[int, ...]
    failures: dict[int, str] = field(default_factory=dict)
    original: Target | None = None
    placement: Placement | None = None


class EvaluationSamples(Dataset[Sample]):
    """Images resized as for detection.

    An image that cannot be read is listed in ``failures`` and replaced by a gray one without network target. Its
    ``original`` is the annotated ground truth all the same: what cannot be read counts as not found, so that damaged
    files never raise a score.
    """

    def __init__(self, dataset: DetectionDataset, resize: ResizeMode = "letterbox") -> None:
        self._dataset = dataset
        self._resize = resize

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        failures = {}
        try:
            image = self._dataset.image(key.index)
            original = network_target = self._dataset.target(key.index, (image.shape[0], image.shape[1]))
        except InputError as error:
            failures[key.index] = str(error)
            form = self._dataset.form
            kind = np.float32 if form.is_float else np.uint8
            image = np.full((*key.size, form.channels), LETTERBOX_FILL, dtype=kind)
            original = self._dataset.target(key.index)
            network_target = no_objects(original)
        resized, placement = resize_for_detection(image, key.size, self._resize)
        return Sample(
            to_tensor(in_tensor_order(resized)),
            place_target(network_target, placement),
            (key.index,),
            failures,
            replace(original, proposals=None),
            placement,
        )


def place_target(target: Target, placement: Placement) -> Target:
    """Convert a target from image pixels to network pixels, keeping every box."""
    areas = target.areas * (placement.scale_x * placement.scale_y)
    return replace(target.map_boxes(placement.to_network), areas=areas)


def no_objects(target: Target) -> Target:
    """Return the target without boxes."""
    return target[:0].map_boxes(lambda boxes: boxes[:0])


def to_tensor(image: NetworkImage) -> Tensor:
    """[H, W, N] -> [N, H, W] of the same type, channels in the same order."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
