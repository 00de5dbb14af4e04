"""Fits anchors to a data set: k-means with the distance 1 - IoU (YOLOv2, arXiv 1612.08242, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolofpn.config import VocCorners
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError
from yolofpn.text import command

Sizes = NDArray[np.float64]  # [..., 2] widths and heights in network pixels

RECALL_IOU = 0.5
POOR_RECALL = 0.8
_MAX_BOXES = 20_000  # of more boxes a sample of this size is clustered
_RESTARTS = 5
_MAX_STEPS = 300


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors fit boxes of the same centre.

    Attributes:
        best_possible_recall: share of the boxes that some anchor overlaps with an IoU of ``RECALL_IOU`` at least.
        mean_iou: mean over the boxes of the IoU with their best anchor.
    """

    best_possible_recall: float
    mean_iou: float

    def __str__(self) -> str:
        recall, iou = self.best_possible_recall, self.mean_iou
        return f"best possible recall {recall:.3f} at IoU {RECALL_IOU}, mean IoU {iou:.3f}"


def fit_anchors(
    data: str | Path,
    *,
    root: Path | None = None,
    voc_corners: VocCorners | None = None,
    split: str = "train",
    network_size: tuple[int, int] = (416, 416),
    num_anchors: int = 9,
    num_levels: int = 3,
    seed: int = 0,
    current: Sequence[Sequence[tuple[float, float]]] = (),
) -> list[str]:
    """Fit anchors to a data set; return lines to print, of which the last one can be pasted into a model config.

    Args:
        data: as ``open_data`` takes it.
        voc_corners: convention of VOC's corners; None: detected.
        root: overrides the root folder of the data set.
        split: split of the data set.
        network_size: (height, width) of the network's input.
        num_anchors: number of anchors over all levels.
        num_levels: number of levels of the neck.
        seed: random seed of the clustering.
        current: anchors per level to compare with, (width, height) in network pixels.

    Raises:
        UserError: if the data set cannot be read or has no boxes, or the anchors cannot be divided among the levels.
    """
    if num_anchors < 1 or num_levels < 1 or num_anchors % num_levels:
        raise UserError(f"{num_anchors} anchors cannot be divided equally among {num_levels} levels")
    source = open_data(data, root, voc_corners)
    sizes = network_box_sizes(source.load(split), network_size)
    if not len(sizes):
        raise UserError(f"{data}: split {split!r} has no boxes to fit anchors to")
    fitted = kmeans_anchors(sizes, num_anchors, seed)
    lines = list(source.notes)
    if current:
        lines.append(f"current anchors: {anchor_fit(sizes, np.array([size for level in current for size in level]))}")
    lines.append(f"fitted to {len(sizes)} boxes at {network_size[0]}x{network_size[1]}: {anchor_fit(sizes, fitted)}")
    return [*lines, anchors_yaml(split_by_level(fitted, num_levels))]


def network_box_sizes(dataset: DetectionDataset, network_size: tuple[int, int]) -> Sizes:
    """[M, 2] width and height of every object after a letterbox resize to ``network_size`` (height, width).

    Ignore regions are omitted.
    """
    heights, widths = dataset.sizes[:, 0].astype(np.float64), dataset.sizes[:, 1].astype(np.float64)
    scale = np.minimum(network_size[0] / heights, network_size[1] / widths)  # [N]
    boxes = dataset.boxes.astype(np.float64)
    sizes: Sizes = (boxes[:, 2:] - boxes[:, :2]) * scale[dataset.image_index, None]
    return sizes[~dataset.ignore]


def size_iou(sizes: Sizes, anchors: Sizes) -> NDArray[np.float64]:
    """IoU of boxes [M, 2] and anchors [K, 2] that share their centre, [M, K]."""
    overlap = np.minimum(sizes[:, None, 0], anchors[None, :, 0]) * np.minimum(sizes[:, None, 1], anchors[None, :, 1])
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - overlap
    iou: NDArray[np.float64] = overlap / union
    return iou


