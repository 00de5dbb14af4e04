"""Runs ``export.py``: exports weights and keeps the file only if its detections agree with theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from yolofpn import runtimes
from yolofpn.config import Metadata, ResizeMode
from yolofpn.darknet.cfg_writer import with_input, write_cfg
from yolofpn.darknet.native import layers_to_write
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.darknet.weights_file import NEW_HEADER, StoredLayers, write_layers
from yolofpn.detector import Detector, size_fits
from yolofpn.errors import UserError
from yolofpn.files import write_atomically
from yolofpn.models.postprocess import nms_exponent
from yolofpn.models.yolo import YOLO
from yolofpn.runtimes import triton
from yolofpn.runtimes.backend import Backend, Batch, Wait
from yolofpn.runtimes.exported import ExportedDetector, GraphPrecision, describe_graph, read_exported
from yolofpn.runtimes.parity import (
    FILE_TOLERANCE,
    TOLERANCES,
    Tolerance,
    check_images,
    compare_backends,
    compare_detections,
)
from yolofpn.runtimes.runtime import GraphForm, Layout, Runtime
from yolofpn.runtimes.seal import seal
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.text import one_line_names
from yolofpn.weights import load_weights

_CPU = torch.device("cpu")
INT8_LOSS = 0.01  # of AP
LABELS = "labels.txt"  # beside the layouts for other programs, whose configuration files call it so


@dataclass(frozen=True)
class Calibration:
    """Calibration data of int8.

    Attributes:
        images: uint8 [1, 3, H, W] RGB each, as the network sees them; the ranges of all maps are taken from them.
        average_precision: of a detector on such images.
    """

    images: Sequence[Tensor]
    average_precision: Callable[[Detector], float]


@dataclass(frozen=True)
class ExportOptions:
    """Options of ``export.py``, see its --help; ``format``: 'darknet', 'triton' or the key of one of ``RUNTIMES``.

    ``input_type`` None is uint8 for the raw layout, else float.
    """

    output: Path
    format: str
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    img_size: tuple[int, int] | None = None
    resize: Literal["auto"] | ResizeMode = "auto"
    precision: Literal["auto"] | GraphPrecision = "auto"
    batch: int | None = None
    layout: Layout = "raw"
    input_type: Literal["float", "uint8"] | None = None
    opset: int | None = None

    @property
    def graph_format(self) -> str:
        """The key of the runtime of the graph that is written."""
        return triton.GRAPH if self.format == triton.KEY else self.format

    @property
    def form(self) -> GraphForm:
        """What the graph takes and gives."""
        return GraphForm(self.layout, self.layout == "raw" or self.input_type == "uint8", self.opset)


@dataclass(frozen=True)
class Exporter:
    """Everything that an export is made from.

    Attributes:
        metadata: with the size and the way of resizing of the export.
    """

    detector: YOLO | DarknetNetwork
    metadata: Metadata
    options: ExportOptions

    def export(self, calibration: Calibration | None = None) -> list[str]:
        """Write, read back and compare; lines that say what was written and how close it is.

        Args:
            calibration: given for int8.

        Raises:
            UserError: a library is missing, the file cannot be written, or it fails the check: then it is not there.
        """
        output = self.options.output
        with _all_or_nothing(output) as folder:
            path = folder / output.name
            if self.options.format == triton.KEY:
                report = self._triton(path)
            else:
                if self.options.layout != "raw":
                    self._write_labels(folder / LABELS, output.parent / LABELS)
                report = self._darknet(path) if self.options.format == "darknet" else self._graph(path, calibration)
            files = sorted(file.name for file in folder.iterdir())
        return [f"written: {', '.join(str(output.parent / name) for name in files)}", f"checked: {report}"]

    def _graph(self, path: Path, calibration: Calibration | None) -> str:
        options, size = self.options, self.metadata.input.size
        precision: GraphPrecision = "fp32" if options.precision == "auto" else options.precision
        runtime = runtimes.runtime_named(options.graph_format)
        form = replace(options.form, uint8=options.form.uint8 and self.metadata.input.is_plain)
        batch = 1 if options.layout == "end2end" else options.batch
        if options.format == triton.KEY and options.layout != "end2end":
            batch = None  # the server makes batches of all sizes up to its limit
        info = describe_graph(self.metadata, precision, self.detector.specs, batch, form=form, sealed=runtime.sealed)
        if form.layout == "raw" and form.opset is None:
            images = None if calibration is None else calibration.images
            graph = runtime.convert(self.detector, size, batch, images)
        else:
            graph = runtime.convert_form(self.detector, size, batch, form, self.detector.limits)
        if precision == "fp16":
            graph = runtime.compress(graph, self.detector)
        runtime.save(graph, path, info, precision)
        if runtime.sealed:
            seal(path, runtime.files(path)[1:])
        exported = read_exported(path)
        if calibration is not None:
            return self._check_int8(exported, calibration)
        report, passed = self._compare(exported if form.layout != "raw" else exported.backend(), TOLERANCES[precision])
        if not passed:
            raise UserError(f"{options.output}: not written, as its detections differ: {report}")
        return f"{runtime.key} {precision}, {report}"

    def _triton(self, folder: Path) -> str:
        """The folder of a model in Triton's model repository; a report."""
        model = folder / triton.MODEL
        model.parent.mkdir(parents=True)
        report = self._graph(model, None)
        batch = None if self.options.layout == "end2end" else self.options.batch or triton.DEFAULT_BATCH
        write_atomically(folder / triton.CONFIG, triton.model_config(folder.name, model, batch).encode())
        self._write_labels(folder / triton.LABELS, folder / triton.LABELS)
        return report

    def _write_labels(self, path: Path, there: Path) -> None:
        """The class names, one per line, in the order of the labels; ``there`` is where they will be.

        Raises:
            UserError: other names are in a file of that name beside the output.
        """
        text = "".join(f"{name}\n" for name in one_line_names(self.metadata.names))
        if there.exists() and there.read_bytes() != text.encode():
            raise UserError(f"{there}: holds other class names: export into another folder, or move it away")
        write_atomically(path, text.encode())

    def _darknet(self, path: Path) -> str:
        detector, header = self.detector, self.metadata.header or NEW_HEADER
        layers: StoredLayers
        if isinstance(detector, DarknetNetwork):
            text, layers = detector.cfg.text, detector.stored_layers()
            if self.options.img_size is not None or self.options.resize != "auto":
                text = with_input(text, self.metadata.input)
        else:
            text, layers = write_cfg(detector, self.metadata.input), layers_to_write(detector, header)
        class_names = "".join(f"{name}\n" for name in one_line_names(self.metadata.names))
        write_atomically(path.with_suffix(".cfg"), text.encode())
        write_atomically(path.with_suffix(".names"), class_names.encode())
        write_layers(path, layers, header)
        read_back = load_weights(path)
        assert isinstance(read_back.detector, DarknetNetwork)
        # Darknet's maps have the numbers of their layers for names; their strides tell which is which.
        names = dict(zip(_by_stride(read_back.detector), _by_stride(detector), strict=True))
        backend = _Renamed(TorchBackend(read_back.detector, _CPU), names)
        report, passed = self._compare(backend, FILE_TOLERANCE)
        if not passed:
            raise UserError(f"{self.options.output}: not written, as its detections differ: {report}")
        return report

    def _compare(self, other: Backend | ExportedDetector, tolerance: Tolerance) -> tuple[str, bool]:
        input, reference = self.metadata.input, TorchBackend(self.detector, _CPU)
        images = check_images(input.size, input.form)
        if isinstance(other, ExportedDetector):
            parity = compare_detections(self.detector, reference, other, images, tolerance)
        else:
            parity = compare_backends(self.detector, reference, other, images, tolerance)
        return str(parity), parity.holds(tolerance)

    def _check_int8(self, exported: ExportedDetector, calibration: Calibration) -> str:
        before, after = (calibration.average_precision(each) for each in (self.detector, exported))
        report = f"int8, AP {after:.3f} of {before:.3f} on {len(calibration.images)} images"
        if after < before - INT8_LOSS:
            raise UserError(f"{self.options.output}: is not written, as it loses more than {INT8_LOSS} AP: {report}")
        return report


