"""Transforms targets when their image is moved, scaled and cropped.

The rule, the same for every cut (crop, scale and translate, mosaic): a box is first clipped to what is still visible
of its image, and goes if less than ``MIN_SIDE`` pixels of either side are left. An object stays one if at least
``min_visibility`` of its box is left. Where less is left, that becomes an ignore region: too little to learn the object
from, yet no background, as it may show a whole face. An ignore region stays one, however small a part of it is left.
The annotated area shrinks and grows with the box: an object whose mask fills half of its box is taken to fill half of
what remains of the box.

A proposal is clipped and kept as an ignore region is, and has no area of its own.

All that an ignore region takes away is background; an object that lies in it is learned as anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from yolofpn.structures import Target

MIN_SIDE = 2.0  # pixels of the network's input


def cut_target(
    target: Target,
    move: Callable[[Tensor], Tensor],
    window: tuple[float, float, float, float],
    *,
    min_visibility: float,
    min_side: float = MIN_SIDE,
) -> Target:
    """Clip moved boxes to ``window`` of the new image.

    Args:
        target: before the move.
        move: boxes [N, 4] -> the same in pixels of the new image, not clipped.
        window: xyxy in pixels of the new image.
        min_visibility: part of an object's box, in [0, 1], that must remain for it to stay an object.
        min_side: pixels of width and of height that must remain; 0 where the image is resized later.
    """
    moved = target.map_boxes(move)
    low, high = (torch.tensor(2 * corner, dtype=torch.float32) for corner in (window[:2], window[2:]))
    visible = moved.map_boxes(lambda boxes: torch.minimum(torch.maximum(boxes, low), high))
    moved_areas = box_areas(moved.boxes)
    return keep_visible(target, visible, moved_areas, min_visibility=min_visibility, min_side=min_side)


def keep_visible(
    target: Target, visible: Target, moved_areas: Tensor, *, min_visibility: float, min_side: float = MIN_SIDE
) -> Target:
    """Apply the visibility rule to clipped boxes.

    Args:
        target: before its boxes moved.
        visible: the same with what is visible of each box and proposal in the new image.
        moved_areas: [M] areas of the boxes in the new image if nothing were cut off, in square pixels.
        min_visibility: part of an object's box, in [0, 1], that must remain for it to stay an object.
        min_side: pixels of width and of height that must remain.
    """
    areas = box_areas(visible.boxes)
    # The boxes of an image that was only moved keep their size but for rounding.
    too_little = areas < (min_visibility - 1e-4) * moved_areas
    change = areas / box_areas(target.boxes).clamp(min=1e-6)
    changed = replace(visible, ignore=target.ignore | too_little, areas=target.areas * change)
    kept = changed[_is_left(visible.boxes, min_side)]
    if kept.proposals is None:
        return kept
    return replace(kept, proposals=kept.proposals[_is_left(kept.proposals, min_side)])


def _is_left(boxes: Tensor, min_side: float) -> Tensor:
    """[N, 4] -> [N] bool, of boxes that are clipped."""
    return (box_areas(boxes) > 0) & (boxes[:, 2:] - boxes[:, :2] >= min_side).all(dim=1)


def box_areas(boxes: Tensor) -> Tensor:
    """[N, 4] xyxy -> [N], in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
