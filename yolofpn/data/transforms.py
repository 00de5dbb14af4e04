"""Augmentation: crop, scale and translate, flips and colours.

The images and boxes of flips, scale and translate, and colours are albumentations' work; every step draws from the
generator that it is handed, so what a sample looks like depends on nothing else. What a cut does to boxes is said in
``yolofpn.data.visibility``.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolofpn.data.mosaic import LabelledImage
from yolofpn.data.visibility import box_areas, cut_target, keep_visible
from yolofpn.ops.resize import LETTERBOX_FILL
from yolofpn.structures import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for a newer version on the network
import albumentations as A  # type: ignore[import-untyped]

OBJECT_TILES = 0.5  # of the tiles show an object; most of a large image is background


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings; 0 disables an augmentation.

    Attributes:
        flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom; for images without an up, as from a microscope.
        hue: largest shift of the hue, as part of the colour circle, in [0, 0.5].
        saturation: largest relative change of the saturation, in [0, 1].
        brightness: largest relative change of the brightness, in [0, 1].
        scale: range of the factor by which a single image shrinks or grows about its middle.
        translate: largest shift of a single image, as part of its width and height, in [0, 1].
        tile: side in pixels of a random part of each larger image that is used in its place, so that objects keep their
            scale; None: whole images.
        crop: probability that a single image is cropped around its objects.
        crop_scale: smallest width and height of a crop, as parts of the image's.
        mosaic: probability of a mosaic instead of a single image.
        mosaic_zoom: range of the factor by which a mosaic's images shrink or grow; 1 is the size of a single one.
        mixup: probability that a second image shines through.
        min_visibility: part of an object's box, in [0, 1], that must be visible after a cut for it to stay an object;
            what is visible of less is ignored.
    """

    flip: float = 0.5
    vertical_flip: float = 0.0
    hue: float = 0.015
    saturation: float = 0.5
    brightness: float = 0.3
    scale: tuple[float, float] = (0.7, 1.4)
    translate: float = 0.1
    tile: int | None = None
    crop: float = 0.3
    crop_scale: float = 0.5
    mosaic: float = 0.5
    mosaic_zoom: tuple[float, float] = (0.5, 1.5)
    mixup: float = 0.0
    min_visibility: float = 0.25


class RandomView:
    """Scales and translates (optional), flips and changes the colours of an image of the network's size."""

    def __init__(self, augmentation: Augmentation, *, move: bool) -> None:
        """Sets up albumentations.

        Args:
            augmentation: ranges and probabilities.
            move: whether to scale and translate.
        """
        a = augmentation
        steps: list[A.BasicTransform] = [A.HorizontalFlip(p=a.flip), A.VerticalFlip(p=a.vertical_flip)]
        if move and (a.scale != (1, 1) or a.translate):
            shift = (-a.translate, a.translate)
            steps.insert(0, A.Affine(scale=a.scale, keep_ratio=True, translate_percent=shift, fill=LETTERBOX_FILL, p=1))
        geometric = list(steps)
        if a.hue or a.saturation or a.brightness:
            # Not HueSaturationValue: it adds to the saturation, which tints what is gray.
            steps.append(A.ColorJitter(brightness=a.brightness, contrast=0, saturation=a.saturation, hue=a.hue, p=1))
        # albumentations leaves boxes without area in, and then fails over them, unless told a smallest side.
        boxes = A.BboxParams(
            "pascal_voc", label_fields=["rows"], clip=True, filter_invalid_bboxes=True, min_width=0.01, min_height=0.01
        )
        self._compose = A.Compose(steps, bbox_params=boxes, save_applied_params=True)
        self._compose_bands = A.Compose(geometric, bbox_params=boxes, save_applied_params=True)
        self._brightness = a.brightness
        self._min_visibility = a.min_visibility

    def __call__(self, labelled: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """A changed copy of ``labelled`` (RGB).

        Args:
            labelled: [H, W, 3] uint8 RGB, or bands, whose colours only change by brightness and contrast; with its
                target.
            rng: everything random is drawn from it.
        """
        # Neither albumentations' ``seed=`` nor ``set_random_seed``: they give every step a generator of its own from
        # one and the same seed, so that all draw the same numbers. Here all draw in turn from two shared ones.
        is_colour = labelled.image.dtype == np.uint8
        compose = self._compose if is_colour else self._compose_bands
        compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        target = labelled.target
        boxes = target.boxes if target.proposals is None else torch.cat([target.boxes, target.proposals])
        result = compose(image=labelled.image, bboxes=boxes.numpy(), rows=np.arange(len(boxes)))
        scale = 1.0
        for name, params in result["applied_transforms"]:
            if name == "Affine":
                scale = float(params["scale"]["x"])
        rows = torch.from_numpy(np.asarray(result["rows"], dtype=np.int64))
        found = torch.from_numpy(np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4))
        is_own = rows < len(target)
        before = target[rows[is_own]]
        proposals = None if target.proposals is None else found[~is_own]
        visible = replace(before, boxes=found[is_own], proposals=proposals)
        moved_areas = box_areas(before.boxes) * (scale * scale)
        image = np.asarray(result["image"], dtype=labelled.image.dtype)
        return LabelledImage(
            image if is_colour else vary_bands(image, self._brightness, rng),
            keep_visible(before, visible, moved_areas, min_visibility=self._min_visibility),
        )


