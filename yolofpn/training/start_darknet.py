"""Darknet's numbers as a start: whole networks, or the first layers of one, under the names of a native model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from yolofpn.config import (
    ConcatNeckConfig,
    DarknetHeader,
    InputConfig,
    ModelConfig,
    PostprocessConfig,
    TinyNeckConfig,
    YOLOHeadConfig,
)
from yolofpn.darknet.cfg import read_cfg
from yolofpn.darknet.companions import find_cfg, find_names
from yolofpn.darknet.native import native_layers
from yolofpn.darknet.network import DarknetNetwork, load_darknet_network
from yolofpn.darknet.weights_file import NEW_HEADER, WeightLayer, WeightsFile, norm_eps_of, open_weights, read_layers
from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.levels import TOP_LEVEL
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO

_YOLOV3_ANCHORS = ((1.0, 1.0),) * 3  # only their number matters: it is that of the layers in the file
_CLASSES = 80  # of a file that does not say: Darknet's own have COCO's


def darknet_settings(header: DarknetHeader | None) -> Mapping[str, Any]:
    """Return the settings that the weights of a Darknet file with ``header`` were trained with."""
    return {
        "model.norm_eps": norm_eps_of(header or NEW_HEADER).value,
        "model.leaky_slope": 0.1,
        "input.mean": (0.0, 0.0, 0.0),
        "input.std": (1.0, 1.0, 1.0),
    }


@dataclass(frozen=True)
class DarknetStart:
    """Initial weights of a native model from a ``.weights`` file.

    Attributes:
        state: tensors by their names in the native model.
        settings: what the numbers were trained with, by config key.
        names: of the classes of its predictions; empty where it has none.
        notes: lines to print.
        scale_x_y: of the network in the file, see ``scale_x_y_of``; None where the file has no predictions.
    """

    state: dict[str, Tensor]
    settings: Mapping[str, Any]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    scale_x_y: float | None = None


def read_darknet(path: Path, model: ModelConfig) -> DarknetStart:
    """The layers that a ``.weights`` file and the model ``model`` begin with alike.

    With its cfg (found as for detection) a file of any network gives the layers before the first one that differs;
    without one (darknet53.conv.74) its numbers must be those of the model's own first layers.

    Raises:
        UserError: the file is damaged, or does not fit its cfg or the model.
    """
    file = open_weights(path)
    try:
        cfg_path, note = find_cfg(path, len(file.numbers))
    except UserError:
        return _read_first_layers(path, file, model)
    network, loaded = load_darknet_network(read_cfg(cfg_path), file)
    kernels = takewhile(lambda layer: isinstance(layer, WeightLayer), network.stored_layers()[: loaded.loaded])
    given, settings = [layer for layer in kernels if isinstance(layer, WeightLayer)], darknet_settings(file.header)
    if loaded.complete and not network.is_classifier:
        names = find_names(path, cfg_path, network.num_classes)[0]
        state = native_state(given, model, network.num_classes)
        return DarknetStart(state, settings, names, (note,), scale_x_y_of(network))
    return DarknetStart(native_state(given, model, _CLASSES), settings, (), (note,))


def scale_x_y_of(detector: Detector) -> float | None:
    """Return ``scale_x_y`` of the head; None if there is none, or if it differs between levels."""
    if not isinstance(detector, YOLO | DarknetNetwork):
        return None
    scales = {None if spec.linear_xy else spec.scale_x_y for spec in detector.specs.values()}
    return scales.pop() if len(scales) == 1 else None


def native_state(given: Sequence[WeightLayer], model: ModelConfig, num_classes: int) -> dict[str, Tensor]:
    """The numbers of ``given``, the layers of a Darknet network, under the names of the native ``model``.

    Layers count up to the first one whose shape differs; of models whose neck adds, which Darknet does not know, only
    those of the backbone.
    """
    twin = _darknet_twin(model, num_classes)
    alike: list[WeightLayer] = []
    for layer, source in zip(native_layers(twin), given, strict=False):
        if layer.shape != source.shape:
            break
        layer.copy_from(source)
        alike.append(layer)
    return _named_tensors(twin, alike, model)


def _read_first_layers(path: Path, file: WeightsFile, model: ModelConfig) -> DarknetStart:
    twin = _darknet_twin(model, _CLASSES)
    layers = native_layers(twin)
    loaded = read_layers(file, layers)
    names = find_names(path, path, _CLASSES)[0] if loaded.complete else ()
    note = f"weights: {path} holds the first {loaded.loaded} of {loaded.total} layers (no cfg found beside it)"
    state = _named_tensors(twin, layers[: loaded.loaded], model)
    return DarknetStart(state, darknet_settings(file.header), names, (note,))


def _darknet_twin(model: ModelConfig, num_classes: int) -> YOLO:
    """The network of ``model`` as Darknet can have it: with a neck that concatenates, and a one-stage head."""
    neck = model.neck
    if model.has_conv5_head:
        neck = ConcatNeckConfig(type="concat", levels=(TOP_LEVEL,), top_down=False)
    elif not isinstance(neck, ConcatNeckConfig | TinyNeckConfig):
        neck = ConcatNeckConfig(type="concat", levels=neck.levels, top_down=neck.top_down, lateral=neck.lateral)
    head = model.head
    if not isinstance(head, YOLOHeadConfig):
        head = YOLOHeadConfig(type="yolo", anchors=(_YOLOV3_ANCHORS,) * len(neck.levels))
    return build_yolo(
        model.model_copy(update={"neck": neck, "head": head}), num_classes, InputConfig(), PostprocessConfig()
    )


def _named_tensors(twin: YOLO, layers: Sequence[WeightLayer], model: ModelConfig) -> dict[str, Tensor]:
    names = {module: name for name, module in twin.named_modules()}
    state: dict[str, Tensor] = {}
    for layer in layers:
        parts: list[nn.Module] = [layer.conv] if layer.norm is None else [layer.conv, layer.norm]
        for part in parts:
            state |= {f"{names[part]}.{name}": tensor for name, tensor in part.state_dict().items()}
    if isinstance(model.neck, ConcatNeckConfig | TinyNeckConfig):
        return state
    return {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
