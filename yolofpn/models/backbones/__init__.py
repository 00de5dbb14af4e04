"""Backbones: feature maps of an image. One file each, and one line here (docs/extending.md).

Those of the package have their section in a file of its own, so that the metadata of an exported graph is read without
PyTorch.
"""

from yolofpn.models.backbones.darknet_config import Darknet19Config, Darknet53Config, ScaledDarknetConfig
from yolofpn.models.backbones.efficientnet_lite_config import EfficientNetLiteConfig
from yolofpn.models.backbones.resnet_config import ResNetConfig
from yolofpn.models.backbones.section import BackboneConfig
from yolofpn.models.backbones.strided_config import StridedConfig
from yolofpn.models.backbones.yolov3_tiny_config import TinyDarknetConfig

BACKBONES: tuple[type[BackboneConfig], ...] = (
    Darknet53Config,
    Darknet19Config,
    ScaledDarknetConfig,
    TinyDarknetConfig,
    ResNetConfig,
    EfficientNetLiteConfig,
    StridedConfig,
)
