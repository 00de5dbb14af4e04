"""From the config to the second kind of head: proposals and regions instead of one look."""

from __future__ import annotations

from collections.abc import Mapping

from yolofpn.config import RCNNHeadConfig, RoIHeadsConfig, RPNConfig
from yolofpn.models.anchor_generator import AnchorGenerator
from yolofpn.models.box_head import BoxHead, TwoFCBody
from yolofpn.models.conv5_body import Conv5Body
from yolofpn.models.delta_coder import DeltaCoder
from yolofpn.models.faster_rcnn import Projection, TwoStageHead, TwoStageRules
from yolofpn.models.matcher import BalancedSampler, Matcher
from yolofpn.models.roi_heads import RoIHeads
from yolofpn.models.roi_pooler import RoIPooler
from yolofpn.models.rpn import ProposalLimits, ProposalSelector, RPNHead, RPNLoss
from yolofpn.structures import FeatureInfo

SECOND_STAGE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of its deltas: they are normalised to a variance of about 1


def build_two_stage_head(
    head: RCNNHeadConfig, feature_info: Mapping[str, FeatureInfo], num_classes: int, conv5: Conv5Body | None = None
) -> tuple[TwoStageHead, TwoStageRules]:
    """The parts with weights and those without, on a neck of ``feature_info``.

    Args:
        head: its description.
        feature_info: of the neck.
        num_classes: C.
        conv5: the backbone's last stage, where it is the second stage's.
    """
    anchors = AnchorGenerator(head.anchors.sizes, head.anchors.ratios)
    channels = head.channels if conv5 is None else feature_info["p4"].channels
    project = Projection(feature_info, channels)
    body = conv5 or TwoFCBody(channels, head.roi.size, head.roi.width)
    outputs = 1 + num_classes + head.roi.unused_outputs
    rpn = RPNHead(channels, head.channels, anchors.num_anchors)
    modules = TwoStageHead(project, rpn, BoxHead(body, body.out_features, outputs))
    coder = DeltaCoder()
    train_limits, test_limits = _limits(head.rpn)
    rules = TwoStageRules(
        anchors=anchors,
        select=ProposalSelector(coder),
        rpn_loss=build_rpn_loss(head.rpn, coder),
        roi_heads=build_roi_heads(head.roi, project.feature_info, num_classes),
        train_limits=train_limits,
        test_limits=test_limits,
    )
    return modules, rules


def build_rpn_loss(rpn: RPNConfig, coder: DeltaCoder) -> RPNLoss:
    """What the proposal network learns from."""
    matcher = Matcher(rpn.positive_iou_thresh, rpn.negative_iou_thresh, keep_best=True)
    return RPNLoss(matcher, BalancedSampler(rpn.batch_size_per_img, rpn.positive_fraction), coder)


def build_roi_heads(roi: RoIHeadsConfig, feature_info: Mapping[str, FeatureInfo], num_classes: int) -> RoIHeads:
    """What the second stage does without weights of its own."""
    pooler = RoIPooler(feature_info, roi.size, kind=roi.pool, sampling_ratio=roi.sampling_ratio, aligned=roi.aligned)
    matcher = Matcher(roi.iou_thresh, roi.iou_thresh)
    sampler = BalancedSampler(roi.batch_size_per_img, roi.positive_fraction)
    return RoIHeads(pooler, matcher, sampler, DeltaCoder(SECOND_STAGE_WEIGHTS), num_classes)


def _limits(rpn: RPNConfig) -> tuple[ProposalLimits, ProposalLimits]:
    train, test = (
        ProposalLimits(pre, post, rpn.nms_thresh)
        for pre, post in zip(rpn.pre_nms_top_n, rpn.post_nms_top_n, strict=True)
    )
    return train, test
