"""The stored form of metadata: JSON inside weights, checkpoints and exported graphs, with keys of its own.

Files outlive settings. ``_KEYS`` lists what is stored under which key, so that a setting may get another name while
its stored key stays (``"stored_key:setting"``). Where the form itself has to change, ``FORMAT_VERSION`` rises and
``_STEPS`` gets a function that brings a tree of the version before to the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from yolofpn.config.explain import sections
from yolofpn.config.metadata import DarknetHeader, Metadata
from yolofpn.config.validation import validate
from yolofpn.errors import UserError
from yolofpn.fields import StrictModel
from yolofpn.models import model_config as models
from yolofpn.models.backbones.darknet_config import Darknet19Config, Darknet53Config, ScaledDarknetConfig
from yolofpn.models.backbones.efficientnet_lite_config import EfficientNetLiteConfig
from yolofpn.models.backbones.resnet_config import ResNetConfig
from yolofpn.models.backbones.strided_config import StridedConfig
from yolofpn.models.backbones.yolov3_tiny_config import TinyDarknetConfig
from yolofpn.models.two_stage import two_stage_config as two_stage
from yolofpn.reading import ParseError, parse_json, short

FORMAT_VERSION = 1
_VERSION_KEY = "format_version"
_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

# A backbone that is not listed is stored under the keys of its section.
_KEYS: Mapping[type[StrictModel], str] = {
    Metadata: "model darknet_cfg input postprocess names category_ids header card",
    DarknetHeader: "major minor revision seen",
    models.InputConfig: "size resize depth mean std channels range bands",
    models.PostprocessConfig: "score_thresh nms_thresh detections_per_img",
    models.ModelConfig: "backbone neck head norm_eps leaky_slope",
    Darknet53Config: "type",
    Darknet19Config: "type",
    ScaledDarknetConfig: "type width depth stem_stride rank",
    ResNetConfig: "type depth norm",
    StridedConfig: "type width",
    EfficientNetLiteConfig: "type variant",
    TinyDarknetConfig: "type rank",
    models.ConcatNeckConfig: "type levels top_down lateral upsample channels rank",
    models.AddNeckConfig: "type levels top_down lateral upsample channels smooth",
    models.TinyNeckConfig: "type levels channels upsample",
    models.NoNeckConfig: "type levels",
    models.YOLOHeadConfig: "type anchors scale_x_y xy classes channels ranks loss",
    models.YOLOLossConfig: ("assigner box iou_aware_classes focal_gamma box_weight objectness_weight class_weight"),
    models.BestAnchorConfig: "type ignore_iou_thresh positive_iou_thresh",
    models.SimOTAConfig: "type top_candidates iou_weight",
    two_stage.RCNNHeadConfig: "type channels anchors rpn roi",
    two_stage.RPNHeadConfig: "type channels anchors rpn",
    two_stage.FastRCNNHeadConfig: "type channels roi",
    two_stage.AnchorGridConfig: "sizes ratios",
    two_stage.RPNConfig: (
        "positive_iou_thresh negative_iou_thresh batch_size_per_img positive_fraction pre_nms_top_n post_nms_top_n "
        "nms_thresh"
    ),
    two_stage.RoIHeadsConfig: (
        "type iou_thresh batch_size_per_img positive_fraction pool size sampling_ratio aligned width unused_outputs"
    ),
}


# What is not stored where it has its default, so that versions without these keys read all other weights.
_OPTIONAL = {(models.InputConfig, key) for key in ("channels", "range", "bands")}


def stored_keys(section: type[StrictModel]) -> dict[str, str]:
    """The stored keys of a section, each with the setting that it holds."""
    if section not in _KEYS:
        return {name: name for name in section.model_fields}
    pairs = (entry.partition(":") for entry in _KEYS[section].split())
    return {key: setting or key for key, _, setting in pairs}


def to_stored(metadata: Metadata) -> dict[str, Any]:
    """The tree of plain values that ``from_stored`` reads."""
    return {_VERSION_KEY: FORMAT_VERSION, **_stored(metadata)}


def from_stored(tree: object, origin: str) -> Metadata:
    """The metadata in a stored tree of this version or an older one.

    Args:
        tree: as JSON gives it.
        origin: the file, as shown to people.

    Raises:
        UserError: it is of a newer version, or describes no detector.
    """
    version = tree.get(_VERSION_KEY) if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{origin}: has format version {short(version)}, this yolofpn reads {FORMAT_VERSION}: update yolofpn"
        )
    newest = migrate({key: value for key, value in tree.items() if key != _VERSION_KEY}, version)
    return validate(Metadata, _settings(Metadata, newest), origin)


def migrate(tree: dict[str, Any], version: int) -> dict[str, Any]:
    """A stored tree of an older ``version`` in the form of the newest one."""
    for step in range(version, FORMAT_VERSION):
        tree = _STEPS[step](tree)
    return tree


def dump_metadata(metadata: Metadata) -> str:
    """The JSON text that is kept inside files."""
    return json.dumps(to_stored(metadata), ensure_ascii=False, allow_nan=False)


def parse_metadata(text: str, path: Path) -> Metadata:
    """The metadata that ``text``, JSON from within the file ``path``, holds.

    Raises:
        UserError: it is damaged, of a newer version, or describes no detector.
    """
    try:
        tree = parse_json(text)
    except ParseError:
        raise UserError(f"{path}: its metadata is damaged: fetch or copy the file again") from None
    return from_stored(tree, str(path))


def _stored(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, StrictModel):
        kind, fields = type(value), type(value).model_fields
        return {
            key: _stored(getattr(value, name))
            for key, name in stored_keys(kind).items()
            if (kind, key) not in _OPTIONAL or getattr(value, name) != fields[name].default
        }
    return value


def _settings(section: type[StrictModel], tree: dict[str, Any]) -> dict[str, Any]:
    """A stored tree with the names that the settings have today; what is unknown stays and is refused by them."""
    keys, settings = stored_keys(section), {}
    for key, value in tree.items():
        name = keys.get(key, key)
        inner = _section_of(section, name, value) if isinstance(value, dict) else None
        settings[name] = value if inner is None else _settings(inner, value)
    return settings


def _section_of(section: type[StrictModel], name: str, tree: dict[str, Any]) -> type[StrictModel] | None:
    """Which section a setting's tree is; where it may be several, its type says which."""
    if name not in section.model_fields:
        return None
    found = list(sections(section.model_fields[name]))
    if len(found) == 1:
        return found[0]
    return next((each for each in found if tree.get("type") in get_args(each.model_fields["type"].annotation)), None)
