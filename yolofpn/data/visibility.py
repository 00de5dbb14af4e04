"""What becomes of a target when its picture is moved, scaled and cut.

The rule, the same for every cut (crop, scale and translate, mosaic): a box is first clipped to what is still visible
of its picture, and goes if less than ``MIN_SIDE`` pixels of either side are left. An object stays one if at least
``min_visibility`` of its box is left. Where less is left, that becomes an ignore region: too little to learn the object
from, yet no background, as it may show a whole face. An ignore region stays one, however small a part of it is left.
The annotated area shrinks and grows with the box: an object whose mask fills half of its box is taken to fill half of
what remains of the box.

All that an ignore region takes away is background; an object that lies in it is learnt as anywhere else.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from yolofpn.structures import Target

MIN_SIDE = 2.0  # pixels of the network's input


def cut_target(
    target: Target,
    moved: NDArray[np.float32],
    window: tuple[float, float, float, float],
    *,
    min_visibility: float,
    min_side: float = MIN_SIDE,
) -> Target:
    """The target once its boxes have moved and only ``window`` of the new picture shows what they mark.

    Args:
        target: before the move.
        moved: [M, 4] its boxes in the new picture, not clipped.
        window: xyxy in pixels of the new picture.
        min_visibility: part of an object's box, in [0, 1], that must remain for it to stay an object.
        min_side: pixels of width and of height that must remain; 0 where the picture is resized later.
    """
    x1, y1, x2, y2 = window
    visible = np.clip(moved, (x1, y1, x1, y1), (x2, y2, x2, y2), dtype=np.float32)
    return keep_visible(target, visible, box_areas(moved), min_visibility=min_visibility, min_side=min_side)


def keep_visible(
    target: Target,
    visible: NDArray[np.float32],
    moved_areas: NDArray[np.float32],
    *,
    min_visibility: float,
    min_side: float = MIN_SIDE,
) -> Target:
    """Applies the rule to boxes that are clipped already.

    Args:
        target: before its boxes moved.
        visible: [M, 4] what is visible of its boxes in the new picture.
        moved_areas: [M] areas of the boxes in the new picture if nothing were cut off, in square pixels.
        min_visibility: part of an object's box, in [0, 1], that must remain for it to stay an object.
        min_side: pixels of width and of height that must remain.
    """
    areas = box_areas(visible)
    # The boxes of a picture that was only moved keep their size but for rounding.
    too_little = areas < (min_visibility - 1e-4) * moved_areas
    sides = visible[:, 2:] - visible[:, :2]
    keep = (areas > 0) & (sides >= min_side).all(axis=1)
    change = areas / np.maximum(box_areas(target.boxes.numpy()), 1e-6)
    rows = torch.from_numpy(keep)
    return Target(
        boxes=torch.from_numpy(visible[keep]),
        labels=target.labels[rows],
        ignore=(target.ignore | torch.from_numpy(too_little))[rows],
        areas=target.areas[rows] * torch.from_numpy(change[keep]),
        image_id=target.image_id,
    )


def box_areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """[M, 4] xyxy -> [M], in square pixels."""
    areas: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
