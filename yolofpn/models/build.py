"""From the config to a detector: the only place in ``models`` that knows both."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from yolofpn.config import (
    AddNeckConfig,
    BestAnchorConfig,
    ConcatNeckConfig,
    Darknet19Config,
    Darknet53Config,
    InputConfig,
    ModelConfig,
    PostprocessConfig,
    ScaledDarknetConfig,
    SimOTAConfig,
    YOLOLossConfig,
)
from yolofpn.levels import TOP_LEVEL
from yolofpn.models.assigner import BestAnchorAssigner, SimOTAAssigner
from yolofpn.models.darknet import Darknet, Darknet19, darknet53, scaled_darknet
from yolofpn.models.fpn import AddFPN, ConcatFPN
from yolofpn.models.layers import Normalize
from yolofpn.models.postprocess import MapSpec
from yolofpn.models.yolo import YOLO
from yolofpn.models.yolo_head import YOLOHead
from yolofpn.models.yolo_loss import YOLOLoss
from yolofpn.structures import FeatureInfo, Limits


def build_model(model: ModelConfig, num_classes: int, input: InputConfig, postprocess: PostprocessConfig) -> YOLO:
    """The network of ``model`` with fresh weights."""
    backbone = build_backbone(model)
    neck = build_neck(model, backbone.feature_info)
    head = YOLOHead(neck.feature_info, len(model.head.anchors[0]), num_classes, model.norm_eps)
    specs = {
        name: MapSpec(
            info.stride,
            anchors,
            model.head.scale_x_y,
            linear_xy=model.head.xy == "linear",
            softmax=model.head.classes == "softmax",
        )
        for (name, info), anchors in zip(neck.feature_info.items(), model.head.anchors, strict=True)
    }
    normalize = Normalize(input.mean, input.std)
    loss = build_yolo_loss(model.head.loss, specs)
    yolo = YOLO(normalize, backbone, neck, head, specs, num_classes, build_limits(postprocess), loss)
    set_leaky_slope(yolo, model.leaky_slope)
    return yolo


def set_leaky_slope(network: nn.Module, slope: float) -> None:
    """The slope of every LeakyReLU below zero, which is 0.1 in Darknet and 0.01 in most other backbones."""
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = slope


def build_backbone(model: ModelConfig) -> Darknet | Darknet19:
    """Images -> {"c2" ... "c5"}; without the top-down way it ends at the coarsest level that comes out."""
    top_level = TOP_LEVEL if model.neck.top_down else model.neck.levels[-1]
    match model.backbone:
        case Darknet53Config():
            return darknet53(model.norm_eps, top_level)
        case Darknet19Config():
            return Darknet19(model.norm_eps, top_level)
        case ScaledDarknetConfig(width=width, depth=depth, stem_stride=stem_stride):
            return scaled_darknet(width, depth, model.norm_eps, top_level, stem_stride)


def build_neck(model: ModelConfig, feature_info: Mapping[str, FeatureInfo]) -> ConcatFPN | AddFPN:
    """{"c2" ... "c5"} -> {"p3" ...}."""
    neck = model.neck
    switches = {"top_down": neck.top_down, "lateral": neck.lateral}
    match neck:
        case ConcatNeckConfig():
            return ConcatFPN(
                feature_info,
                neck.levels,
                neck.channels,
                **switches,
                upsample=neck.upsample,
                norm_eps=model.norm_eps,
            )
        case AddNeckConfig():
            return AddFPN(feature_info, neck.levels, neck.channels, **switches, upsample=neck.upsample)


def build_limits(postprocess: PostprocessConfig) -> Limits:
    """The same values, as the detector takes them."""
    return Limits(postprocess.score_thresh, postprocess.nms_thresh, postprocess.detections_per_img)


def build_yolo_loss(loss: YOLOLossConfig, specs: Mapping[str, MapSpec]) -> YOLOLoss:
    """What the one-stage detector learns from."""
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
