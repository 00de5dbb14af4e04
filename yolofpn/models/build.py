"""Builds detectors from configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import nn

from yolofpn.levels import TOP_LEVEL
from yolofpn.models.backbones.base import Backbone
from yolofpn.models.heads.assigner import BestAnchorAssigner, SimOTAAssigner
from yolofpn.models.heads.yolo_head import YOLOHead
from yolofpn.models.heads.yolo_loss import YOLOLoss
from yolofpn.models.input_channels import set_input_channels
from yolofpn.models.layers import Normalize
from yolofpn.models.map_specs import build_map_specs
from yolofpn.models.model_config import (
    AddNeckConfig,
    BestAnchorConfig,
    ConcatNeckConfig,
    InputConfig,
    ModelConfig,
    NoNeckConfig,
    PostprocessConfig,
    SimOTAConfig,
    TinyNeckConfig,
    YOLOHeadConfig,
    YOLOLossConfig,
)
from yolofpn.models.necks.fpn import AddFPN, ConcatFPN, NoNeck
from yolofpn.models.necks.tiny import TinyFPN
from yolofpn.models.postprocess import MapSpec
from yolofpn.models.two_stage.build_two_stage import build_proposal_head, build_region_head, build_two_stage_head
from yolofpn.models.two_stage.conv5_body import Conv5Body
from yolofpn.models.two_stage.fast_rcnn import FastRCNN
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.models.two_stage.proposal_network import ProposalNetwork
from yolofpn.models.two_stage.two_stage_config import FastRCNNHeadConfig, RCNNHeadConfig, RPNHeadConfig
from yolofpn.models.yolo import YOLO
from yolofpn.structures import FeatureInfo, Limits

NativeDetector: TypeAlias = YOLO | FasterRCNN | FastRCNN | ProposalNetwork


def build_model(
    model: ModelConfig, num_classes: int, input: InputConfig, postprocess: PostprocessConfig
) -> NativeDetector:
    """Build the network that ``model`` describes, with newly initialised weights."""
    normalize = Normalize(input.mean, input.std, input.form)
    backbone = build_backbone(model)
    set_input_channels(backbone, input.channels)
    conv5 = Conv5Body(backbone) if model.has_conv5_head else None
    neck = build_neck(model, backbone.feature_info)
    limits = build_limits(postprocess)
    detector: NativeDetector
    match model.head:
        case YOLOHeadConfig() as config:
            anchors, shape = len(config.anchors[0]), (config.channels, config.ranks)
            head = YOLOHead(neck.feature_info, anchors, num_classes, model.norm_eps, *shape)
            specs = build_map_specs(config, model.neck.levels)
            loss = build_yolo_loss(config.loss, specs)
            detector = YOLO(normalize, backbone, neck, head, specs, num_classes, limits, loss)
        case RCNNHeadConfig() as config:
            modules, rules = build_two_stage_head(config, neck.feature_info, num_classes, conv5)
            detector = FasterRCNN(normalize, backbone, neck, modules, rules, num_classes, limits)
        case FastRCNNHeadConfig() as config:
            regions, roi_heads = build_region_head(config, neck.feature_info, num_classes, conv5)
            detector = FastRCNN(normalize, backbone, neck, regions, roi_heads, num_classes, limits)
        case RPNHeadConfig() as config:
            proposing, first = build_proposal_head(config, neck.feature_info)
            detector = ProposalNetwork(normalize, backbone, neck, proposing, first, limits)
    set_leaky_slope(detector, model.leaky_slope)
    return detector


def build_yolo(model: ModelConfig, num_classes: int, input: InputConfig, postprocess: PostprocessConfig) -> YOLO:
    """Build the one-stage network that ``model`` describes.

    Raises:
        ValueError: if ``model`` is two-stage.
    """
    detector = build_model(model, num_classes, input, postprocess)
    if not isinstance(detector, YOLO):
        raise ValueError(f"head.type: a head of type yolo is needed here, not of type {model.head.type}")
    return detector


def set_leaky_slope(network: nn.Module, slope: float) -> None:
    """Set the negative slope of every LeakyReLU, which is 0.1 in Darknet and 0.01 in most other backbones."""
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = slope


def build_backbone(model: ModelConfig) -> Backbone:
    """Build the backbone; without the top-down pathway it ends at the coarsest level that is needed."""
    whole = model.neck.top_down or model.has_conv5_head
    return model.backbone.build(model.norm_eps, TOP_LEVEL if whole else model.neck.levels[-1])


def build_neck(model: ModelConfig, feature_info: Mapping[str, FeatureInfo]) -> ConcatFPN | AddFPN | TinyFPN | NoNeck:
    """Build the neck from {"c2" ... "c5"} to {"p3" ...}."""
    neck = model.neck
    switches = {"top_down": neck.top_down, "lateral": neck.lateral}
    match neck:
        case NoNeckConfig():
            return NoNeck(feature_info, neck.levels)
        case TinyNeckConfig():
            return TinyFPN(feature_info, neck.levels, neck.channels, norm_eps=model.norm_eps, upsample=neck.upsample)
        case ConcatNeckConfig():
            return ConcatFPN(
                feature_info,
                neck.levels,
                neck.channels,
                **switches,
                upsample=neck.upsample,
                norm_eps=model.norm_eps,
                rank=neck.rank,
            )
        case AddNeckConfig():
            return AddFPN(
                feature_info,
                neck.levels,
                neck.channels,
                **switches,
                upsample=neck.upsample,
                shared_smooth=neck.smooth == "shared",
            )


def build_limits(postprocess: PostprocessConfig) -> Limits:
    """Convert the section ``postprocess`` to the detector's ``Limits``."""
    return Limits(postprocess.score_thresh, postprocess.nms_thresh, postprocess.detections_per_img)


def build_yolo_loss(loss: YOLOLossConfig, specs: Mapping[str, MapSpec]) -> YOLOLoss:
    """Build the loss of the one-stage detector."""
    assigner: BestAnchorAssigner | SimOTAAssigner
    match loss.assigner:
        case BestAnchorConfig(ignore_iou_thresh=ignore, positive_iou_thresh=positive):
            assigner = BestAnchorAssigner(ignore, positive)
        case SimOTAConfig(top_candidates=top_candidates, iou_weight=iou_weight):
            assigner = SimOTAAssigner(top_candidates, iou_weight)
    return YOLOLoss(
        specs,
        assigner,
        box=loss.box,
        iou_aware_classes=loss.iou_aware_classes,
        focal_gamma=loss.focal_gamma,
        box_weight=loss.box_weight,
        objectness_weight=loss.objectness_weight,
        class_weight=loss.class_weight,
    )
