"""Regions of a feature map as maps of one fixed size: bilinear RoIAlign and Fast R-CNN's max-pooling.

The field's definitions to the letter, in tensor operations: a RoI is cut into ``output_size`` bins, and each bin
is the mean of a few bilinear samples (Mask R-CNN, arXiv 1703.06870, section 3) or the maximum of the cells that it
touches (Fast R-CNN, arXiv 1504.08083, section 2.1). Gradients flow to the feature map, not to the boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_TAPS_AT_ONCE = 2**22  # feature cells that are looked up in one step: 50 MB of indices and weights
_ROIS_AT_ONCE = 64  # of which maxima are taken


def roi_align(
    feature: Tensor,
    boxes: Tensor,
    batch_indices: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Tensor:
    """Pool each box to ``output_size`` by means of bilinear samples.

    Computed in float32 at least. A sample more than a cell outside the map is 0; nearer ones are those of the border.
    Working memory does not grow with the number of boxes, beyond what is returned and what gradients need.

    Args:
        feature: [B, C, H, W].
        boxes: [R, 4] xyxy in pixels of the image; they may leave it.
        batch_indices: [R] int64, the image of each box.
        output_size: (height, width) of each pooled map.
        spatial_scale: cells of the feature map per pixel, such as 1 / 16.
        sampling_ratio: samples per bin and direction; 0 or less: ceil(box size / output size), box by box.
        aligned: the centre of the first cell lies half a cell inside the map, where it really is. Otherwise at the
            map's corner, as in Faster R-CNN's first implementations, and a box measures one cell at least.

    Returns:
        [R, C, *output_size] of the feature map's type.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    _check_shapes(feature, boxes, batch_indices)
    height, width = feature.shape[2:]
    cells = _cells_in_rows(feature)
    start = boxes.detach().to(cells.dtype) * spatial_scale - (0.5 if aligned else 0.0)  # [R, 4]
    start, size = start[:, :2], start[:, 2:] - start[:, :2]
    if not aligned:
        size = size.clamp(min=1)
    pooled = cells.new_zeros(len(boxes), *output_size, cells.shape[1])
    for rois, (down, across) in _rois_of_equal_grid(size, output_size, sampling_ratio):
        ys, y_weights = _taps(start[rois, 1], size[rois, 1], output_size[0], down, height)
        xs, x_weights = _taps(start[rois, 0], size[rois, 0], output_size[1], across, width)
        places = _row_of_each_cell(batch_indices[rois], ys, xs, height, width)
        weights = (y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]).view(places.shape)
        bins = F.embedding_bag(places, cells, mode="sum", per_sample_weights=weights)
        if len(rois) == len(boxes):  # all at once: no second copy
            return bins.view(pooled.shape).permute(0, 3, 1, 2).to(feature.dtype)
        pooled.index_copy_(0, rois, bins.view(len(rois), *pooled.shape[1:]))
    return pooled.permute(0, 3, 1, 2).to(feature.dtype)


