"""Traces a PyTorch detector for conversion; its input is the uint8 image or float bands, preprocessing is included."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from yolofpn.detector import Detector, blank_images, input_form, smallest_input
from yolofpn.runtimes.decoded_part import DecodedPart, specs_of
from yolofpn.runtimes.fold import fold_norms
from yolofpn.runtimes.runtime import GraphForm
from yolofpn.runtimes.torch_backend import DensePart

INPUT_NAME = "images"
_CONVERTING = threading.RLock()


class _MapsInOrder(nn.Module):
    """Graphs know outputs by their order."""

    def __init__(self, part: DensePart) -> None:
        super().__init__()
        self.part = part

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.part(images).values())


def map_names(detector: Detector) -> list[str]:
    """Return the names of the raw outputs in the order of the graph's outputs."""
    with torch.inference_mode():
        return list(detector.dense(blank_images(detector, smallest_input(detector))))


def trace_dense(detector: Detector, size: tuple[int, int]) -> ExportedProgram:
    """The dense part for images of (height, width) in batches of any number, batch norm folded."""
    example = blank_images(detector, size, 2)  # of a batch of one the tracer would remember the one
    with quiet(), torch.no_grad():
        return torch.export.export(_dense(detector), (example,), dynamic_shapes={INPUT_NAME: {0: Dim("batch")}})


def trace_decoded(detector: Detector, size: tuple[int, int], *, uint8: bool) -> ExportedProgram:
    """``decoded_part.DecodedPart`` of a one-stage detector for images of (height, width), batch norm folded."""
    part, is_float = _decoded(detector, size, uint8=uint8), input_form(detector).is_float
    example = blank_images(detector, size, 2) if uint8 or is_float else torch.zeros(2, 3, *size)
    with quiet(), torch.no_grad():
        return torch.export.export(part, (example,), dynamic_shapes={INPUT_NAME: {0: Dim("batch")}})


@dataclass(frozen=True)
class FloatPart:
    """A detector's part for converters that know neither bytes nor batches of any number.

    Attributes:
        module: float32 [1, N, H, W] -> a tuple of float32.
        example: what it takes, all zeros.
        outputs: the shapes of what it gives.
    """

    module: nn.Module
    example: Tensor
    outputs: list[tuple[int, ...]]


def float_part(detector: Detector, size: tuple[int, int], form: GraphForm) -> FloatPart:
    """The dense or the decoded part of a detector, batch norm folded.

    Args:
        detector: a one-stage detector, for layouts that decode.
        size: (height, width) of the images.
        form: the layout; if ``uint8`` the floats have the range 0..255, else 0..1, but those of bands stay as they are.
    """
    part = _dense(detector) if form.layout == "raw" else _decoded(detector, size, uint8=form.uint8)
    example = blank_images(detector, size).float()
    with torch.no_grad():
        given = part(example)
    outputs = [given] if isinstance(given, Tensor) else given
    return FloatPart(part, example, [tuple(output.shape) for output in outputs])


def _dense(detector: Detector) -> nn.Module:
    """``Detector.dense`` with its maps in order."""
    part = _MapsInOrder(fold_norms(DensePart(detector))).eval()
    modules: Iterator[Any] = part.modules()
    for module in modules:
        if getattr(module, "inplace", False):  # which the tracer takes apart, slowly, into comparisons and products
            module.inplace = False
    return part


def _decoded(detector: Detector, size: tuple[int, int], *, uint8: bool) -> nn.Module:
    """``DecodedPart``, whose input is as it is if it has the range 0..255."""
    kept = uint8 or input_form(detector).is_float
    return DecodedPart(fold_norms(DensePart(detector)), specs_of(detector), size, uint8=kept).eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Convert one detector at a time, because tracing changes global state of the process.

    Converters talk about their own progress and their own deprecations; what other threads print still appears.
    """
    with _CONVERTING:
        level, stdout = logging.root.manager.disable, sys.stdout
        logging.disable(logging.WARNING)
        sys.stdout = cast("TextIO", _OfOthers(stdout))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.stdout = stdout
            logging.disable(level)


class _OfOthers:
    """Standard output for all threads but the one that makes this.

    Args:
        stdout: where the others' output goes.
    """

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._silent = threading.get_ident()

    def write(self, text: str) -> int:
        """Drop what the silent thread writes."""
        return len(text) if threading.get_ident() == self._silent else self._stdout.write(text)

    def isatty(self) -> bool:
        """Progress bars are for terminals."""
        return False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stdout, name)
