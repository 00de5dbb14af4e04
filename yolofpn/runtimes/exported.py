"""A detector in the form of a graph file of a runtime, with the metadata of its weights inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, PositiveInt

from yolofpn import runtimes
from yolofpn.config import Metadata, StrictModel, validate
from yolofpn.config.stored import from_stored, to_stored
from yolofpn.errors import UserError
from yolofpn.models.decoded_outputs import detections_from_decoded, detections_from_rows
from yolofpn.models.postprocess import MapSpec, nms_exponent, postprocess_maps
from yolofpn.reading import ParseError, parse_json
from yolofpn.runtimes.backend import Backend, Batch, InChunks, as_uint8
from yolofpn.runtimes.graph_check import check_graph
from yolofpn.runtimes.runtime import GraphForm, Layout, Runtime
from yolofpn.runtimes.seal import UNSEALED, digest_of
from yolofpn.structures import Detections, Limits, Target
from yolofpn.text import command
from yolofpn.types import RawMaps

GraphPrecision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]


class MapInfo(StrictModel):
    """``MapSpec`` in a file."""

    stride: PositiveInt
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float
    linear_xy: bool
    softmax: bool
    new_coords: bool = False
    gaussian: bool = False
    nms_exponent: float | None = None
    divides: bool = True
    anchors_in_cells: bool = False


class GraphInfo(StrictModel):
    """Metadata of a graph file, stored in it as JSON.

    Attributes:
        metadata: of the weights; its ``input.size`` is the only one that the graph takes.
        precision: of the arithmetic that the graph was checked with.
        batch: the only batch size that the graph takes; None: any.
        maps: how each output is read, in the order of the outputs; of other layouts, what was decoded.
        layout: of the outputs (``GraphForm``).
        uint8: whether the graph takes uint8 images.
        sha256: of the graph's files (see ``runtimes/seal.py``); None in those of older versions and unsealed runtimes.
    """

    format_version: Literal[1] = 1
    metadata: Metadata
    precision: GraphPrecision
    batch: int | None = None
    maps: dict[str, MapInfo]
    layout: Layout = "raw"
    uint8: bool = True
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


def describe_graph(
    metadata: Metadata,
    precision: GraphPrecision,
    specs: Mapping[str, MapSpec],
    batch: int | None,
    *,
    form: GraphForm = GraphForm(),  # noqa: B008  # frozen
    sealed: bool = True,
) -> str:
    """The JSON that goes into a graph file; if ``sealed``, ``seal`` completes it."""
    maps = {name: MapInfo(**asdict(spec)) for name, spec in specs.items()}
    info = GraphInfo(
        metadata=metadata,
        precision=precision,
        batch=batch,
        maps=maps,
        layout=form.layout,
        uint8=form.uint8,
        sha256=UNSEALED if sealed else None,
    )
    # Older versions do not know the layout, and read raw graphs alone.
    skipped = {"metadata", "layout", "uint8"} if form.layout == "raw" and form.uint8 else {"metadata"}
    return json.dumps({**info.model_dump(mode="json", exclude=skipped), "metadata": to_stored(metadata)})


class ExportedDetector:
    """A ``Detector`` whose dense part is a graph file, for inference on the CPU; nothing of it needs PyTorch.

    Args:
        path: the file.
        runtime: that runs it.
        info: what it says of itself.
    """

    needs_proposals = False
    class_agnostic = False
    is_graph = True
    second_stage = None

    def __init__(self, path: Path, runtime: type[Runtime], info: GraphInfo) -> None:
        self.path = path
        self.runtime = runtime
        self.precision = info.precision
        origin = runtimes.runtime_of(path)
        self._arithmetic = "fp32" if origin is not None and info.precision in origin.storage else info.precision
        self.batch = info.batch
        self.layout = info.layout
        self.metadata = info.metadata
        self.specs = {name: MapSpec(**spec.model_dump()) for name, spec in info.maps.items()}
        self.num_classes = len(info.metadata.names)
        self.form = info.metadata.input.form
        self.size = info.metadata.input.size
        self.size_divisor = max((spec.stride for spec in self.specs.values()), default=1)
        self.own_size = self.size if any(side % self.size_divisor for side in self.size) else None
        post = info.metadata.postprocess
        self.limits = Limits(post.score_thresh, post.nms_thresh, post.detections_per_img)
        self._backend: Backend | None = None

    def backend(
        self, precision: str | None = None, runtime: type[Runtime] | None = None, *, throughput: bool = False
    ) -> Backend:
        """What runs the graph.

        Args:
            precision: of the arithmetic; by default that of the file.
            runtime: one that opens such files; by default ``self.runtime``.
            throughput: several batches will be in flight.
        """
        names = list(self.specs) if self.layout == "raw" else ["detections"]
        backend = (runtime or self.runtime).open(
            self.find_graph, names, self.size, precision or self._arithmetic, throughput=throughput
        )
        return backend if self.batch is None else InChunks(backend, self.batch)

    def dense(self, images: Batch) -> RawMaps:
        """uint8 [B, 3, H, W] RGB, or bands -> raw maps, as the detector gave them that the graph was made from."""
        if self._backend is None:
            self._backend = self.backend()
        return self._backend.start(images if self.form.is_float else as_uint8(images))()

    def postprocess(
        self,
        dense: RawMaps,
        image_sizes: list[tuple[int, int]],
        limits: Limits | None = None,
        regions: list[tuple[int, int]] | None = None,
    ) -> list[Detections]:
        """Outputs of the graph -> detections in network pixels, clipped to each image's (height, width).

        ``regions`` are the (height, width) of what the images show without padding, for NMS by distance.
        """
        limits = limits or self.limits
        if self.layout == "decoded":
            exponent = nms_exponent(self)
            return detections_from_decoded(dense["detections"], image_sizes, limits, exponent, regions)
        if self.layout == "end2end":
            return detections_from_rows(dense["detections"], image_sizes, limits)
        return postprocess_maps(dense, self.specs, self.num_classes, image_sizes, limits, regions)

    def __call__(self, images: Batch, targets: list[Target] | None = None) -> list[Detections]:
        """Detections of each image in network pixels.

        Raises:
            UserError: ``targets`` are given: a graph cannot learn.
        """
        if targets is not None:
            raise UserError(f"{self.path}: is a graph for inference only: train the weights that it was made from")
        return self.postprocess(self.dense(images), [(images.shape[-2], images.shape[-1])] * len(images))

    def find_graph(self, size: tuple[int, int]) -> Path:
        """The file, for images of (height, width).

        Raises:
            UserError: it takes another size.
        """
        if size != self.size:
            made, asked = (f"{height}x{width}" for height, width in (self.size, size))
            again = f"{command('export')} --img-size {asked}"
            raise UserError(
                f"{self.path}: was made for images of {made}, not {asked}: {again} makes another, with PyTorch"
            )
        return self.path


def read_exported(path: Path) -> ExportedDetector:
    """The detector in a file that ``export.py`` wrote.

    Raises:
        UserError: the file is damaged or was not written by it, or the library that reads it is not installed.
    """
    runtime = runtimes.runtime_of(path)
    if runtime is None:
        raise UserError(f"{path}: is no graph: {', '.join(known.suffix for known in runtimes.RUNTIMES)} are read")
    beside = runtime.files(path)[1:]
    for file in beside:
        if not file.is_file():
            raise UserError(f"{path}: lacks its numbers, {file.name} beside it: copy both files")
    able = runtimes.runtimes_of(path)
    if able and runtime not in able:  # such as an .onnx file where only OpenVINO is installed
        runtime = able[0]
    runtime.library()
    try:
        text, shape = runtime.read(path)
    except Exception:  # libraries have errors of many kinds for damaged bytes
        raise UserError(f"{path}: is damaged or no {runtime.key} graph: export it again") from None
    if text is None:
        raise UserError(f"{path}: does not say which detector it is: only graphs that export.py wrote are read")
    try:
        tree: Any = parse_json(text)
    except ParseError:
        raise UserError(f"{path}: its metadata is damaged: export it again") from None
    if isinstance(tree, dict):
        tree["metadata"] = from_stored(tree.get("metadata"), str(path))
    info = validate(GraphInfo, tree, str(path))
    exported = ExportedDetector(path, runtime, info)
    check_graph(path, info.metadata, exported.specs, info.batch, shape, GraphForm(info.layout, info.uint8))
    if info.sha256 is not None and digest_of(path, info.sha256, beside) != info.sha256:
        files = "".join(f" (or {file.name} is that of another one)" for file in beside)
        raise UserError(f"{path}: is damaged: it is not as it was exported{files}: copy or export it again")
    return exported
