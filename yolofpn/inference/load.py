"""Any weights or graph file, run folder or name -> a detector that can do nothing but detect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from yolofpn.config import Depth, Metadata, ResizeMode
from yolofpn.darknet.network import DarknetNetwork
from yolofpn.data.names import read_names
from yolofpn.errors import UserError
from yolofpn.inference.choose import Workload
from yolofpn.models.build import NativeDetector
from yolofpn.runtimes import runtime_of
from yolofpn.runtimes.exported import ExportedDetector, read_exported
from yolofpn.weights import load_weights, rename_classes


@dataclass(frozen=True)
class LoadedDetector:
    """As ``LoadedWeights``, but what it holds may be a graph, which can do nothing but detect."""

    detector: NativeDetector | DarknetNetwork | ExportedDetector
    metadata: Metadata
    notes: list[str]


class PredictorSettings(TypedDict, total=False):
    """The settings of ``Predictor`` that ``load_detector`` passes on; see there."""

    img_size: int | tuple[int, int] | None
    pyramid: Sequence[int | tuple[int, int]] | None
    resize: ResizeMode | None
    depth: Depth | None
    score_thresh: float | None
    nms_thresh: float | None
    detections_per_img: int | None
    classes: Sequence[str | int] | None
    device: str
    backend: str
    precision: str
    workload: Workload
    compile: bool
    pad_batches: bool


def load_for_inference(
    spec: str | Path, *, darknet_cfg: str | Path | None = None, names: str | Path | None = None
) -> LoadedDetector:
    """As ``load_weights``; takes the graph files of ``export.py`` too.

    Raises:
        UserError: as there.
    """
    path = Path(spec)
    if not runtime_of(path) or not path.is_file():
        loaded = load_weights(spec, darknet_cfg=darknet_cfg, names=names)
        return LoadedDetector(loaded.detector, loaded.metadata, loaded.notes)
    if darknet_cfg is not None:
        raise UserError(f"{path} knows its network: --darknet-cfg is for Darknet .weights files only")
    detector = read_exported(path)
    metadata = detector.metadata if names is None else rename_classes(detector.metadata, read_names(names), names, path)
    return LoadedDetector(detector.eval(), metadata, [])
