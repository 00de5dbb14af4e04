"""The YAML files: typed, frozen, complete, and refused with the place and the remedy when something is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from yolofpn.errors import UserError

UnitFloat = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[int, Field(ge=2, le=7)]
AnchorSize = tuple[PositiveFloat, PositiveFloat]  # width, height in network pixels
T = TypeVar("T", bound="StrictModel")
ResizeMode = Literal["letterbox", "stretch", "shortest-edge"]


class StrictModel(BaseModel):
    """A section: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Darknet53Config(StrictModel):
    """YOLOv3's backbone (arXiv 1804.02767, table 1)."""

    type: Literal["darknet53"]


class Darknet19Config(StrictModel):
    """YOLOv2's backbone (arXiv 1612.08242, table 6)."""

    type: Literal["darknet19"]


class ScaledDarknetConfig(StrictModel):
    """Darknet-53's plan with fewer channels and blocks, for small models."""

    type: Literal["darknet"]
    width: PositiveFloat = Field(1.0, le=4)
    depth: PositiveFloat = Field(1.0, le=4)


BackboneConfig = Annotated[Darknet53Config | Darknet19Config | ScaledDarknetConfig, Field(discriminator="type")]


class NeckSwitches(StrictModel):
    """What both fusions share: the switches of the FPN paper's ablations (arXiv 1612.03144, section 5)."""

    levels: tuple[Level, ...] = (3, 4, 5)
    top_down: bool = True
    lateral: bool = True
    upsample: Literal["nearest", "bilinear"] = "nearest"


class ConcatNeckConfig(NeckSwitches):
    """YOLOv3's fusion: reduce, upsample, concatenate, five convolutions.

    Attributes:
        channels: output channels from the finest to the coarsest level; by default half of the backbone's.
    """

    type: Literal["concat"]
    channels: tuple[PositiveInt, ...] | None = None


class AddNeckConfig(NeckSwitches):
    """The FPN paper's fusion: 1x1 lateral, upsample, add, 3x3 smoothing; one width on all levels."""

    type: Literal["add"]
    channels: PositiveInt = 256


NeckConfig = Annotated[ConcatNeckConfig | AddNeckConfig, Field(discriminator="type")]


class BestAnchorConfig(StrictModel):
    """YOLOv3's rule; with both thresholds (.3 and .7), the dual ones of its section 4."""

    type: Literal["best_anchor"]
    ignore_iou_thresh: UnitFloat = 0.5
    positive_iou_thresh: UnitFloat | None = None


class SimOTAConfig(StrictModel):
    """Dynamic assignment by cost (arXiv 2107.08430)."""

    type: Literal["simota"]
    top_candidates: PositiveInt = 10
    iou_weight: PositiveFloat = 3.0


class YOLOLossConfig(StrictModel):
    """See ``models/yolo_loss.py``; the YOLOv3 paper is ``best_anchor`` with ``bce``, not IoU-aware, all weights 1."""

    assigner: Annotated[BestAnchorConfig | SimOTAConfig, Field(discriminator="type")] = SimOTAConfig(type="simota")
    box: Literal["squared", "bce", "iou", "giou", "diou", "ciou"] = "ciou"
    iou_aware_classes: bool = True
    focal_gamma: float = Field(0.0, ge=0)
    box_weight: PositiveFloat = 5.0
    objectness_weight: PositiveFloat = 1.0
    class_weight: PositiveFloat = 1.0


class YOLOHeadConfig(StrictModel):
    """YOLOv3's head.

    Attributes:
        anchors: one set of (width, height) per level of the neck, the finest level first, in network pixels.
        scale_x_y: above 1, a cell can place a box's centre beyond its own border.
        xy: 'linear' does without the sigmoid of x and y (YOLOv3, section 4).
        classes: 'softmax' makes them exclude each other (YOLOv3, section 2.2).
    """

    type: Literal["yolo"]
    anchors: tuple[tuple[AnchorSize, ...], ...]
    scale_x_y: float = Field(1.0, ge=1, le=3)
    xy: Literal["logistic", "linear"] = "logistic"
    classes: Literal["sigmoid", "softmax"] = "sigmoid"
    loss: YOLOLossConfig = YOLOLossConfig()


class ModelConfig(StrictModel):
    """The network. Its number of classes comes from the data."""

    backbone: BackboneConfig
    neck: NeckConfig
    head: YOLOHeadConfig
    norm_eps: PositiveFloat = 1e-5

    @model_validator(mode="after")
    def _one_anchor_set_per_level(self) -> ModelConfig:
        if len(self.head.anchors) != len(self.neck.levels):
            raise ValueError(
                f"head.anchors has {len(self.head.anchors)} sets for the {len(self.neck.levels)} levels "
                f"{list(self.neck.levels)} of the neck"
            )
        if len({len(anchors) for anchors in self.head.anchors}) > 1:
            raise ValueError("head.anchors: every level needs the same number of anchors")
        return self


