"""Backbones: feature maps of an image. One file each, and one line here (docs/extending.md)."""

from yolofpn.models.backbones.base import BackboneConfig
from yolofpn.models.backbones.darknet import Darknet19Config, Darknet53Config, ScaledDarknetConfig
from yolofpn.models.backbones.efficientnet_lite import EfficientNetLiteConfig
from yolofpn.models.backbones.resnet import ResNetConfig
from yolofpn.models.backbones.strided import StridedConfig
from yolofpn.models.backbones.yolov3_tiny import TinyDarknetConfig

BACKBONES: tuple[type[BackboneConfig], ...] = (
    Darknet53Config,
    Darknet19Config,
    ScaledDarknetConfig,
    TinyDarknetConfig,
    ResNetConfig,
    EfficientNetLiteConfig,
    StridedConfig,
)