def roi_max_pool(
    feature: Tensor, boxes: Tensor, batch_indices: Tensor, output_size: tuple[int, int], spatial_scale: float
) -> Tensor:
    """Pool each box to ``output_size`` by maxima: corners rounded to whole cells, both included; bins may overlap.

    Args:
        feature: [B, C, H, W].
        boxes: [R, 4] xyxy in pixels of the image; they may leave it.
        batch_indices: [R] int64, the image of each box.
        output_size: (height, width) of each pooled map.
        spatial_scale: cells of the feature map per pixel, such as 1 / 16.

    Returns:
        [R, C, *output_size]; a bin that lies outside the map is 0. Of equal maxima the first one gets the gradient.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    _check_shapes(feature, boxes, batch_indices)
    height, width = feature.shape[2:]
    cells = _cells_in_rows(feature)
    corners = _round_half_away(
        boxes.detach().to(torch.promote_types(boxes.dtype, torch.float32)) * spatial_scale
    ).long()
    top, bottom = _bin_edges(corners[:, 1], corners[:, 3], output_size[0], height)
    left, right = _bin_edges(corners[:, 0], corners[:, 2], output_size[1], width)
    pooled = cells.new_zeros(len(boxes), *output_size, cells.shape[1])
    for rois, (down, across) in _rois_of_similar_bins((bottom - top).amax(dim=1), (right - left).amax(dim=1)):
        ys = _up_to_the_last(top[rois], bottom[rois], down)
        xs = _up_to_the_last(left[rois], right[rois], across)
        places = _row_of_each_cell(batch_indices[rois], ys, xs, height, width)
        bins = F.embedding_bag(places, cells, mode="max")
        pooled.index_copy_(0, rois, bins.view(len(rois), *pooled.shape[1:]))
    has_cells = (bottom > top)[:, :, None] & (right > left)[:, None, :]
    return (pooled * has_cells[..., None]).permute(0, 3, 1, 2).to(feature.dtype)


def _check_shapes(feature: Tensor, boxes: Tensor, batch_indices: Tensor) -> None:
    if feature.ndim != 4 or boxes.shape != (len(boxes), 4) or batch_indices.shape != (len(boxes),):
        shapes = f"{tuple(feature.shape)}, {tuple(boxes.shape)} and {tuple(batch_indices.shape)}"
        raise ValueError(f"feature, boxes and batch_indices must be [B, C, H, W], [R, 4] and [R], got {shapes}")


def _cells_in_rows(feature: Tensor) -> Tensor:
    """[B, C, H, W] -> [B * H * W, C] in float32 at least."""
    dtype = torch.promote_types(feature.dtype, torch.float32)
    return feature.to(dtype).permute(0, 2, 3, 1).reshape(-1, feature.shape[1])


def _row_of_each_cell(batch_indices: Tensor, ys: Tensor, xs: Tensor, height: int, width: int) -> Tensor:
    """Combine every y of a bin with every x: [R], [R, h, a], [R, w, b] -> [R * h * w, a * b] cell indices."""
    rows = batch_indices[:, None, None] * height + ys
    return (rows[:, :, None, :, None] * width + xs[:, None, :, None, :]).flatten(3).flatten(0, 2)


def _rois_of_equal_grid(
    size: Tensor, output_size: tuple[int, int], sampling_ratio: int
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Indices of RoIs, and the samples per bin that they share: (down, across)."""
    everyone = torch.arange(len(size), device=size.device)
    if sampling_ratio > 0:
        groups = [(everyone, (sampling_ratio, sampling_ratio))] if len(size) else []
    else:
        bins = size.new_tensor((output_size[1], output_size[0]))
        wanted = (size / bins).ceil().clamp(min=0).long()  # across, down
        grids, group = torch.unique(wanted, dim=0, return_inverse=True)
        groups = [(everyone[group == index], (down, across)) for index, (across, down) in enumerate(grids.tolist())]
    for rois, (down, across) in groups:
        taps = output_size[0] * output_size[1] * 4 * down * across
        if taps:  # else a box without extent, which has no samples
            yield from ((part, (down, across)) for part in torch.split(rois, max(1, _TAPS_AT_ONCE // taps)))


def _taps(start: Tensor, size: Tensor, bins: int, samples: int, length: int) -> tuple[Tensor, Tensor]:
    """The cells that the samples of each bin lie between, along one axis, and their weights in the bin's mean.

    Args:
        start: [R] of the RoIs in cells.
        size: [R] of the RoIs in cells.
        bins: of each RoI.
        samples: of each bin.
        length: of the axis in cells.

    Returns:
        [R, bins, 2 * samples] int64 and float.
    """
    bin_size = size[:, None, None] / bins
    bin_index = torch.arange(bins, device=size.device)[:, None]
    sample_index = torch.arange(samples, device=size.device)
    at = start[:, None, None] + bin_index * bin_size + (sample_index + 0.5) * bin_size / samples
    inside = (at >= -1) & (at <= length)
    at = torch.where(inside, at, 0).clamp(0, length - 1)
    low = at.floor()
    high_weight = at - low
    places = torch.cat([low, (low + 1).clamp(max=length - 1)], dim=2).long()
    weights = torch.cat([1 - high_weight, high_weight], dim=2) * inside.repeat(1, 1, 2) / samples
    return places, weights


def _round_half_away(values: Tensor) -> Tensor:
    """Round like C's round(); torch.round rounds half to even."""
    whole = values.trunc()
    return whole + (values - whole).mul(2).trunc()


def _bin_edges(first: Tensor, last: Tensor, bins: int, length: int) -> tuple[Tensor, Tensor]:
    """Cells ``first`` to ``last`` [R] cut into bins -> [R, bins] first cell and the one after the last, on the map."""
    size = (last - first + 1).clamp(min=1)[:, None]
    index = torch.arange(bins, device=first.device)
    begin = first[:, None] + index * size // bins
    end = first[:, None] - (-(index + 1) * size).div(bins, rounding_mode="floor")
    return begin.clamp(0, length), end.clamp(0, length)


def _rois_of_similar_bins(heights: Tensor, widths: Tensor) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Indices of RoIs, and (height, width) in cells that none of their bins exceeds, given those of each RoI [R]."""
    for rois in torch.split((heights * widths).argsort(), _ROIS_AT_ONCE):
        window = (int(heights[rois].amax()), int(widths[rois].amax())) if len(rois) else (0, 0)
        if min(window):  # else no bin has cells
            yield rois, window


def _up_to_the_last(first: Tensor, end: Tensor, count: int) -> Tensor:
    """Places ``first`` to ``end`` - 1 [R, bins] of each bin -> [R, bins, count]; shorter bins repeat their last one."""
    place = first[..., None] + torch.arange(count, device=first.device)
    return torch.minimum(place, end[..., None] - 1).clamp(min=0)
