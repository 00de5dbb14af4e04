"""OpenVINO: by far the fastest on processors with bf16."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.extras import is_installed
from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.newest import NewestSizes
from yolofpn.runtimes.runtime import METADATA_KEY, GraphShape, Runtime
from yolofpn.runtimes.signal_stack import kept_signal_stack

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.detector import Detector
    from yolofpn.runtimes.backend import Batch, Wait
    from yolofpn.types import RawMaps

# Always given: the library's own default is bf16 where the processor has any instruction for it, however slow.
# int8 is in the graph itself; what is left of it is computed in float32.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


class OpenVINO(Runtime):
    """OpenVINO's .xml files, whose numbers are in a .bin file beside each."""

    key: ClassVar[str] = "openvino"
    suffix: ClassVar[str] = ".xml"
    beside: ClassVar[tuple[str, ...]] = (".bin",)
    module: ClassVar[str] = "openvino"
    extra: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16", "int8")
    opens: ClassVar[tuple[str, ...]] = (".onnx",)

    @classmethod
    def library(cls) -> Any:  # noqa: ANN401
        """Without the report of its use over the network: without that module it takes its own empty stand-in."""
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        return super().library()

    @classmethod
    def convert(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None = None,
        calibration: Sequence[Tensor] | None = None,
    ) -> Any:  # noqa: ANN401
        """An ``openvino.Model``."""
        from yolofpn.detector import input_form
        from yolofpn.runtimes.conversion import quiet, trace_dense

        openvino = cls.library()
        program = trace_dense(detector, size)
        with quiet():
            model = openvino.convert_model(program)
        channels = input_form(detector).channels
        model.reshape([-1, channels, *size])
        if calibration is not None:
            model = quantize(model, calibration)
        if batch is not None:
            model.reshape([batch, channels, *size])
        return model

    @classmethod
    def save(cls, graph: Any, path: Path, info: str | None = None, precision: str = "fp32") -> None:  # noqa: ANN401
        """Write ``path`` (.xml) and its .bin, whose numbers are fp16 if ``precision`` is."""
        if info is not None:
            graph.set_rt_info(info, METADATA_KEY)
        try:
            cls.library().save_model(graph, path, compress_to_fp16=precision == "fp16")
        except RuntimeError as error:  # what a stream says that cannot be written to
            reason = str(error).splitlines()[0]
            raise OSError(errno.EIO, f"OpenVINO could not write it ({reason}): is the disk full?", str(path)) from None

    @classmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """Read the metadata without compiling the graph."""

        def numbers(port: Any) -> list[int | None]:  # noqa: ANN401
            return [None if size.is_dynamic else size.get_length() for size in port.partial_shape]

        model = cls.library().Core().read_model(path)
        places = (METADATA_KEY, ["framework", METADATA_KEY])  # the second one in ONNX files
        text = next((str(model.get_rt_info(key).value) for key in places if model.has_rt_info(key)), None)
        (entry,) = model.inputs
        is_uint8 = entry.element_type.get_type_name() == "u8"
        return text, GraphShape(is_uint8, numbers(entry), [numbers(port) for port in model.outputs])

    @classmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> OpenVINOGraph:
        """Open the graph; with ``throughput`` several batches share the CPU cores."""
        return OpenVINOGraph(find_graph, map_names, size, precision, throughput=throughput)

    @classmethod
    def fast_precisions(cls, *, can_calibrate: bool) -> tuple[str, ...]:
        """Return the precisions that the CPU supports in hardware."""
        able = cls.library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        found = tuple(name for name in ("fp32", "bf16", "fp16") if name.upper() in able)
        return (*found, "int8") if can_calibrate and is_installed("nncf") else found


def quantize(model: Any, images: Iterable[Tensor]) -> Any:  # noqa: ANN401
    """An int8 model, its ranges taken from ``images`` (uint8 [1, 3, H, W] each)."""
    from yolofpn.runtimes.conversion import quiet

    OpenVINO.library()  # whose telemetry is that of NNCF too
    nncf = import_extra("nncf", "int8")
    batches = [image.numpy() for image in images]
    with quiet(), kept_signal_stack():
        nncf.set_log_level(logging.ERROR)
        # Unsigned ranges only where a map has no negative numbers: the default, which has none but these, costs half
        # as much AP again after a leaky ReLU and is no faster.
        preset = nncf.QuantizationPreset.MIXED
        return nncf.quantize(model, nncf.Dataset(batches), preset=preset, subset_size=len(batches))


