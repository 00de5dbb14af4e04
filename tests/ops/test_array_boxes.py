"""Boxes as arrays beside boxes as tensors."""

from __future__ import annotations

import numpy as np
import torch

from yolofpn.ops import array_boxes, boxes


def test_arrays_and_tensors_give_the_same() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 80, (30, 2))
    first = np.concatenate([corners, corners + rng.uniform(-5, 40, (30, 2))], axis=1).astype(np.float32)
    second, size = first[::-1] + 3, (48, 64)
    clipped = boxes.clip_boxes(torch.from_numpy(first), size)
    np.testing.assert_array_equal(array_boxes.clip_boxes(first, size), clipped.numpy())
    expected = boxes.box_iou(torch.from_numpy(first), torch.from_numpy(second.copy()))
    assert 0 < (expected > 0.1).sum() < expected.numel()
    np.testing.assert_allclose(array_boxes.box_iou(first, second), expected.numpy(), rtol=1e-5, atol=1e-7)


def test_empty_boxes_overlap_nothing() -> None:
    nothing = np.zeros((2, 4), np.float32)
    assert array_boxes.box_iou(nothing, nothing).tolist() == [[0, 0], [0, 0]]
    assert array_boxes.box_iou(nothing[:0], nothing).shape == (0, 2)
