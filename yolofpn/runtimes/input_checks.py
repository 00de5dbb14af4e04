"""Checks of the sizes of inputs and batches."""

from __future__ import annotations

from yolofpn.config import ResizeMode
from yolofpn.detector import Detector, size_fits
from yolofpn.errors import UserError
from yolofpn.models.postprocess import divides_inputs
from yolofpn.reading import MAX_INPUT_SIDE
from yolofpn.runtimes.exported import ExportedDetector


def check_size(detector: Detector, size: tuple[int, int], resize: ResizeMode) -> None:
    """See that the detector takes images of ``size`` (height, width).

    Raises:
        UserError: it does not.
    """
    divisor = detector.size_divisor
    if max(size) > MAX_INPUT_SIDE:
        raise UserError(f"image size {size[0]}x{size[1]} is too large: a side has at most {MAX_INPUT_SIDE} pixels")
    if resize == "shortest-edge":
        if isinstance(detector, ExportedDetector):
            raise UserError("a graph takes images of one size, shortest-edge makes many: --resize letterbox or stretch")
        if not divides_inputs(detector):
            raise UserError("this network's maps do not divide its input: --resize letterbox or stretch")
    elif not size_fits(detector, size):
        height, width = (max(divisor, round(side / divisor) * divisor) for side in size)
        raise UserError(
            f"image size {size[0]}x{size[1]} is not a multiple of {divisor}, the network's stride: try {height}x{width}"
        )


def check_batch_size(batch_size: int) -> None:
    """See that a batch has images.

    Raises:
        ValueError: it has none.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
