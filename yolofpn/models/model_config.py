"""YAML sections of a detector: network, input and postprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from yolofpn.bands import MAX_CHANNELS, Bands, InputForm, Range
from yolofpn.fields import (
    Channels,
    Depth,
    InputSide,
    NonNegativeFloat,
    OneOf,
    PositiveFloat,
    PositiveInt,
    Share,
    StrictModel,
    UnitFloat,
)
from yolofpn.levels import built_levels
from yolofpn.models import backbones
from yolofpn.models.backbones.section import BackboneConfig
from yolofpn.models.two_stage.two_stage_config import FastRCNNHeadConfig, RCNNHeadConfig, RPNHeadConfig
from yolofpn.types import ResizeMode

Level = Annotated[int, Field(ge=2, le=5)]
AnchorSize = tuple[PositiveFloat, PositiveFloat]  # width, height in network pixels


class NeckSwitches(StrictModel):
    """Settings shared by both kinds of fusion: the ablations of the FPN paper (arXiv 1612.03144, section 5)."""

    levels: tuple[Level, ...] = (3, 4, 5)
    top_down: bool = True
    lateral: bool = True
    upsample: Literal["nearest", "bilinear"] = "nearest"

    @model_validator(mode="after")
    def _switches_agree(self) -> NeckSwitches:
        built_levels(self.levels, top_down=self.top_down, lateral=self.lateral)
        return self


class ConcatNeckConfig(NeckSwitches):
    """YOLOv3's fusion: reduce, upsample, concatenate, five convolutions.

    Attributes:
        channels: output channels of each built level, from the finest to the coarsest (with the top-down pathway
            p5, whatever ``levels`` says); by default half of the backbone's.
        rank: of the 3x3 kernels, as a share of their input channels; null leaves them whole.
    """

    type: Literal["concat"]
    channels: tuple[Channels, ...] | None = None
    rank: Share | None = None

    @model_validator(mode="after")
    def _channels_of_each_level(self) -> ConcatNeckConfig:
        built = built_levels(self.levels, top_down=self.top_down, lateral=self.lateral)
        if self.channels is not None and len(self.channels) != len(built):
            raise ValueError(f"{len(self.channels)} channels for the {len(built)} levels {built} that are built")
        return self


class AddNeckConfig(NeckSwitches):
    """The FPN paper's fusion: 1x1 lateral, upsample, add, 3x3 smoothing; one width on all levels.

    Attributes:
        channels: of every level, the paper's d.
        smooth: one smoothing convolution per level, as in the paper, or one shared by all levels.
    """

    type: Literal["add"]
    channels: Channels = 256
    smooth: Literal["per_level", "shared"] = "per_level"


class TinyNeckConfig(StrictModel):
    """The neck of yolov3-tiny.cfg: 1x1 convolutions, upsampling and concatenation with the backbone's feature map.

    Attributes:
        levels: consecutive ones up to 5.
        channels: of each level's 1x1 convolution, the finest level first, or those of p5; each finer level then has
            half of the channels of the level above.
    """

    type: Literal["tiny"]
    levels: tuple[Level, ...] = (4, 5)
    channels: PositiveInt | tuple[PositiveInt, ...] = 256
    upsample: Literal["nearest", "bilinear"] = "nearest"

    @property
    def top_down(self) -> bool:
        """Always true: each level but p5 uses the next coarser one."""
        return True

    @property
    def lateral(self) -> bool:
        """Always true: each level but p5 uses its feature map of the backbone."""
        return True

    @model_validator(mode="after")
    def _levels_in_order(self) -> TinyNeckConfig:
        if not self.levels or self.levels != tuple(range(self.levels[0], 6)):
            raise ValueError(f"levels {list(self.levels)}: a neck of type tiny builds consecutive levels up to 5")
        if isinstance(self.channels, tuple) and len(self.channels) != len(self.levels):
            raise ValueError(f"{len(self.channels)} channels for the {len(self.levels)} levels {list(self.levels)}")
        return self


class NoNeckConfig(StrictModel):
    """No neck: the backbone's feature maps c<k> are renamed to p<k> (the paper's single maps)."""

    type: Literal["none"]
    levels: tuple[Level, ...]

    @property
    def top_down(self) -> bool:
        """Always false: there is no top-down pathway."""
        return False

    @property
    def lateral(self) -> bool:
        """Always true: each level is its feature map of the backbone."""
        return True

    @model_validator(mode="after")
    def _levels_in_order(self) -> NoNeckConfig:
        built_levels(self.levels, top_down=False, lateral=True)
        return self


NeckConfig = Annotated[ConcatNeckConfig | AddNeckConfig | TinyNeckConfig | NoNeckConfig, Field(discriminator="type")]


class BestAnchorConfig(StrictModel):
    """Best-anchor assignment of YOLOv3; both thresholds (.3 and .7) give the dual thresholds of its section 4."""

    type: Literal["best_anchor"]
    ignore_iou_thresh: UnitFloat = 0.5
    positive_iou_thresh: UnitFloat | None = None


class SimOTAConfig(StrictModel):
    """Dynamic assignment by cost (arXiv 2107.08430)."""

    type: Literal["simota"]
    top_candidates: PositiveInt = 10
    iou_weight: PositiveFloat = 3.0


class YOLOLossConfig(StrictModel):
    """See ``yolo_loss.py``; the YOLOv3 paper is ``best_anchor`` with ``bce``, not IoU-aware, all weights 1."""

    assigner: Annotated[BestAnchorConfig | SimOTAConfig, Field(discriminator="type")] = SimOTAConfig(type="simota")
    box: Literal["squared", "bce", "iou", "giou", "diou", "ciou"] = "ciou"
    iou_aware_classes: bool = True
    focal_gamma: float = Field(default=0.0, ge=0)
    box_weight: PositiveFloat = 5.0
    objectness_weight: PositiveFloat = 1.0
    class_weight: PositiveFloat = 1.0


class YOLOHeadConfig(StrictModel):
    """YOLOv3's head.

    Attributes:
        anchors: one set of (width, height) per level of the neck, the finest level first, in network pixels.
        scale_x_y: above 1, a cell can place a box's centre beyond its own border.
        xy: 'linear' omits the sigmoid of x and y (YOLOv3, section 4).
        classes: 'softmax' for mutually exclusive classes (YOLOv3, section 2.2).
        channels: channels of each level's 3x3 convolution, the finest level first; by default twice the neck's.
        ranks: ranks of these convolutions' kernels, of which one has no more than its channels; null: full rank.
    """

    type: Literal["yolo"]
    needs_proposals: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = False
    anchors: tuple[tuple[AnchorSize, ...], ...]
    scale_x_y: float = Field(default=1.0, ge=1, le=3)
    xy: Literal["logistic", "linear"] = "logistic"
    classes: Literal["sigmoid", "softmax"] = "sigmoid"
    channels: tuple[PositiveInt, ...] | None = None
    ranks: tuple[PositiveInt | None, ...] | None = None
    loss: YOLOLossConfig = YOLOLossConfig()

    @model_validator(mode="after")
    def _ranks_of_kernels(self) -> YOLOHeadConfig:
        for channels, rank in zip(self.channels or (), self.ranks or (), strict=False):
            if rank is not None and rank > channels:
                raise ValueError(f"ranks: a convolution of {channels} channels has no rank of {rank}")
        return self

    def check_levels(self, levels: Sequence[int]) -> None:
        """Check that the anchors match a neck of ``levels``.

        Raises:
            ValueError: if they do not.
        """
        if len(self.anchors) != len(levels):
            raise ValueError(
                f"head.anchors has {len(self.anchors)} sets for the {len(levels)} levels {list(levels)} of the neck"
            )
        for key in ("channels", "ranks"):
            values = getattr(self, key)
            if values is not None and len(values) != len(levels):
                raise ValueError(
                    f"head.{key} has {len(values)} values for the {len(levels)} levels {list(levels)} of the neck"
                )
        if len({len(anchors) for anchors in self.anchors}) > 1:
            raise ValueError("head.anchors: every level needs the same number of anchors")


HeadConfig = Annotated[
    YOLOHeadConfig | RCNNHeadConfig | FastRCNNHeadConfig | RPNHeadConfig, Field(discriminator="type")
]


class ModelConfig(StrictModel):
    """The network. Its number of classes comes from the data.

    Attributes:
        norm_eps: epsilon of batch norm.
        leaky_slope: negative slope of every LeakyReLU.
    """

    backbone: Annotated[BackboneConfig, OneOf(lambda: backbones.BACKBONES)]
    neck: NeckConfig
    head: HeadConfig
    norm_eps: NonNegativeFloat = 1e-5
    leaky_slope: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> ModelConfig:
        self.head.check_levels(self.neck.levels)
        if self.has_conv5_head and (self.neck.type != "none" or self.neck.levels != (4,)):
            raise ValueError(
                "head.roi.type conv5 works on the backbone's own conv4: set neck to {type: none, levels: [4]}"
            )
        return self

    @property
    def has_conv5_head(self) -> bool:
        """Whether the backbone's last stage is the second stage's head, applied to each region."""
        return isinstance(self.head, RCNNHeadConfig | FastRCNNHeadConfig) and self.head.roi.type == "conv5"


class InputConfig(StrictModel):
    """Network input; mean and std refer to values in 0..1, of red, green and blue or of each band.

    Attributes:
        size: (height, width) of the network's input in pixels.
        depth: which value is white in images of more than 8 bits, where these are converted to 8.
        channels: of the images. With another number than 3, or with ``range``, nothing is converted to 8 bits.
        range: the values that become 0 and 1, one pair for all bands or one for each; None: 0 and the largest value of
            an image's integer type, 0 and 1 for floats.
        bands: the numbers, from 1, of the bands that are drawn as red, green and blue; None: the first three, or one.
    """

    size: tuple[InputSide, InputSide] = (416, 416)
    resize: ResizeMode = "letterbox"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, ...] = (1.0, 1.0, 1.0)
    depth: Depth = "auto"
    channels: int = Field(default=3, gt=0, le=MAX_CHANNELS)
    range: Range | tuple[Range, ...] | None = None
    bands: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _one_mean_per_channel(cls, tree: Any, validate: ModelWrapValidatorHandler[InputConfig]) -> InputConfig:  # noqa: ANN401
        """Without mean and std these are 0 and 1, however many channels there are."""
        if not isinstance(tree, dict) or not isinstance(channels := tree.get("channels", 3), int):
            return validate(tree)
        same = {} if channels == 3 else {"mean": [0.0], "std": [1.0]}
        given = {key: tree.get(key, same.get(key)) for key in ("mean", "std")}
        copies = min(max(channels, 1), MAX_CHANNELS)
        spread = {key: list(v) * copies for key, v in given.items() if isinstance(v, list | tuple) and len(v) == 1}
        config = validate({**tree, **spread})
        config.model_fields_set.difference_update(spread.keys() - tree.keys())  # nobody chose these
        return config

    @model_validator(mode="after")
    def _channels_agree(self) -> InputConfig:
        for key in ("mean", "std"):
            if len(getattr(self, key)) != self.channels:
                raise ValueError(f"{key} has {len(getattr(self, key))} values for {self.channels} channels")
        ranges = self._ranges()
        if ranges is not None:
            if len(ranges) not in (1, self.channels):
                raise ValueError(f"range has {len(ranges)} pairs for {self.channels} channels")
            if any(low >= high for low, high in ranges):
                raise ValueError("range: the first value of each pair must be below the second")
        if self.bands is not None and (self.is_plain or max(self.bands) > self.channels):
            raise ValueError(f"bands: {self.bands} are not all among the {self.channels} channels of such images")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether the network takes 8-bit colours."""
        return self.channels == 3 and self.range is None

    @property
    def form(self) -> InputForm:
        """What the network takes."""
        return InputForm(self.channels, is_float=not self.is_plain)

    @property
    def reading(self) -> Depth | Bands:
        """How images are read: the depth of those that become 8-bit colours, or the bands."""
        return self.depth if self.is_plain else Bands(self.channels, self._ranges(), self.bands)

    def _ranges(self) -> tuple[Range, ...] | None:
        if self.range is None:
            return None
        pairs = tuple(pair for pair in self.range if isinstance(pair, tuple))
        return pairs or (cast("Range", self.range),)


class PostprocessConfig(StrictModel):
    """Thresholds of detections; ``score_thresh`` may have one value per class."""

    score_thresh: UnitFloat | tuple[UnitFloat, ...] = 0.25
    nms_thresh: UnitFloat = 0.45
    detections_per_img: PositiveInt = 300
