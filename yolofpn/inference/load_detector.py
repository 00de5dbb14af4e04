"""Any weights or graph file, run folder or name -> a detector for inference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from yolofpn.config import Metadata
from yolofpn.config.metadata import rename_classes
from yolofpn.data.class_names import read_names
from yolofpn.errors import UserError, torch_errors
from yolofpn.extras import is_installed
from yolofpn.hardware import may_have_gpu
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import PredictorOptions, PredictorSettings
from yolofpn.runtimes import runtime_of, runtimes_of
from yolofpn.runtimes.exported import ExportedDetector, read_exported
from yolofpn.runtimes.tuned import tuned_folder
from yolofpn.shipped import default_graph, default_weights

if TYPE_CHECKING:
    from yolofpn.darknet.network import DarknetNetwork
    from yolofpn.models.build import NativeDetector


@dataclass(frozen=True)
class LoadedDetector:
    """Like ``LoadedWeights``, but the detector may be an exported graph, which can only detect."""

    detector: NativeDetector | DarknetNetwork | ExportedDetector
    metadata: Metadata
    notes: list[str]


def load_detector(
    weights: str | Path = "auto",
    *,
    darknet_cfg: str | Path | None = None,
    names: str | Path | None = None,
    **settings: Unpack[PredictorSettings],
) -> Predictor:
    """Load a detector: ``load_detector("yolov3.weights")("dog.jpg")``.

    Args:
        weights: a safetensors or Darknet ``.weights`` file, the folder of a training run, or a name such as 'yolov3'.
        darknet_cfg: the cfg of Darknet weights, if it is not found beside them.
        names: a file of class names, if none is found beside them.
        **settings: fields of ``PredictorOptions``, such as img_size=(608, 608), score_thresh=0.1, device='cuda:0'.

    Raises:
        UserError: the weights are missing, damaged, or do not fit the cfg; or a setting does not fit them.
    """
    options = PredictorOptions(**settings)
    loaded = load_for_inference(weights, darknet_cfg=darknet_cfg, names=names, options=options)
    return Predictor(loaded.detector, loaded.metadata, options)


def load_for_inference(
    spec: str | Path,
    *,
    darknet_cfg: str | Path | None = None,
    names: str | Path | None = None,
    options: PredictorOptions | None = None,
) -> LoadedDetector:
    """Like ``load_weights``; also loads exported graphs.

    Args:
        spec: see ``load_weights``; of the default weights the graph that ships is taken if PyTorch is not installed.
        darknet_cfg: see ``load_weights``.
        names: see ``load_weights``.
        options: how the detector will be run, if the graph that ships may also be taken because it starts faster.

    Raises:
        UserError: as there, or PyTorch is not installed and ``spec`` is no graph.
    """
    path, notes = Path(spec), []
    if str(spec) == "auto" and not path.exists() and darknet_cfg is None:
        path = default_file(options, verify=False)
        if path.suffix == ".onnx":
            reason = "" if is_installed("torch") else ", as PyTorch is not installed"
            notes = [f"weights: {path} (the default weights as a graph{reason}; sha256 verified)"]
    if not runtime_of(path) or not path.is_file():
        with torch_errors():
            from yolofpn.weights import load_weights  # PyTorch, which graphs do without

        loaded = load_weights(spec, darknet_cfg=darknet_cfg, names=names)
        return LoadedDetector(loaded.detector, loaded.metadata, loaded.notes)
    if darknet_cfg is not None:
        raise UserError(f"{path} contains its network: --darknet-cfg is for Darknet .weights files only")
    detector = read_exported(path)
    metadata = detector.metadata if names is None else rename_classes(detector.metadata, read_names(names), names, path)
    return LoadedDetector(detector, metadata, notes)


def default_file(options: PredictorOptions | None = None, *, verify: bool = True) -> Path:
    """The default weights, or the graph of them that ships.

    Without PyTorch it is the graph, if there is one. With PyTorch it is the graph only if that gives the same
    detections sooner: on the CPU, at its own size, in fp32, if a runtime is installed and ``tune`` chose nothing.

    Args:
        options: how the detector will be run; None: in ways that only the weights allow.
        verify: compare the sha256 of the weights, which ``load_weights`` does itself for 'auto'; the graph's always is.

    Raises:
        UserError: the file is missing or damaged.
    """
    with_torch = is_installed("torch")
    if with_torch and (options is None or not _graph_suits(options)):
        return default_weights(verify=verify)
    graph = default_graph()
    return default_weights(verify=verify) if graph is None else graph


def _graph_suits(options: PredictorOptions) -> bool:
    able = [runtime.key for runtime in runtimes_of(Path("x.onnx"))]
    return (
        (options.device == "cpu" or (options.device == "auto" and not may_have_gpu()))
        and (options.backend in able or (options.backend == "auto" and bool(able)))
        and options.precision in ("auto", "fp32")
        and options.img_size is None
        and options.pyramid is None
        and options.resize != "shortest-edge"
        and not options.compile
        and not tuned_folder().is_dir()
    )
