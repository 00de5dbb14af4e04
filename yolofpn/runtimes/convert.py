"""From a detector in PyTorch to graphs that other libraries run: the uint8 picture goes in, scaling is inside."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from yolofpn.runtimes.exported import METADATA_KEY
from yolofpn.runtimes.fold import fold_norms
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.signal_stack import kept_signal_stack
from yolofpn.runtimes.torch_backend import DensePart
from yolofpn.structures import Detector, smallest_input

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
    """Of the detector's maps, in the order of a graph's outputs."""
    with torch.inference_mode():
        return list(detector.dense(torch.zeros(1, 3, *smallest_input(detector), dtype=torch.uint8)))


def trace_dense(detector: Detector, size: tuple[int, int]) -> ExportedProgram:
    """The dense part for pictures of (height, width) in batches of any number, batch norm folded."""
    part = _MapsInOrder(fold_norms(DensePart(detector))).eval()
    example = torch.zeros(2, 3, *size, dtype=torch.uint8)  # of a batch of one the tracer would remember the one
    with quiet(), torch.no_grad():
        return torch.export.export(part, (example,), dynamic_shapes={INPUT_NAME: {0: Dim("batch")}})


def to_openvino(detector: Detector, size: tuple[int, int]) -> Any:  # noqa: ANN401
    """An ``openvino.Model`` of any batch size."""
    openvino = import_extra("openvino")
    program = trace_dense(detector, size)
    with quiet():
        model = openvino.convert_model(program)
    model.reshape([-1, 3, *size])
    return model


def save_openvino(model: Any, path: Path, info: str | None = None, *, half: bool = False) -> None:  # noqa: ANN401
    """Write ``path`` (.xml) and its .bin.

    Args:
        model: an ``openvino.Model``.
        path: of the .xml file.
        info: kept in the file.
        half: store the numbers as fp16.
    """
    if info is not None:
        model.set_rt_info(info, METADATA_KEY)
    try:
        import_extra("openvino").save_model(model, path, compress_to_fp16=half)
    except RuntimeError as error:  # what a stream says that cannot be written to
        reason = str(error).splitlines()[0]
        raise OSError(errno.EIO, f"OpenVINO could not write it ({reason}): is the disk full?", str(path)) from None


def quantize_openvino(model: Any, pictures: Iterable[Tensor]) -> Any:  # noqa: ANN401
    """An int8 model, its ranges taken from ``pictures`` (uint8 [1, 3, H, W] each)."""
    nncf = import_extra("nncf")
    batches = [picture.numpy() for picture in pictures]
    with quiet(), kept_signal_stack():
        nncf.set_log_level(logging.ERROR)
        # Unsigned ranges only where a map has no negative numbers: the default, which has none but these, costs half
        # as much AP again after a leaky ReLU and is no faster.
        preset = nncf.QuantizationPreset.MIXED
        return nncf.quantize(model, nncf.Dataset(batches), preset=preset, subset_size=len(batches))


def to_onnx(detector: Detector, size: tuple[int, int], batch: int | None = None) -> Any:  # noqa: ANN401
    """An ``onnx.ModelProto``.

    Args:
        detector: whose dense part it holds.
        size: (height, width) of its input.
        batch: the only batch size; None: any.
    """
    import_extra("onnxscript")  # what torch.onnx needs, named where it is missing
    import_extra("onnx")
    program = trace_dense(detector, size)
    with quiet():
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    assert exported is not None
    model = exported.model_proto
    for node in (*model.graph.input, *model.graph.output):
        first = node.type.tensor_type.shape.dim[0]
        if batch is None:
            first.dim_param = "batch"
        else:
            first.dim_value = batch
    del model.graph.value_info[:]  # shapes of inner maps with another batch, which readers compute themselves
    return model


def save_onnx(model: Any, path: Path, info: str | None = None) -> None:  # noqa: ANN401
    """Write an ``onnx.ModelProto`` as one file, with ``info`` kept in it."""
    onnx = import_extra("onnx")
    if info is not None:
        onnx.helper.set_model_props(model, {METADATA_KEY: info})
    onnx.save(model, path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """One conversion at a time, as tracing and silencing change what the whole process shares.

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
