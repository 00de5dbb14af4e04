"""Mosaic and mixup: images composed of several.

Mosaic: YOLOv4 (arXiv 2004.10934, section 3.4). Mixup for detection: Bag of Freebies (arXiv 1902.04103, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from yolofpn.bands import with_channels
from yolofpn.data.visibility import cut_target
from yolofpn.ops.resize import LETTERBOX_FILL
from yolofpn.structures import Image, Target

CENTRE_RANGE = (0.25, 0.75)  # where the four images meet, as part of the width and of the height


class LabelledImage(NamedTuple):
    """An image, [H, W, 3] uint8 or bands, and the ground truth in its pixels."""

    image: Image
    target: Target


def make_mosaic(
    labelled_images: Sequence[LabelledImage],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    zoom: tuple[float, float] = (0.5, 1.5),
    min_visibility: float = 0.25,
) -> LabelledImage:
    """Compose four images around a random centre.

    Each is scaled by its own factor. Where it is then larger than its quadrant, a random part of it is shown; where
    it is smaller, it touches the centre and the rest is gray.

    Args:
        labelled_images: four; which of them comes where is random. The result has the first one's id.
        size: (height, width) of the result in pixels.
        rng: draws the centre, the places, the scales and the parts.
        zoom: range of the factor; 1 is the scale at which the whole image just fits into ``size``.
        min_visibility: see ``yolofpn.data.visibility``.

    Raises:
        ValueError: if there are not four images.
    """
    if len(labelled_images) != 4:
        raise ValueError(f"a mosaic is made of 4 images, got {len(labelled_images)}")
    height, width = size
    centre_x = round(width * rng.uniform(*CENTRE_RANGE))
    centre_y = round(height * rng.uniform(*CENTRE_RANGE))
    first = labelled_images[0].image
    canvas = np.full((height, width, first.shape[2]), LETTERBOX_FILL, dtype=first.dtype)
    targets = []
    for quadrant, labelled in zip(rng.permutation(4).tolist(), labelled_images, strict=True):
        scale = rng.uniform(*zoom) * min(height / labelled.image.shape[0], width / labelled.image.shape[1])
        left, right, offset_x = _span(labelled.image.shape[1] * scale, centre_x, width, quadrant % 2 == 1, rng)
        top, bottom, offset_y = _span(labelled.image.shape[0] * scale, centre_y, height, quadrant >= 2, rng)
        canvas[top:bottom, left:right] = _scaled_part(
            labelled.image, scale, (left - offset_x, top - offset_y), (bottom - top, right - left)
        )
        move = partial(_moved, scale=scale, offset=(offset_x, offset_y))
        targets.append(cut_target(labelled.target, move, (left, top, right, bottom), min_visibility=min_visibility))
    return LabelledImage(canvas, join_targets(targets))


def mixup(first: LabelledImage, second: LabelledImage) -> LabelledImage:
    """Mix up two images of equal size: the mean of both, with the objects of both and the id of the first.

    Both count in full, since either is visible at half its contrast.

    Raises:
        ValueError: if the sizes differ.
    """
    if first.image.shape != second.image.shape:
        raise ValueError(f"images of {first.image.shape} and {second.image.shape} cannot be mixed")
    mixed = np.asarray(cv2.addWeighted(first.image, 0.5, second.image, 0.5, 0))
    return LabelledImage(with_channels(mixed), join_targets([first.target, second.target]))


def join_targets(targets: Sequence[Target]) -> Target:
    """All boxes and proposals of ``targets``, in order, under the first one's image id."""
    proposals = [target.proposals for target in targets if target.proposals is not None]
    return replace(
        targets[0],
        boxes=torch.cat([target.boxes for target in targets]),
        labels=torch.cat([target.labels for target in targets]),
        ignore=torch.cat([target.ignore for target in targets]),
        areas=torch.cat([target.areas for target in targets]),
        proposals=torch.cat(proposals) if proposals else None,
    )


def _moved(boxes: Tensor, scale: float, offset: tuple[int, int]) -> Tensor:
    return boxes * scale + torch.tensor(2 * offset, dtype=torch.float32)


def _span(extent: float, centre: int, length: int, after: bool, rng: np.random.Generator) -> tuple[int, int, int]:
    """Where an image of ``extent`` scaled pixels lies along one axis of the canvas.

    Args:
        extent: of the whole scaled image.
        centre: where the images meet.
        length: of the canvas.
        after: whether it lies behind the centre or before it.
        rng: draws which part is shown.

    Returns:
        First and end of the pixels that show it, and the position of the image's own edge (whole pixels, so that
        nothing is shown twice or left out where two images meet).
    """
    room = length - centre if after else centre
    pixels = max(int(extent), 1)
    shown = min(pixels, room)
    hidden = int(rng.integers(pixels - shown + 1))
    first = centre if after else centre - shown
    return first, first + shown, first - hidden


def _scaled_part(image: Image, scale: float, start: tuple[int, int], size: tuple[int, int]) -> Image:
    """Of ``image`` scaled by ``scale``, the part of ``size`` (height, width) from ``start`` (x, y), bilinearly."""
    # OpenCV's coordinates are of pixel centres: centre x + 0.5 of the result shows (x + 0.5 + start) / scale.
    matrix = np.array(
        [[scale, 0, 0.5 * scale - 0.5 - start[0]], [0, scale, 0.5 * scale - 0.5 - start[1]]], dtype=np.float64
    )
    part = cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return with_channels(np.asarray(part))
