"""Machine learning backend of Label Studio: the detections of each task as a prediction to correct.

pip install "git+https://github.com/HumanSignal/label-studio-ml-backend"
label-studio-ml create backend && cp examples/label_studio_backend.py backend/model.py
YOLOFPN_WEIGHTS=runs/train/yolofpn-lite-1 label-studio-ml start backend
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

from yolofpn import load_detector
from yolofpn.data.images import image_size
from yolofpn.sinks.label_studio import prediction

WEIGHTS = os.environ.get("YOLOFPN_WEIGHTS", "auto")
detector = load_detector(WEIGHTS)


class Backend(LabelStudioMLBase):
    """Predicts with the weights of ``YOLOFPN_WEIGHTS``; the labelling interface is that of ``label_config.xml``."""

    def predict(self, tasks: list[dict[str, Any]], *_: object, **__: object) -> list[dict[str, Any]]:
        """A prediction for each task."""
        return [self._predict(task["data"]["image"]) for task in tasks]

    def _predict(self, url: str) -> dict[str, Any]:
        path = Path(self.get_local_path(url))
        return prediction(detector(path), image_size(path), Path(WEIGHTS).name)
