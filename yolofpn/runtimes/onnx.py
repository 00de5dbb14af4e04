"""ONNX Runtime, and the graph format that most other programs read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.free_memory import freed_at_once
from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.newest import NewestSizes
from yolofpn.runtimes.runtime import METADATA_KEY, GraphForm, GraphShape, Layout, Runtime

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.detector import Detector
    from yolofpn.runtimes.backend import Batch, Wait
    from yolofpn.structures import Limits

OPSET = 17  # the newest that OpenCV 4, ONNX Runtime 1.16, TensorRT 8.6 and Triton of their time all read


class ONNX(Runtime):
    """ONNX files on ONNX Runtime."""

    key: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    module: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = "runtime"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    layouts: ClassVar[tuple[Layout, ...]] = ("raw", "decoded", "end2end")
    storage: ClassVar[tuple[str, ...]] = ("fp16",)
    has_opsets: ClassVar[bool] = True

    @classmethod
    def convert(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None = None,
        calibration: Sequence[Tensor] | None = None,
    ) -> Any:  # noqa: ANN401
        """An ``onnx.ModelProto``."""
        return cls.convert_form(detector, size, batch, GraphForm())

    @classmethod
    def convert_form(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None,
        form: GraphForm,
        limits: Limits | None = None,
    ) -> Any:  # noqa: ANN401
        """An ``onnx.ModelProto``.

        Raises:
            UserError: a library is not installed, or the opset lacks an operator of the network.
        """
        import torch

        from yolofpn.runtimes.conversion import quiet, trace_decoded, trace_dense

        for needed in ("onnxscript", "onnx"):  # by torch.onnx
            import_extra(needed, "onnx")
        from yolofpn.runtimes.onnx_model import TRACED_OPSET, add_nms, make_portable

        opset = form.opset or OPSET
        raw = form.layout == "raw"
        program = trace_dense(detector, size) if raw else trace_decoded(detector, size, uint8=form.uint8)
        with quiet():
            exported = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=max(opset, TRACED_OPSET))
        assert exported is not None
        model = exported.model_proto
        make_portable(model, opset)
        for node in (*model.graph.input, *model.graph.output):
            first = node.type.tensor_type.shape.dim[0]
            if batch is None:
                first.dim_param = "batch"
            else:
                first.dim_value = batch
        if form.layout == "end2end":
            assert limits is not None
            add_nms(model, limits, detector.num_classes, size)
        return model

    @classmethod
    def compress(cls, graph: Any, detector: Detector) -> Any:  # noqa: ANN401
        """Store large constants in fp16; ONNX Runtime computes with them in fp32."""
        from torch import nn

        from yolofpn.runtimes.fold import kernels_and_factors
        from yolofpn.runtimes.onnx_model import store_in_half

        assert isinstance(detector, nn.Module)
        kernels = kernels_and_factors(detector)
        store_in_half(
            graph,
            {f"part.detector.{name}": (kernel.numpy(), factors.numpy()) for name, (kernel, factors) in kernels.items()},
        )
        return graph

    @classmethod
    def save(cls, graph: Any, path: Path, info: str | None = None, precision: str = "fp32") -> None:  # noqa: ANN401
        """Write an ``onnx.ModelProto`` as one file."""
        onnx = import_extra("onnx", "onnx")
        if info is not None:
            onnx.helper.set_model_props(graph, {METADATA_KEY: info})
        onnx.save(graph, path)

    @classmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """Read the metadata of a file with an ONNX Runtime session."""

        def numbers(port: Any) -> list[int | None]:  # noqa: ANN401
            return [size if isinstance(size, int) else None for size in port.shape]

        session = open_session(path, only_read=True)
        found: dict[str, str] = session.get_modelmeta().custom_metadata_map
        (entry,) = session.get_inputs()
        outputs = [numbers(port) for port in session.get_outputs()]
        return found.get(METADATA_KEY), GraphShape(entry.type == "tensor(uint8)", numbers(entry), outputs)

    @classmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> ONNXGraph:
        """Open the graph; it runs one batch at a time on all CPU cores."""
        return ONNXGraph(find_graph, map_names, size)


class ONNXGraph:
    """A ``Backend``: the graph of each (height, width) is opened when it is first needed.

    Args:
        find_graph: (height, width) -> the .onnx file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to open at once.
    """

    name = "onnx"
    precision = "fp32"  # on processors ONNX Runtime has no shorter floating-point type
    slots = 1

    def __init__(
        self, find_graph: Callable[[tuple[int, int]], Path], map_names: Sequence[str], size: tuple[int, int]
    ) -> None:
        self._map_names = tuple(map_names)
        self._sessions: NewestSizes[Any] = NewestSizes(lambda size: open_session(find_graph(size)))
        _ = self._sessions[size]

    def start(self, batch: Batch) -> Wait:
        """The work is done when this returns."""
        import numpy as np  # not for --help

        from yolofpn.runtimes.backend import as_input

        count = len(batch)
        session = self._sessions[batch.shape[2], batch.shape[3]]
        node = session.get_inputs()[0]
        images: Any = as_input(batch, is_float=node.type == "tensor(float)")
        if isinstance(node.shape[0], int) and count < node.shape[0]:
            empty = np.zeros((node.shape[0] - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, empty])
        outputs = session.run(None, {node.name: images})
        maps = {name: output[:count] for name, output in zip(self._map_names, outputs, strict=True)}
        return lambda: maps


def open_session(path: Path, *, only_read: bool = False) -> Any:  # noqa: ANN401
    """An ONNX Runtime session on the CPU; ``only_read`` leaves out what makes it fast, which takes time."""
    runtime = ONNX.library()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    if only_read:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Threads that spin while they wait take time from the cores that decode and draw: see docs/benchmarks.md.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; its warnings are about nodes that it removes
    with freed_at_once():  # constants are computed, copied and brought into another order
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
