"""Draws a page of images of a data set with their boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from yolofpn.bands import Bands
from yolofpn.config import Depth, VocCorners
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.drawing import draw_boxes
from yolofpn.errors import InputError, UserError
from yolofpn.files import replace_file
from yolofpn.structures import Image, Target

CELL = 384  # pixels, both sides
_GAP = 4
_BACKGROUND = 255


def save_page(
    data: str | Path,
    output: Path,
    *,
    root: Path | None = None,
    voc_corners: VocCorners | None = None,
    depth: Depth | Bands = "auto",
    split: str = "train",
    count: int = 12,
    seed: int = 0,
) -> list[str]:
    """Write a page of images of a split with their boxes; returns lines to print.

    Args:
        data: as ``open_data`` takes it.
        output: the image to write, .png or .jpg.
        voc_corners: how VOC's corners are read, instead of how they look.
        depth: which value is white in images of more than 8 bits, or how bands are read.
        root: the data set's folder, instead of the one that a file names.
        split: which split.
        count: how many images, chosen at random among those with boxes, then those without.
        seed: of the choice.

    Raises:
        UserError: if the data set cannot be read, none of the chosen images can, or the page cannot be written.
    """
    source = open_data(data, root, voc_corners)
    dataset = replace(source.load(split), depth=depth)
    images: list[Image] = []
    lines: list[str] = []
    for index in choose_images(dataset, count, seed):
        try:
            images.append(labelled_image(dataset, index))
        except InputError as error:
            lines.append(str(error))
    if not images:
        raise UserError(f"{data}: none of the chosen images of {split!r} can be read")
    _write(output, page(images))
    return [*source.notes, *lines, f"{len(images)} images of {split} with their boxes: {output}"]


def choose_images(dataset: DetectionDataset, count: int, seed: int) -> list[int]:
    """Choose ``count`` images in random order, those with boxes first."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    empty = np.diff(dataset.offsets)[order] == 0
    return [int(index) for index in order[np.argsort(empty, kind="stable")][:count]]


def labelled_image(dataset: DetectionDataset, index: int) -> Image:
    """Image ``index``, at most ``CELL`` pixels a side, with its boxes and class names drawn on it.

    Raises:
        InputError: if the image cannot be read.
    """
    image = dataset.shown_image(index)
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8)
    return draw_target(
        small, dataset.target(index, (height, width)), dataset.names, (size[0] / width, size[1] / height)
    )


def draw_target(image: Image, target: Target, names: Sequence[str], scale: tuple[float, float] = (1.0, 1.0)) -> Image:
    """Draw a target's boxes and class names, and ignore regions, on a copy of ``image``.

    Args:
        image: [H, W, 3] uint8, BGR.
        target: its ground truth.
        names: class names by label.
        scale: what widths and heights of the target's boxes are multiplied with to be pixels of ``image``.
    """
    labels = target.labels.tolist()
    texts = [
        f"{names[label]} (ignored)" if ignored else names[label]
        for label, ignored in zip(labels, target.ignore.tolist(), strict=True)
    ]
    return draw_boxes(image, target.boxes.numpy() * np.array([*scale, *scale]), labels, texts)


def page(images: Sequence[Image]) -> Image:
    """Arrange images of at most ``CELL`` pixels per side in a roughly square grid.

    Raises:
        ValueError: if there is none, or one is larger than a cell.
    """
    if not images:
        raise ValueError("a page needs an image")
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    step = CELL + _GAP
    sheet = np.full((rows * step + _GAP, columns * step + _GAP, 3), _BACKGROUND, dtype=np.uint8)
    for place, image in enumerate(images):
        height, width = image.shape[:2]
        top = _GAP + place // columns * step + (CELL - height) // 2
        left = _GAP + place % columns * step + (CELL - width) // 2
        if height > CELL or width > CELL:
            raise ValueError(f"an image of {width}x{height} pixels is larger than a cell of {CELL}x{CELL}")
        sheet[top : top + height, left : left + width] = image
    return sheet


def _write(path: Path, image: Image) -> None:
    path = path if path.suffix else path.with_suffix(".png")
    try:
        ok, encoded = cv2.imencode(path.suffix, image)
        if ok:
            replace_file(path, encoded.tobytes())
            return
    except cv2.error:
        pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    raise UserError(f"{path}: cannot be written as {path.suffix}: use .png or .jpg")