class InputConfig(StrictModel):
    """What the network is fed with; mean and std are of values in 0..1, RGB.

    Attributes:
        size: (height, width) of the network's input in pixels.
    """

    size: tuple[PositiveInt, PositiveInt] = (416, 416)
    resize: ResizeMode = "letterbox"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)


class PostprocessConfig(StrictModel):
    """Which predictions become detections; ``score_thresh`` may hold one value per class."""

    score_thresh: UnitFloat | tuple[UnitFloat, ...] = 0.25
    nms_thresh: UnitFloat = 0.45
    detections_per_img: PositiveInt = 300


class Config(StrictModel):
    """One complete YAML file of ``cfg/``."""

    model: ModelConfig
    input: InputConfig = InputConfig()
    postprocess: PostprocessConfig = PostprocessConfig()


class DarknetHeader(StrictModel):
    """The first numbers of a ``.weights`` file."""

    major: int
    minor: int
    revision: int
    seen: int


class Metadata(StrictModel):
    """What a weights file knows of itself; kept as JSON inside safetensors files and exports.

    Attributes:
        model: the native network; None for one that is built from a Darknet cfg.
        darknet_cfg: the text of that cfg.
        category_ids: the data set's id of each label (COCO's 80 labels carry ids up to 90).
        header: of the ``.weights`` file that the numbers came from.
    """

    format_version: Literal[1] = 1
    model: ModelConfig | None = None
    darknet_cfg: str | None = None
    input: InputConfig = InputConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    header: DarknetHeader | None = None
    notes: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Metadata:
        if (self.model is None) == (self.darknet_cfg is None):
            raise ValueError("exactly one of model and darknet_cfg must be given")
        if self.category_ids and len(self.category_ids) != len(self.names):
            raise ValueError(f"{len(self.category_ids)} category ids for {len(self.names)} names")
        thresh = self.postprocess.score_thresh
        if isinstance(thresh, tuple) and len(thresh) != len(self.names):
            raise ValueError(f"{len(thresh)} score thresholds for {len(self.names)} names")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a model's YAML file, apply ``section.key=value`` overrides, validate every field.

    Raises:
        UserError: the file is missing or no YAML, or keys or values are wrong: all of them in one message, each
            with its path in the file and, for an unknown key, the nearest known one.
    """
    tree = read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    return validate(Config, tree, str(path))


def validate(schema: type[T], tree: Any, origin: str) -> T:  # noqa: ANN401
    """``tree`` as a ``schema``.

    Raises:
        UserError: one line per wrong key or value, each beginning with ``origin``.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(schema, dict(item)) for item in error.errors()]
        raise UserError("\n".join(f"{origin}: {line}" for line in lines)) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML 1.2 file (``1e-3`` is a number, a repeated key an error) whose top level is a mapping.

    Raises:
        UserError: it is missing, unreadable, no YAML, or no mapping.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}: line {line}: {str(error.problem).splitlines()[0]}") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{path}: {where}not valid YAML: {getattr(error, 'problem', error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, so not a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give the path of a YAML file, such as cfg/yolofpn.yaml") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected sections such as 'model:', found {type(tree).__name__}")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    dotted_key, separator, value = override.partition("=")
    if not separator or not dotted_key:
        raise UserError(f"override {override!r} is not of the form section.key=value")
    *sections, key = dotted_key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise UserError(f"override {override!r}: {section!r} is a value, not a section")
        node = child
    node[key] = YAML(typ="safe", pure=True).load(value)


def _explain(schema: type[StrictModel], item: dict[str, Any]) -> str:
    # A discriminated union puts its tag into the location ("model.neck.add.width"): it is no key of the file.
    place = ".".join(str(part) for part in item["loc"] if not _is_tag(part, item["loc"]))
    if item["type"] == "extra_forbidden":
        known = _known_keys(schema)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        return f"{place}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _is_tag(part: Any, location: Iterable[Any]) -> bool:  # noqa: ANN401
    parts = list(location)
    return (
        parts.index(part) > 0
        and parts[parts.index(part) - 1] in {"backbone", "neck", "head", "assigner"}
        and part in _TAGS
    )


_TAGS = {"best_anchor", "simota", "darknet53", "darknet19", "darknet", "concat", "add", "yolo", "faster_rcnn"}


def _known_keys(schema: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    pending: list[Any] = [schema]
    seen: set[Any] = set()
    while pending:
        kind = pending.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys.extend(kind.model_fields)
            pending.extend(info.annotation for info in kind.model_fields.values())
        else:
            pending.extend(getattr(kind, "__args__", ()))
    return keys
