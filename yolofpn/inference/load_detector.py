"""Any weights or graph file, run folder or name -> a detector that can do nothing but detect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.config import Metadata
from yolofpn.config.metadata import rename_classes
from yolofpn.data.class_names import read_names
from yolofpn.errors import UserError, torch_errors
from yolofpn.runtimes import runtime_of
from yolofpn.runtimes.exported import ExportedDetector, read_exported

if TYPE_CHECKING:
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.models.build import NativeDetector


@dataclass(frozen=True)
class LoadedDetector:
    """Like ``LoadedWeights``, but the detector may be an exported graph, which can only detect."""

    detector: NativeDetector | DarknetNetwork | ExportedDetector
    metadata: Metadata
    notes: list[str]


def load_for_inference(
    spec: str | Path, *, darknet_cfg: str | Path | None = None, names: str | Path | None = None
) -> LoadedDetector:
    """Like ``load_weights``; also loads exported graphs.

    Raises:
        UserError: as there, or PyTorch is not installed and ``spec`` is no graph.
    """
    path = Path(spec)
    if not runtime_of(path) or not path.is_file():
        with torch_errors():
            from yolofpn.weights import load_weights  # PyTorch, which graphs do without

        loaded = load_weights(spec, darknet_cfg=darknet_cfg, names=names)
        return LoadedDetector(loaded.detector, loaded.metadata, loaded.notes)
    if darknet_cfg is not None:
        raise UserError(f"{path} knows its network: --darknet-cfg is for Darknet .weights files only")
    detector = read_exported(path)
    metadata = detector.metadata if names is None else rename_classes(detector.metadata, read_names(names), names, path)
    return LoadedDetector(detector, metadata, [])
