"""Builds the heads of two-stage detectors from configs."""

from __future__ import annotations

from collections.abc import Mapping

from yolofpn.models.two_stage.anchor_generator import AnchorGenerator
from yolofpn.models.two_stage.box_head import BoxHead, TwoFCBody
from yolofpn.models.two_stage.conv5_body import Conv5Body
from yolofpn.models.two_stage.delta_coder import DeltaCoder
from yolofpn.models.two_stage.fast_rcnn import RegionHead
from yolofpn.models.two_stage.faster_rcnn import Projection, TwoStageHead, TwoStageRules
from yolofpn.models.two_stage.first_stage import FirstStage
from yolofpn.models.two_stage.matcher import BalancedSampler, Matcher
from yolofpn.models.two_stage.proposal_network import ProposalHead
from yolofpn.models.two_stage.roi_heads import RoIHeads
from yolofpn.models.two_stage.roi_pooler import RoIPooler
from yolofpn.models.two_stage.rpn import ProposalLimits, ProposalSelector, RPNHead, RPNLoss
from yolofpn.models.two_stage.two_stage_config import (
    FastRCNNHeadConfig,
    RCNNHeadConfig,
    RoIHeadsConfig,
    RPNConfig,
    RPNHeadConfig,
)
from yolofpn.structures import FeatureInfo

SECOND_STAGE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of its deltas: they are normalised to a variance of about 1


def build_two_stage_head(
    head: RCNNHeadConfig, feature_info: Mapping[str, FeatureInfo], num_classes: int, conv5: Conv5Body | None = None
) -> tuple[TwoStageHead, TwoStageRules]:
    """Build the modules and the parameter-free operations of a two-stage head.

    Args:
        head: its description.
        feature_info: channels and stride of each level of the neck.
        num_classes: C.
        conv5: the backbone's last stage, if it is used as the second stage.
    """
    anchors = AnchorGenerator(head.anchors.sizes, head.anchors.ratios)
    project, box = _build_box_head(head.channels, head.roi, feature_info, num_classes, conv5)
    channels = next(iter(project.feature_info.values())).channels
    modules = TwoStageHead(project, RPNHead(channels, head.channels, anchors.num_anchors), box)
    roi_heads = build_roi_heads(head.roi, project.feature_info, num_classes)
    return modules, TwoStageRules(build_first_stage(anchors, head.rpn), roi_heads)


def build_proposal_head(
    head: RPNHeadConfig, feature_info: Mapping[str, FeatureInfo]
) -> tuple[ProposalHead, FirstStage]:
    """Build the first stage only."""
    anchors = AnchorGenerator(head.anchors.sizes, head.anchors.ratios)
    widths = {info.channels for info in feature_info.values()}
    channels = widths.pop() if len(widths) == 1 else head.channels
    modules = ProposalHead(Projection(feature_info, channels), RPNHead(channels, head.channels, anchors.num_anchors))
    return modules, build_first_stage(anchors, head.rpn)


def build_region_head(
    head: FastRCNNHeadConfig, feature_info: Mapping[str, FeatureInfo], num_classes: int, conv5: Conv5Body | None = None
) -> tuple[RegionHead, RoIHeads]:
    """Build the second stage only; see ``build_two_stage_head``."""
    project, box = _build_box_head(head.channels, head.roi, feature_info, num_classes, conv5)
    return RegionHead(project, box), build_roi_heads(head.roi, project.feature_info, num_classes)


def build_first_stage(anchors: AnchorGenerator, rpn: RPNConfig) -> FirstStage:
    """Build the parameter-free operations of the RPN."""
    coder = DeltaCoder()
    train_limits, test_limits = _limits(rpn)
    return FirstStage(anchors, ProposalSelector(coder), build_rpn_loss(rpn, coder), train_limits, test_limits)


def build_rpn_loss(rpn: RPNConfig, coder: DeltaCoder) -> RPNLoss:
    """Build the loss of the RPN."""
    matcher = Matcher(rpn.positive_iou_thresh, rpn.negative_iou_thresh, keep_best=True)
    return RPNLoss(matcher, BalancedSampler(rpn.batch_size_per_img, rpn.positive_fraction), coder)


def build_roi_heads(roi: RoIHeadsConfig, feature_info: Mapping[str, FeatureInfo], num_classes: int) -> RoIHeads:
    """Build the parameter-free operations of the second stage."""
    pooler = RoIPooler(feature_info, roi.size, kind=roi.pool, sampling_ratio=roi.sampling_ratio, aligned=roi.aligned)
    matcher = Matcher(roi.iou_thresh, roi.iou_thresh)
    sampler = BalancedSampler(roi.batch_size_per_img, roi.positive_fraction)
    return RoIHeads(pooler, matcher, sampler, DeltaCoder(SECOND_STAGE_WEIGHTS), num_classes)


def _build_box_head(
    channels: int,
    roi: RoIHeadsConfig,
    feature_info: Mapping[str, FeatureInfo],
    num_classes: int,
    conv5: Conv5Body | None,
) -> tuple[Projection, BoxHead]:
    if conv5 is not None:
        channels = feature_info["p4"].channels
    body = conv5 or TwoFCBody(channels, roi.size, roi.width)
    outputs = 1 + num_classes + roi.unused_outputs
    return Projection(feature_info, channels), BoxHead(body, body.out_features, outputs)


def _limits(rpn: RPNConfig) -> tuple[ProposalLimits, ProposalLimits]:
    train, test = (
        ProposalLimits(pre, post, rpn.nms_thresh)
        for pre, post in zip(rpn.pre_nms_top_n, rpn.post_nms_top_n, strict=True)
    )
    return train, test
