"""Draws pages of training batches and validation detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from yolofpn.bands import in_tensor_order, viewable
from yolofpn.config import Config
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.label_pages import CELL, choose_images, draw_target, page
from yolofpn.data.loader import Batch, Loader, Padding, collate
from yolofpn.data.sampler import SampleKey, TrainBatchSampler
from yolofpn.data.samples import EvaluationSamples
from yolofpn.evaluation.evaluator import detect_batch
from yolofpn.files import write_atomically
from yolofpn.models.build import NativeDetector
from yolofpn.structures import Detections, Image

IMAGES = 16
JPEG_QUALITY = 90


def first_batch(loader: Loader[TrainBatchSampler]) -> Batch:
    """Return the first batch of a run, limited to ``IMAGES`` images."""
    keys = next(iter(loader.sampler))[:IMAGES]
    return collate([loader.samples[key] for key in keys])


def save_train_batch(
    path: Path, batch: Batch, names: tuple[str, ...], shown: tuple[int, int, int] | None = None
) -> None:
    """Write a page of a batch as the network sees it, with the boxes that it should learn.

    Args:
        path: of the file.
        batch: of training.
        names: class names by label.
        shown: the bands that are drawn (see ``yolofpn.bands.viewable``).

    Raises:
        UserError: the file cannot be written.
    """
    images = []
    for pixels, target in zip(batch.images, batch.targets, strict=True):
        image, scale = fit_into_cell(_as_seen(pixels, shown))
        images.append(draw_target(image, target, names, (scale, scale)))
    write_jpeg(path, page(images))


def save_val_batch(
    path: Path,
    model: NativeDetector,
    dataset: DetectionDataset,
    config: Config,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Write a page of validation images with what ``model``, in evaluation mode, detects on them.

    Raises:
        UserError: the file cannot be written.
    """
    samples = EvaluationSamples(dataset, config.input.resize)
    padding = Padding.for_network(config.input.mean, model.size_divisor)
    images = []
    for index in choose_images(dataset, IMAGES, seed=0):
        batch = collate([samples[SampleKey(index, 0, config.input.size)]], padding)
        if not batch.failures:
            (found,) = detect_batch(model, batch.images.to(device), batch, dtype, model.limits)
            images.append(draw_found(dataset.shown_image(index), replace(found, names=dataset.names)))
    if images:
        write_jpeg(path, page(images))


def _as_seen(pixels: Tensor, shown: tuple[int, int, int] | None) -> Image:
    """[N, H, W] as batches hold it -> [H, W, 3] uint8, BGR."""
    image = in_tensor_order(pixels.permute(1, 2, 0).numpy())
    is_bands = pixels.is_floating_point() and (shown is not None or pixels.shape[0] != 3)
    return viewable(image, shown) if is_bands else np.ascontiguousarray(image)


def draw_found(image: Image, found: Detections) -> Image:
    """A copy of ``image`` that fits into a cell of a page, with detections in its pixels drawn on it."""
    small, scale = fit_into_cell(image)
    return replace(found, boxes=found.boxes * scale).draw(small)


def fit_into_cell(image: Image) -> tuple[Image, float]:
    """[H, W, 3] -> the same image with its longer side ``CELL`` pixels long, and the factor of its size."""
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), dtype=np.uint8), scale


def write_jpeg(path: Path, image: Image) -> None:
    """Write an image, [H, W, 3] uint8 BGR.

    Raises:
        UserError: the file cannot be written.
    """
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_atomically(path, encoded.tobytes())
