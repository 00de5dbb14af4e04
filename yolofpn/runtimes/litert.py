"""LiteRT, formerly TensorFlow Lite, for Android, iOS and small computers; its converter is litert-torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.hardware import num_threads
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.one_by_one import OneByOne, RunGraph
from yolofpn.runtimes.runtime import METADATA_KEY, GraphForm, GraphShape, Layout, Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from yolofpn.detector import Detector
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
    ) -> OneByOne:
        """Open the graph; it runs one image at a time on all CPU cores."""
        return OneByOne(cls.key, _open, find_graph, map_names, size)


def _open(path: Path) -> tuple[RunGraph, str | None]:
    """What runs a graph, and its metadata."""
    _, info = _read(path)
    runtime = import_extra("ai_edge_litert.interpreter", LiteRT.extra)
    interpreter = runtime.Interpreter(model_path=str(path), num_threads=num_threads())
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    outputs = [output["index"] for output in interpreter.get_output_details()]

    def run(image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        import numpy as np

        interpreter.set_tensor(entry["index"], np.ascontiguousarray(image.transpose(1, 2, 0)[None]))
        interpreter.invoke()
        return [interpreter.get_tensor(index)[0] for index in outputs]

    return run, info


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
