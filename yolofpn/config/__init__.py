"""The YAML files: typed, frozen, complete, and refused with the place and the remedy when something is wrong."""

from yolofpn.config.load_config import Config, dump_config, load_config, read_yaml, validate
from yolofpn.config.metadata import DarknetHeader, Metadata
from yolofpn.config.train_config import (
    AdamWConfig,
    AugmentConfig,
    CosineConfig,
    MultiScaleConfig,
    OptimizerConfig,
    Range,
    ScheduleConfig,
    SGDConfig,
    StepConfig,
    TrainConfig,
)
from yolofpn.fields import Depth, StrictModel, VocCorners
from yolofpn.models.backbones.section import BackboneConfig
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
from yolofpn.models.two_stage.two_stage_config import (
    FastRCNNHeadConfig,
    RCNNHeadConfig,
    RoIHeadsConfig,
    RPNConfig,
    RPNHeadConfig,
)
from yolofpn.types import ResizeMode

__all__ = [
    "AdamWConfig",
    "AddNeckConfig",
    "AugmentConfig",
    "BackboneConfig",
    "BestAnchorConfig",
    "ConcatNeckConfig",
    "Config",
    "CosineConfig",
    "DarknetHeader",
    "Depth",
    "FastRCNNHeadConfig",
    "InputConfig",
    "Metadata",
    "ModelConfig",
    "MultiScaleConfig",
    "NoNeckConfig",
    "OptimizerConfig",
    "PostprocessConfig",
    "RCNNHeadConfig",
    "RPNConfig",
    "RPNHeadConfig",
    "Range",
    "ResizeMode",
    "RoIHeadsConfig",
    "SGDConfig",
    "ScheduleConfig",
    "SimOTAConfig",
    "StepConfig",
    "StrictModel",
    "TinyNeckConfig",
    "TrainConfig",
    "VocCorners",
    "YOLOHeadConfig",
    "YOLOLossConfig",
    "dump_config",
    "load_config",
    "read_yaml",
    "validate",
]
