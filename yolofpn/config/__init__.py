"""The YAML files: typed, frozen, complete, and refused with the place and the remedy when something is wrong."""

from typing import TYPE_CHECKING, Any

from yolofpn.config.metadata import DarknetHeader, Metadata
from yolofpn.config.validation import read_yaml, validate
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

if TYPE_CHECKING:
    from yolofpn.config.config_file import Config, dump_config, load_config
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

_OF_FILES = ("Config", "dump_config", "load_config")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what belongs to training on first use: weights and graphs are read without it."""
    if name not in __all__:
        raise AttributeError(f"module 'yolofpn.config' has no attribute {name!r}")
    from yolofpn.config import config_file, train_config

    return getattr(config_file if name in _OF_FILES else train_config, name)