@dataclass(frozen=True)
class _Compiled:
    """A graph for one size of input and batch, and its requests that are not in flight."""

    graph: Any
    batch: int
    takes_float: bool
    idle: deque[Any] = field(default_factory=deque)


@dataclass
class _Graphs:
    """For one size of input: the graph for one image (or what the file has), and that of the largest batch so far."""

    first: _Compiled
    most: _Compiled


class OpenVINOGraph:
    """A ``Backend``: the graph of each (height, width) is compiled when it is first needed.

    Args:
        find_graph: (height, width) -> the .xml file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to compile for at once.
        precision: of the arithmetic; 'int8' only if the graph is quantised.
        throughput: several batches will be in flight: each one gets a part of the processors, which is faster in all.
    """

    name = "openvino"

    def __init__(
        self,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> None:
        self.precision = precision
        self._find_graph = find_graph
        self._map_names = tuple(map_names)
        self._throughput = throughput
        self._core = OpenVINO.library().Core()
        self._graphs = NewestSizes(self._open)
        self._lock = threading.Lock()
        graph = self._graphs[size].first.graph
        # One more than run at once: it waits in the library's queue, so that no processor idles while results are read.
        self.slots = 1 + int(graph.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if throughput else 1

    def start(self, batch: Batch) -> Wait:
        """Queues the work; the library's own threads do it."""
        count, _, height, width = batch.shape
        with self._lock:
            graphs = self._graphs[height, width]
            if graphs.most.batch < count:
                graphs.most = self._compile(count, (height, width))
        if graphs.first.batch > 1 or 2 * count > graphs.most.batch:
            return self._run(graphs.most, batch)
        # More than half of the large graph's work would be on empty images.
        waits = [self._run(graphs.first, batch[index : index + 1]) for index in range(count)]
        return lambda: _joined([wait() for wait in waits])

    def _run(self, compiled: _Compiled, batch: Batch) -> Wait:
        import numpy as np  # not for --help

        from yolofpn.runtimes.backend import as_input

        images, count = as_input(batch, is_float=compiled.takes_float), len(batch)
        if count < compiled.batch:  # the end of a video: empty images fill up, as compiling again would take longer
            images = np.concatenate([images, np.zeros((compiled.batch - count, *images.shape[1:]), images.dtype)])
        request = compiled.idle.pop() if compiled.idle else compiled.graph.create_infer_request()
        request.start_async({0: images}, share_inputs=True)

        def wait() -> RawMaps:
            request.wait()
            outputs = (request.get_output_tensor(index).data for index in range(len(self._map_names)))
            maps = {
                name: output[:count].astype(np.float32, copy=True)
                for name, output in zip(self._map_names, outputs, strict=True)
            }
            compiled.idle.append(request)
            return maps

        return wait

    def _open(self, size: tuple[int, int]) -> _Graphs:
        compiled = self._compile(1, size)
        return _Graphs(compiled, compiled)

    def _compile(self, batch: int, size: tuple[int, int]) -> _Compiled:
        model = self._core.read_model(self._find_graph(size))
        if model.input(0).partial_shape[0].is_dynamic:
            model.reshape([batch, model.input(0).partial_shape[1].get_length(), *size])
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT" if self._throughput else "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        with kept_signal_stack():
            graph = self._core.compile_model(model, "CPU", settings)
        takes_float = graph.input(0).get_element_type().get_type_name() == "f32"
        return _Compiled(graph, int(graph.input(0).shape[0]), takes_float)


def _joined(parts: Sequence[RawMaps]) -> RawMaps:
    """The maps of single images as those of their batch."""
    import numpy as np

    from yolofpn.types import to_array

    return {name: np.concatenate([to_array(part[name]) for part in parts]) for name in parts[0]}
