"""Labels with known mistakes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from yolofpn.data.dataset import DetectionDataset

Box = tuple[float, ...]


@dataclass(frozen=True)
class Corruption:
    """What was done to a label: ``dropped``, ``renamed`` or ``shifted``; ``box`` is that of the data set then."""

    kind: str
    image_id: int
    label: int
    box: Box


def corrupt(dataset: DetectionDataset, share: float, seed: int) -> tuple[DetectionDataset, list[Corruption]]:
    """A share of the labels, in equal parts dropped, given another class that the data set has, and shifted.

    Shifts are by .3 to .6 of width and height, in any direction, and stay in the image.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(~dataset.ignore))[: round(share * int((~dataset.ignore).sum()))]
    boxes, labels = dataset.boxes.copy(), dataset.labels.copy()
    keep = np.ones(len(boxes), dtype=np.bool_)
    images = dataset.image_index
    present = np.unique(labels)
    done = []
    for place, row in enumerate(rows.tolist()):
        kind = ("dropped", "renamed", "shifted")[place % 3]
        box = tuple(boxes[row].tolist())
        if kind == "dropped":
            keep[row] = False
        elif kind == "renamed":
            labels[row] = rng.choice(present[present != labels[row]])
        else:
            height, width = dataset.sizes[images[row]].tolist()
            sides = boxes[row, 2:] - boxes[row, :2]
            move = sides * rng.uniform(0.3, 0.6, 2) * rng.choice([-1, 1], 2)
            x, y = (boxes[row, :2] + move).tolist()
            x1, y1 = max(0.0, x), max(0.0, y)
            x2, y2 = min(width, x + sides[0]), min(height, y + sides[1])
            boxes[row] = box = tuple(np.array([x1, y1, x2, y2], np.float32).tolist())
        done.append(Corruption(kind, int(dataset.image_ids[images[row]]), int(dataset.labels[row]), box))
    counts = np.bincount(images[keep], minlength=len(dataset))
    changed = replace(
        dataset,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes[keep],
        labels=labels[keep],
        ignore=dataset.ignore[keep],
        areas=dataset.areas[keep],
    )
    return changed, done
