"""A YOLOv3-style object detector on a Darknet-53 FPN: detect, train, evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolofpn.inference.predictor import Predictor, load_detector
    from yolofpn.structures import Detections, Frame, Target
    from yolofpn.version import __version__

__all__ = ["Detections", "Frame", "Predictor", "Target", "__version__", "load_detector"]

_HOMES = {
    "Detections": "yolofpn.structures",
    "Frame": "yolofpn.structures",
    "Target": "yolofpn.structures",
    "Predictor": "yolofpn.inference.predictor",
    "__version__": "yolofpn.version",
    "load_detector": "yolofpn.inference.predictor",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import on first use: ``import yolofpn`` itself stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'yolofpn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
