"""LiteRT, formerly TensorFlow Lite, for Android, iOS and small computers; its converter is litert-torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.newest import NewestSizes
from yolofpn.runtimes.runtime import METADATA_KEY, GraphForm, GraphShape, Layout, Runtime

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.detector import Detector
    from yolofpn.runtimes.backend import Batch, Wait
    from yolofpn.structures import Limits

_FILE_KIND = b"TFL3"  # bytes 4 to 8 of every file


class LiteRT(Runtime):
    """LiteRT's .tflite files, with the metadata as one of their own metadata entries.

    Graphs take float32 [1, H, W, N], as is usual there, one image at a time: of the range 0..255, or of layouts for
    other programs 0..1.
    """

    key: ClassVar[str] = "litert"
    suffix: ClassVar[str] = ".tflite"
    module: ClassVar[str] = "ai_edge_litert"
    extra: ClassVar[str] = "litert"
    packages: ClassVar[tuple[str, ...]] = ("litert-torch", "ai-edge-litert")
    layouts: ClassVar[tuple[Layout, ...]] = ("raw", "decoded")
    has_batches: ClassVar[bool] = False

    @classmethod
    def convert(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None = None,
        calibration: Sequence[Tensor] | None = None,
    ) -> bytes:
        """The file without metadata."""
        return cls.convert_form(detector, size, batch, GraphForm())

    @classmethod
    def convert_form(
        cls,
        detector: Detector,
        size: tuple[int, int],
        batch: int | None,
        form: GraphForm,
        limits: Limits | None = None,
    ) -> bytes:
        """The file without metadata."""
        from yolofpn.runtimes.conversion import float_part, quiet

        with quiet():
            converter = import_extra("litert_torch", "litert-torch")
            part = float_part(detector, size, form)
            module = converter.to_channel_last_io(part.module, args=[0])
            converted = converter.convert(module.eval(), (part.example.permute(0, 2, 3, 1).contiguous(),))
        return bytes(converted.model_content())

    @classmethod
    def save(cls, graph: bytes, path: Path, info: str | None = None, precision: str = "fp32") -> None:
        """Write the file, with ``info`` among its metadata."""
        if info is not None:
            graph = _with_metadata(graph, info)
        path.write_bytes(graph)

    @classmethod
    def read(cls, path: Path) -> tuple[str | None, GraphShape]:
        """Read the metadata and the shapes of the inputs and outputs, without opening the graph."""
        model, text = _read(path)
        graph = model.Subgraphs(0)

        def sizes(index: int) -> list[int]:
            return [int(size) for size in graph.Tensors(index).ShapeAsNumpy()]

        (_, height, width, channels) = sizes(graph.Inputs(0))
        outputs = [[None, *sizes(graph.Outputs(index))[1:]] for index in range(graph.OutputsLength())]
        return text, GraphShape(None, [None, channels, height, width], outputs)

    @classmethod
    def open(
        cls,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> LiteRTGraph:
        """Open the graph; it runs one image at a time on all CPU cores."""
        return LiteRTGraph(find_graph, map_names, size)


class LiteRTGraph:
    """A ``Backend``: the graph of each (height, width) is opened when it is first needed.

    Args:
        find_graph: (height, width) -> the .tflite file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to open at once.
    """

    name = "litert"
    precision = "fp32"
    slots = 1

    def __init__(
        self, find_graph: Callable[[tuple[int, int]], Path], map_names: Sequence[str], size: tuple[int, int]
    ) -> None:
        self._map_names = tuple(map_names)
        self._opened: NewestSizes[tuple[Any, bool]] = NewestSizes(lambda size: _open(find_graph(size)))
        _ = self._opened[size]

    def start(self, batch: Batch) -> Wait:
        """The work is done when this returns: one image after the other."""
        import numpy as np  # not for --help

        from yolofpn.runtimes.backend import as_floats

        interpreter, unit = self._opened[batch.shape[2], batch.shape[3]]
        (entry,) = interpreter.get_input_details()
        found: dict[str, list[Any]] = {name: [] for name in self._map_names}
        for image in as_floats(batch, unit=unit).transpose(0, 2, 3, 1):
            interpreter.set_tensor(entry["index"], np.ascontiguousarray(image[None]))
            interpreter.invoke()
            for name, output in zip(found, interpreter.get_output_details(), strict=True):
                found[name].append(interpreter.get_tensor(output["index"])[0])
        maps = {name: np.stack(each) for name, each in found.items()}
        return lambda: maps


def _open(path: Path) -> tuple[Any, bool]:
    """An interpreter, and whether the graph takes bytes as floats of 0..1; else of 0..255."""
    _, text = _read(path)
    runtime = import_extra("ai_edge_litert.interpreter", LiteRT.extra)
    interpreter = runtime.Interpreter(model_path=str(path), num_threads=num_threads())
    interpreter.allocate_tensors()
    return interpreter, text is not None and not json.loads(text).get("uint8", True)


def _read(path: Path) -> tuple[Any, str | None]:
    """The file's tables, and the metadata in it (None: there is none).

    Raises:
        ValueError: it is no such file.
    """
    schema = import_extra("ai_edge_litert.schema_py_generated", LiteRT.extra)
    content = path.read_bytes()
    if content[4:8] != _FILE_KIND:
        raise ValueError(f"{path}: is no graph of LiteRT")
    model = schema.Model.GetRootAs(content)
    for entry in (model.Metadata(index) for index in range(model.MetadataLength())):
        if entry.Name() == METADATA_KEY.encode():
            return model, model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
    return model, None


def _with_metadata(graph: bytes, info: str) -> bytes:
    import numpy as np

    schema = import_extra("ai_edge_litert.schema_py_generated", LiteRT.extra)
    model = schema.ModelT.InitFromPackedBuf(graph, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(info.encode(), np.uint8)
    entry.name, entry.buffer = METADATA_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = import_extra("flatbuffers", LiteRT.extra).Builder(len(graph) + len(info))
    builder.Finish(model.Pack(builder), _FILE_KIND)
    return bytes(builder.Output())
