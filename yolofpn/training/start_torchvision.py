"""torchvision's Faster R-CNN under our names: every number of its state dict has its place in ``head.type: rcnn``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolofpn.config import ModelConfig, RCNNHeadConfig
from yolofpn.data.class_names import COCO_CATEGORY_IDS, COCO_NAMES
from yolofpn.errors import UserError

_FIRST = "rpn.head.cls_logits.weight"
# What classes there are, and where they are found: a file without these is of an RPN, or cut off.
_LAST = tuple(
    f"roi_heads.box_predictor.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("bias", "weight")
)
_COCO_OUTPUTS = 91  # the background and ids up to 90, ten of which no image of COCO shows
_COUNTER = "num_batches_tracked"

# Older versions of torchvision lack the bracketed parts. Block N of its pyramid is our level N + 2.
_PLACES = (
    (re.compile(r"backbone\.body\.(.+)"), "backbone.{0}"),
    (re.compile(r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "neck.p{0}.lateral.{1}"),
    (re.compile(r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "neck.p{0}.smooth.{1}"),
    (re.compile(r"rpn\.head\.conv(?:\.0\.0)?\.(weight|bias)"), "head.rpn.conv.{0}"),
    (re.compile(r"rpn\.head\.cls_logits\.(weight|bias)"), "head.rpn.objectness.{0}"),
    (re.compile(r"rpn\.head\.bbox_pred\.(weight|bias)"), "head.rpn.deltas.{0}"),
    (re.compile(r"roi_heads\.box_head\.(fc[67])\.(weight|bias)"), "head.box.body.{0}.{1}"),
    (re.compile(r"roi_heads\.box_predictor\.cls_score\.(weight|bias)"), "head.box.classes.{0}"),
    (re.compile(r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)"), "head.box.deltas.{0}"),
)


@dataclass(frozen=True)
class TorchvisionDetector:
    """A state dict of torchvision in our terms.

    Attributes:
        state: tensors by their names in native models.
        model: the config that has a place for every one of them.
        names: of the classes.
        category_ids: of the classes; empty where they are not known.
    """

    state: dict[str, Tensor]
    model: ModelConfig
    names: tuple[str, ...]
    category_ids: tuple[int, ...]


def is_torchvision_detector(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether ``tensors`` are a state dict of a torchvision two-stage detector."""
    return _FIRST in tensors


def torchvision_detector(
    tensors: Mapping[str, Tensor], model: ModelConfig, origin: str, names: Sequence[str] | None = None
) -> TorchvisionDetector:
    """A state dict of ``fasterrcnn_resnet50_fpn`` or its like under our names.

    With 91 outputs the classes are COCO's 80; the outputs of the ten ids that COCO does not use move behind them.

    Args:
        tensors: the whole state dict.
        model: with a head of type rcnn.
        origin: the file, as shown to people.
        names: of the classes; needed where they are not COCO's.

    Raises:
        UserError: the head is of another type, a tensor has no place in it or those of the classes are missing, or the
            names are missing or too many.
    """
    if not isinstance(model.head, RCNNHeadConfig):
        raise UserError(f"{origin}: holds a two-stage detector: name a --cfg with a head of type rcnn")
    state = {rename(name, origin): tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    for name in _LAST:
        if name not in tensors:
            raise UserError(f"{origin}: lacks {name!r}: only whole Faster R-CNN detectors of torchvision are converted")
    outputs = len(tensors[_LAST[0]])
    if outputs == _COCO_OUTPUTS and names is None:
        order = [0, *COCO_CATEGORY_IDS]
        order += sorted(set(range(outputs)) - set(order))
        for layer, rows in (("classes", 1), ("deltas", 4)):
            for kind in ("weight", "bias"):
                key = f"head.box.{layer}.{kind}"
                state[key] = state[key].view(outputs, rows, *state[key].shape[1:])[torch.tensor(order)].flatten(0, 1)
        roi = model.head.roi.model_copy(update={"unused_outputs": outputs - 1 - len(COCO_NAMES)})
        head = model.head.model_copy(update={"roi": roi})
        return TorchvisionDetector(state, model.model_copy(update={"head": head}), COCO_NAMES, COCO_CATEGORY_IDS)
    if names is None or len(names) != outputs - 1:
        raise UserError(f"{origin}: has {outputs - 1} classes: --names takes a file with their {outputs - 1} names")
    return TorchvisionDetector(state, model, tuple(names), ())


def rename(name: str, origin: str) -> str:
    """Our name of one of torchvision's tensors.

    Raises:
        UserError: it has no place here.
    """
    for pattern, place in _PLACES:
        if match := pattern.fullmatch(name):
            parts = list(match.groups())
            if place.startswith("neck."):
                parts[0] = str(int(parts[0]) + 2)
            return place.format(*parts)
    raise UserError(f"{origin}: {name!r} has no place in a Faster R-CNN on a feature pyramid")
