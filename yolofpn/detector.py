"""The interface of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from yolofpn.bands import COLOUR, InputForm
from yolofpn.structures import Detections, Limits, Target
from yolofpn.types import RawMaps

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def size_fits(detector: object, size: tuple[int, int]) -> bool:
    """Whether ``detector`` takes inputs of ``size`` (height, width).

    Multiples of its ``size_divisor`` fit, and of a network built from a Darknet cfg the cfg's own size (``own_size``).
    """
    divisor: int = getattr(detector, "size_divisor", 1)
    return size == getattr(detector, "own_size", None) or all(side > 0 and side % divisor == 0 for side in size)


def smallest_input(detector: Detector) -> tuple[int, int]:
    """(height, width) of an input that ``detector`` takes, and that costs little."""
    own: tuple[int, int] | None = getattr(detector, "own_size", None)
    return own or (detector.size_divisor, detector.size_divisor)


def input_form(detector: object) -> InputForm:
    """What ``detector`` takes: a native one begins with ``Normalize``, a graph has the metadata of its weights."""
    normalize = getattr(detector, "normalize", None)
    form: InputForm = getattr(detector, "form", COLOUR) if normalize is None else normalize.form
    return form


def blank_images(
    detector: Detector, size: tuple[int, int], count: int = 1, device: torch.device | str = "cpu"
) -> Tensor:
    """[count, N, H, W] zeros of the type and with the channels that ``detector`` takes."""
    import torch

    form = input_form(detector)
    return torch.zeros(
        count, form.channels, *size, dtype=torch.float32 if form.is_float else torch.uint8, device=device
    )


@dataclass(frozen=True)
class SecondStage:
    """What looks at each region that the raw outputs propose.

    Attributes:
        head: pooled regions [R, C, H, W] -> class scores and box deltas.
        input_size: (C, H, W) of a pooled region.
    """

    head: nn.Module
    input_size: tuple[int, int, int]


class Detector(Protocol):
    """The interface of all detectors: one-stage, two-stage or built from a Darknet cfg.

    Attributes:
        num_classes: C.
        size_divisor: height and width of its input must be multiples of this.
        limits: which predictions become detections unless ``postprocess`` is told otherwise.
        needs_proposals: it detects nothing without regions from elsewhere (``Target.proposals``).
        class_agnostic: its one class is any object.
        is_graph: its network is a graph file: there are no weights to store or to train.
    """

    num_classes: int
    size_divisor: int
    limits: Limits
    needs_proposals: bool
    class_agnostic: bool
    is_graph: bool

    @property
    def second_stage(self) -> SecondStage | None:
        """What runs behind ``dense`` on each region, in PyTorch on every backend; None: ``dense`` is all of it."""
        ...

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """uint8 (or float of the same 0..255 range) [B, 3, H, W] RGB -> maps of static shape, all a backend runs."""
        ...

    def postprocess(
        self,
        dense: RawMaps,
        image_sizes: list[tuple[int, int]],
        limits: Limits | None = None,
    ) -> list[Detections]:
        """The maps of ``dense`` and each image's (height, width) in network pixels -> detections in these pixels.

        One-stage detectors take maps of graphs (arrays) as well, others tensors alone.
        """
        ...

    def __call__(self, images: Tensor, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Detections]:
        """Losses by name if ``targets`` are given, else detections."""
        ...
