"""A YOLOv3-style object detector on a Darknet-53 FPN: detect, train, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolofpn.inference.load_detector import load_detector
    from yolofpn.inference.predictor import Predictor
    from yolofpn.structures import Detections, Frame, Target
    from yolofpn.training.epoch_result import EpochResult
    from yolofpn.training.logger import Logger, RunInfo
    from yolofpn.training.run_plan import TrainOptions
    from yolofpn.training.training_run import TrainingResult, train
    from yolofpn.version import __version__

__all__ = [
    "Detections",
    "EpochResult",
    "Frame",
    "Logger",
    "Predictor",
    "RunInfo",
    "Target",
    "TrainOptions",
    "TrainingResult",
    "__version__",
    "load_detector",
    "train",
]

_HOMES = {
    "Detections": "yolofpn.structures",
    "Frame": "yolofpn.structures",
    "Target": "yolofpn.structures",
    "Predictor": "yolofpn.inference.predictor",
    "__version__": "yolofpn.version",
    "load_detector": "yolofpn.inference.load_detector",
    "EpochResult": "yolofpn.training.epoch_result",
    "Logger": "yolofpn.training.logger",
    "RunInfo": "yolofpn.training.logger",
    "TrainOptions": "yolofpn.training.run_plan",
    "TrainingResult": "yolofpn.training.training_run",
    "train": "yolofpn.training.training_run",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import on first use: ``import yolofpn`` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'yolofpn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