def open_export(options: ExportOptions) -> tuple[Exporter, list[str]]:
    """Read the weights and see that they can be exported so; also lines to print.

    Raises:
        UserError: they cannot.
    """
    _check_output(options)
    _check_precision(options)
    _check_form(options)
    loaded = load_weights(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    detector = loaded.detector
    if not isinstance(detector, YOLO | DarknetNetwork):
        raise UserError(
            "only one-stage detectors can be exported: the second stage of this one is not a static graph\n"
            "(detect.py --backend openvino runs its first stage there without an export)"
        )
    if not loaded.metadata.input.is_plain:
        if options.format in ("darknet", triton.KEY):
            raise UserError(f"--format {options.format} is for 8-bit colours only, these weights take bands: use onnx")
        if options.input_type == "uint8":
            raise UserError("--input-type uint8: these weights take bands, which are floats in every layout")
    if options.layout == "end2end" and nms_exponent(detector) is not None:
        raise UserError("end2end: the NMS of these weights also measures distances, ONNX's does not: --layout decoded")
    size, resize = options.img_size or loaded.metadata.input.size, options.resize
    if not size_fits(detector, size):
        raise UserError(
            f"image size {size[0]}x{size[1]} is not a multiple of {detector.size_divisor}, the network's stride"
        )
    chosen = loaded.metadata.input.resize if resize == "auto" else resize
    if chosen == "shortest-edge" and options.format != "darknet":
        raise UserError("a graph takes images of one size, shortest-edge makes many: --resize letterbox or stretch")
    input = loaded.metadata.input.model_copy(update={"size": size, "resize": chosen})
    return Exporter(detector, loaded.metadata.model_copy(update={"input": input}), options), loaded.notes


def _check_precision(options: ExportOptions) -> None:
    held = ("fp32",) if options.format == "darknet" else _stored(runtimes.runtime_named(options.graph_format))
    if options.precision not in ("auto", *held):
        able = [f"--format {other.key} can" for other in runtimes.RUNTIMES if options.precision in _stored(other)]
        holds = " or ".join(held)
        raise UserError(f"--format {options.format} holds {holds}, not {options.precision}: {', '.join(able)}")


def _stored(runtime: type[Runtime]) -> tuple[str, ...]:
    """The precisions of a runtime's files."""
    return (*runtime.precisions, *runtime.storage)


def _check_form(options: ExportOptions) -> None:
    layouts = [runtime.key for runtime in runtimes.RUNTIMES if len(runtime.layouts) > 1]
    opsets = [runtime.key for runtime in runtimes.RUNTIMES if runtime.has_opsets]
    for flag, given, able in (
        ("--layout", options.layout != "raw", layouts),
        ("--input-type", options.input_type is not None, layouts),
        ("--opset", options.opset is not None, opsets),
    ):
        if given and options.graph_format not in able:
            raise UserError(f"{flag} applies to --format {' or '.join(able)} only, not to {options.format}")
    if options.layout != "raw" and options.layout not in runtimes.runtime_named(options.graph_format).layouts:
        others = [runtime.key for runtime in runtimes.RUNTIMES if options.layout in runtime.layouts]
        raise UserError(
            f"--layout {options.layout} applies to --format {' or '.join(others)} only, not to {options.format}"
        )
    if options.layout == "raw" and options.input_type == "float":
        raise UserError("--input-type float applies to --layout decoded or end2end: raw graphs take uint8")
    if options.layout == "end2end" and options.batch not in (None, 1):
        raise UserError("--layout end2end takes one image at a time: no --batch")


def _check_output(options: ExportOptions) -> None:
    """See that the output has the suffix of the format, and that no file beside it belongs to another graph."""
    if options.format == triton.KEY:
        triton.check_name(options.output.name)
        if options.output.exists():
            raise UserError(f"{options.output}: exists: choose a new folder")
        return
    runtime = None if options.format == "darknet" else runtimes.runtime_named(options.format)
    suffix = ".weights" if runtime is None else runtime.suffix
    if options.output.suffix != suffix:
        raise UserError(f"{options.output}: the output file must end in {suffix} for --format {options.format}")
    if runtime is None or not runtime.has_batches:
        reason = "whose files have no batch size" if runtime is None else "whose graphs take one image at a time"
        if options.batch is not None:
            raise UserError(f"--batch does not apply to --format {options.format}, {reason}")
    for other in runtimes.RUNTIMES:
        there = options.output.with_suffix(other.suffix)
        if runtime not in (None, other) and there.exists() and set(other.beside) & set(runtime.beside):
            raise UserError(
                f"{options.output}: {there.name} has a file of the same name beside it: choose another name"
            )


def _by_stride(detector: YOLO | DarknetNetwork) -> list[str]:
    return sorted(detector.specs, key=lambda name: detector.specs[name].stride)


@dataclass(frozen=True)
class _Renamed:
    """A backend whose maps get other names."""

    inner: TorchBackend
    names: dict[str, str]
    name, precision, slots = "torch", "fp32", 1

    def start(self, batch: Batch) -> Wait:
        wait = self.inner.start(batch)
        return lambda: {self.names[name]: raw for name, raw in wait().items()}


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[Path]:
    """A folder whose files go beside ``output`` at the end, if nothing went wrong."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as name:
            yield Path(name)
            # The file that was named comes last: with it the export is there.
            for file in sorted(Path(name).iterdir(), key=lambda file: file.name == output.name):
                file.replace(output.parent / file.name)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