def anchor_fit(sizes: Sizes, anchors: Sizes) -> AnchorFit:
    """Compute how well ``anchors`` [K, 2] fit boxes of ``sizes`` [M, 2].

    Raises:
        ValueError: if there are no boxes.
    """
    if not len(sizes):
        raise ValueError("there are no boxes to fit anchors to")
    best = size_iou(sizes, anchors).max(axis=1)
    return AnchorFit(float((best >= RECALL_IOU).mean()), float(best.mean()))


def kmeans_anchors(sizes: Sizes, num_anchors: int, seed: int = 0) -> Sizes:
    """``num_anchors`` anchors [K, 2] for boxes of ``sizes`` [M, 2], ordered by area; the same for the same seed.

    The first centres are chosen as k-means++ does; the best of several runs is taken. With fewer different sizes than
    anchors, some anchors are scaled copies.

    Raises:
        ValueError: if there are no boxes.
    """
    if not len(sizes):
        raise ValueError("there are no boxes to fit anchors to")
    rng = np.random.default_rng(seed)
    if len(sizes) > _MAX_BOXES:
        sizes = sizes[rng.choice(len(sizes), _MAX_BOXES, replace=False)]
    runs = [_kmeans(sizes, num_anchors, rng) for _ in range(_RESTARTS)]
    best: Sizes = max(runs, key=lambda anchors: anchor_fit(sizes, anchors).mean_iou)
    return best[np.argsort(best.prod(axis=1), kind="stable")]


def _kmeans(sizes: Sizes, num_anchors: int, rng: np.random.Generator) -> Sizes:
    anchors = _first_centres(sizes, num_anchors, rng)
    assigned = np.full(len(sizes), -1)
    for _ in range(_MAX_STEPS):
        iou = size_iou(sizes, anchors)
        nearest = iou.argmax(axis=1)
        if (nearest == assigned).all():
            break
        assigned = nearest
        counts = np.bincount(assigned, minlength=num_anchors)
        sums = np.stack([np.bincount(assigned, sizes[:, axis], minlength=num_anchors) for axis in (0, 1)], axis=1)
        filled = counts > 0
        anchors = anchors.copy()  # an empty cluster keeps its centre
        anchors[filled] = sums[filled] / counts[filled, None]
    return anchors


def _first_centres(sizes: Sizes, num_anchors: int, rng: np.random.Generator) -> Sizes:
    """k-means++: boxes far from the centres chosen so far are likelier to become the next one."""
    centres: Sizes = sizes[rng.integers(len(sizes))][None]
    while len(centres) < num_anchors:
        distance = 1 - size_iou(sizes, centres).max(axis=1)
        weights = np.maximum(distance, 0) ** 2
        if weights.sum() < 1e-12:  # every box is a centre already
            centres = np.concatenate([centres, centres[:1] * 2.0 ** len(centres)])
            continue
        centres = np.concatenate([centres, sizes[rng.choice(len(sizes), p=weights / weights.sum())][None]])
    return centres


def split_by_level(anchors: Sizes, num_levels: int) -> list[Sizes]:
    """Split anchors, which are ordered by area, into equal parts per level, the finest level first.

    Raises:
        ValueError: if they cannot be divided equally.
    """
    if len(anchors) % num_levels:
        raise ValueError(f"{len(anchors)} anchors cannot be divided equally among {num_levels} levels")
    return np.split(anchors, num_levels)


def anchors_yaml(levels: Sequence[Sizes]) -> str:
    """Format the line for a model config: ``anchors: [[[w, h], ...], ...]``, in whole pixels."""
    parts = (", ".join(f"[{max(1, round(w))}, {max(1, round(h))}]" for w, h in level.tolist()) for level in levels)
    return f"anchors: [{', '.join(f'[{part}]' for part in parts)}]"


def poor_fit_warning(sizes: Sizes, anchors: Sizes) -> str | None:
    """Return a warning if ``anchors`` fit the boxes badly; None otherwise, or if there are no boxes."""
    if not len(sizes):
        return None
    fit = anchor_fit(sizes, anchors)
    if fit.best_possible_recall >= POOR_RECALL:
        return None
    better = anchor_fit(sizes, kmeans_anchors(sizes, len(anchors)))
    if better.best_possible_recall <= fit.best_possible_recall + 0.05:
        return None
    return f"the anchors fit this data badly ({fit}); fitted ones: {better} ({command('anchors')} prints them)"