def vary_bands(image: Image, most: float, rng: np.random.Generator) -> Image:
    """Change brightness and contrast of all bands alike, as a part of their range.

    Args:
        image: [H, W, N] float32 of the range 0..255.
        most: contrast, about the middle of the range, is multiplied by 1 - ``most`` to 1 + ``most``; up to half of
            ``most`` times the range is added or subtracted.
        rng: draws both.
    """
    if not most:
        return image
    contrast, shift = rng.uniform(1 - most, 1 + most), rng.uniform(-most, most) / 2 * 255
    changed: Image = (image - np.float32(127.5)) * np.float32(contrast) + np.float32(127.5 + shift)
    return changed


def random_safe_crop(labelled: LabelledImage, rng: np.random.Generator, *, crop_scale: float = 0.5) -> LabelledImage:
    """Crop a random part of an image that contains all its objects completely; ignore regions may be clipped.

    Args:
        labelled: any size; the result shares its pixels.
        rng: draws the part.
        crop_scale: smallest width and height of the part, as parts of the image's, in (0, 1].
    """
    height, width = labelled.image.shape[:2]
    target = labelled.target
    objects = target.boxes[~target.ignore].numpy()
    left, right = _span_around(objects[:, [0, 2]], width, crop_scale, rng)
    top, bottom = _span_around(objects[:, [1, 3]], height, crop_scale, rng)
    corner = torch.tensor([left, top, left, top], dtype=torch.float32)
    window = (0, 0, right - left, bottom - top)
    cut = cut_target(target, lambda boxes: boxes - corner, window, min_visibility=1.0, min_side=0)
    return LabelledImage(labelled.image[top:bottom, left:right], cut)


def random_tile(
    labelled: LabelledImage, rng: np.random.Generator, *, side: int, min_visibility: float
) -> LabelledImage:
    """A random part of at most ``side`` x ``side`` pixels; half of them contain the centre of a random object.

    Args:
        labelled: any size; the result shares its pixels.
        rng: draws the part.
        side: of the part, in pixels.
        min_visibility: see ``cut_target``.
    """
    height, width = labelled.image.shape[:2]
    extents = min(side, width), min(side, height)
    if extents == (width, height):
        return labelled
    target = labelled.target
    rooms = np.array([width, height]) - extents
    corner = rng.integers(rooms + 1)
    objects = target.boxes[~target.ignore].numpy()
    if len(objects) and rng.random() < OBJECT_TILES:
        box = objects[int(rng.integers(len(objects)))]
        centre = (box[:2] + box[2:]) / 2
        corner = np.clip(np.floor(centre - rng.random(2) * extents), 0, rooms).astype(np.int64)
    left, top = corner.tolist()
    shift = torch.tensor([left, top, left, top], dtype=torch.float32)
    window = (0, 0, *extents)
    cut = cut_target(target, lambda boxes: boxes - shift, window, min_visibility=min_visibility, min_side=0)
    return LabelledImage(labelled.image[top : top + extents[1], left : left + extents[0]], cut)


def to_rgb(labelled: LabelledImage) -> LabelledImage:
    """Reverse the channels, from BGR to RGB; bands of other numbers than three stay in their order."""
    if labelled.image.shape[2] != 3:
        return labelled
    return LabelledImage(np.asarray(cv2.cvtColor(labelled.image, cv2.COLOR_BGR2RGB)), labelled.target)


def _span_around(
    sides: NDArray[np.float32], length: int, crop_scale: float, rng: np.random.Generator
) -> tuple[int, int]:
    """First and end of random pixels along one axis that hold all [M, 2] sides."""
    extent = max(round(length * rng.uniform(crop_scale, 1)), 1)
    share = rng.random()
    if len(sides) == 0:
        first = round(share * (length - extent))
        return first, first + extent
    lowest, highest = int(np.floor(sides.min())), int(np.ceil(sides.max()))
    extent = max(extent, highest - lowest)
    earliest, latest = max(highest - extent, 0), min(lowest, length - extent)
    first = earliest + round(share * (latest - earliest))
    return first, first + extent
