"""The section that describes the head of a two-stage detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from yolofpn.fields import (
    Channels,
    ClassCount,
    PooledSide,
    PositiveFloat,
    PositiveInt,
    StrictModel,
    UnitFloat,
)


class AnchorGridConfig(StrictModel):
    """Anchors of the RPN: all combinations of sizes and ratios.

    Attributes:
        sizes: square roots of the areas in pixels: one list per level of the neck, and one more if the RPN
            uses an additional coarser level (p6, with half of the rows and columns of p5).
        ratios: of height to width.
    """

    sizes: tuple[tuple[PositiveFloat, ...], ...]
    ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0)

    @model_validator(mode="after")
    def _as_many_on_every_level(self) -> AnchorGridConfig:
        if not self.ratios or not self.sizes or len({len(level) for level in self.sizes}) > 1 or not self.sizes[0]:
            raise ValueError("sizes needs equally many for every level, and there must be at least one ratio")
        return self


class RPNConfig(StrictModel):
    """The proposal network (arXiv 1506.01497, section 3.1).

    Attributes:
        positive_iou_thresh: anchors that overlap a box by as much learn it, and so does the best anchor of each box.
        negative_iou_thresh: anchors that overlap every box by less are background.
        batch_size_per_img: sampled anchors per image.
        positive_fraction: maximum fraction of positives among them.
        pre_nms_top_n: best anchors of each level kept before NMS, in training and in evaluation.
        post_nms_top_n: maximum proposals per image after NMS, in training and in evaluation.
        nms_thresh: IoU above which the lower-scoring of two proposals of one level is dropped.
    """

    positive_iou_thresh: UnitFloat = 0.7
    negative_iou_thresh: UnitFloat = 0.3
    batch_size_per_img: PositiveInt = 256
    positive_fraction: UnitFloat = 0.5
    pre_nms_top_n: tuple[PositiveInt, PositiveInt] = (2000, 1000)
    post_nms_top_n: tuple[PositiveInt, PositiveInt] = (2000, 1000)
    nms_thresh: UnitFloat = 0.7

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> RPNConfig:
        if self.negative_iou_thresh > self.positive_iou_thresh:
            raise ValueError("negative_iou_thresh is above positive_iou_thresh")
        return self


class RoIHeadsConfig(StrictModel):
    """The second stage (arXiv 1504.08083, section 2; arXiv 1612.03144, section 4.2).

    Attributes:
        type: what each pooled map goes through: two fully connected layers, or the backbone's last stage and a global
            average, as in ResNet's own detectors (arXiv 1512.03385, appendix A).
        iou_thresh: proposals that overlap a box by as much learn it, the others are background.
        batch_size_per_img: sampled proposals per image.
        positive_fraction: maximum fraction of positives among them.
        pool: RoIAlign, or RoI max pooling as in Fast R-CNN.
        size: height and width of a pooled map, of which conv5 leaves half.
        sampling_ratio: samples per bin and direction; 0: as many as the box has cells there.
        aligned: whether RoIAlign shifts coordinates by half a cell, as in torchvision.
        width: of the two fully connected layers; conv5 has none.
        unused_outputs: of the class layer, behind those of the background and the classes: they take their share of the
            probability and are nothing else. Weights that were made for more classes than their data has need them.
    """

    type: Literal["mlp", "conv5"] = "mlp"
    iou_thresh: UnitFloat = 0.5
    batch_size_per_img: PositiveInt = 512
    positive_fraction: UnitFloat = 0.25
    pool: Literal["align", "max"] = "align"
    size: PooledSide = 7
    sampling_ratio: int = Field(default=2, ge=0, le=64)
    aligned: bool = False
    width: Channels = 1024
    unused_outputs: ClassCount = 0

    @model_validator(mode="after")
    def _keys_of_its_type(self) -> RoIHeadsConfig:
        if self.type == "conv5" and self.width != RoIHeadsConfig.model_fields["width"].default:
            raise ValueError("width is of fully connected layers, which type conv5 has none of: take it out")
        return self


class RCNNHeadConfig(StrictModel):
    """Faster R-CNN's two stages.

    Attributes:
        channels: of the maps that both stages see; a neck of other widths gets a 1x1 convolution per level. With
            ``roi.type: conv5`` both see the backbone's own map, and these are the proposal network's hidden channels.
    """

    type: Literal["rcnn"]
    needs_proposals: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = False
    channels: Channels = 256
    anchors: AnchorGridConfig
    rpn: RPNConfig = RPNConfig()
    roi: RoIHeadsConfig = RoIHeadsConfig()

    def check_levels(self, levels: Sequence[int]) -> None:
        """Check that the anchors match a neck of ``levels``.

        Raises:
            ValueError: if they do not.
        """
        check_consecutive(self.type, levels)
        check_anchor_levels(self.anchors, levels)


class RPNHeadConfig(StrictModel):
    """Faster R-CNN's first stage alone: its proposals are its detections, all of one class.

    Attributes:
        channels: between its convolutions; levels of several widths are brought to it by a 1x1 convolution each.
    """

    type: Literal["rpn"]
    needs_proposals: ClassVar[bool] = False
    class_agnostic: ClassVar[bool] = True
    channels: Channels = 256
    anchors: AnchorGridConfig
    rpn: RPNConfig = RPNConfig()

    def check_levels(self, levels: Sequence[int]) -> None:
        """Check that the anchors match a neck of ``levels``.

        Raises:
            ValueError: if they do not.
        """
        check_consecutive(self.type, levels)
        check_anchor_levels(self.anchors, levels)


class FastRCNNHeadConfig(StrictModel):
    """Faster R-CNN's second stage alone, on proposals from a file.

    Attributes:
        channels: of the maps that it sees; as with ``RCNNHeadConfig``.
    """

    type: Literal["fast_rcnn"]
    needs_proposals: ClassVar[bool] = True
    class_agnostic: ClassVar[bool] = False
    channels: Channels = 256
    roi: RoIHeadsConfig = RoIHeadsConfig()

    def check_levels(self, levels: Sequence[int]) -> None:
        """Check that regions can be assigned to ``levels``.

        Raises:
            ValueError: if they cannot.
        """
        check_consecutive(self.type, levels)


def check_consecutive(head: str, levels: Sequence[int]) -> None:
    """See that no level is omitted between two others.

    Raises:
        ValueError: if one is.
    """
    if list(levels) != list(range(levels[0], levels[-1] + 1)):
        raise ValueError(f"neck.levels {list(levels)}: a head of type {head} needs consecutive levels")


def check_anchor_levels(anchors: AnchorGridConfig, levels: Sequence[int]) -> None:
    """Check that every level of the neck has anchors.

    Raises:
        ValueError: if it does not.
    """
    sets = len(anchors.sizes)
    if sets not in (len(levels), len(levels) + 1):
        raise ValueError(
            f"head.anchors.sizes has {sets} lists: give one for each of the neck's {len(levels)} levels "
            f"{list(levels)}, and one more for the level above if there shall be one"
        )
