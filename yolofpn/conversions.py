"""Detections in the forms of other libraries and formats; libraries are imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yolofpn.errors import UserError

if TYPE_CHECKING:
    import pandas
    import supervision
    import torch
    from torch import Tensor


class Found(Protocol):
    """The parts of ``Detections`` that are converted."""

    @property
    def boxes(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def scores(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def labels(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def category_ids(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def track_ids(self) -> NDArray[np.int64] | None: ...  # noqa: D102

    def name_of(self, label: int) -> str: ...  # noqa: D102


def to_tensors(found: Found, device: torch.device | str) -> dict[str, Tensor]:
    """See ``Detections.torch``."""
    from torch import empty, from_numpy

    try:
        empty(0, device=device)
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch is built without CUDA
        raise UserError(f"device {str(device)!r} is not available on this machine: use cpu") from None
    return {name: from_numpy(getattr(found, name).copy()).to(device) for name in ("boxes", "scores", "labels")}


def to_coco(found: Found, image_id: int) -> list[dict[str, Any]]:
    """See ``Detections.to_coco``."""
    corners = found.boxes.astype(np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": found.category_ids[label] if found.category_ids else label,
            "bbox": box,
            "score": score,
        }
        for box, score, label in zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]
    if found.track_ids is not None:
        for result, track in zip(results, found.track_ids.tolist(), strict=True):
            result["track_id"] = track if track >= 0 else None
    return results


def to_pandas(found: Found) -> pandas.DataFrame:
    """See ``Detections.to_pandas``."""
    try:
        import pandas
    except ModuleNotFoundError:
        raise UserError("to_pandas needs pandas: pip install pandas") from None

    table = pandas.DataFrame(found.boxes, columns=["x1", "y1", "x2", "y2"])
    table["score"] = found.scores
    table["label"] = found.labels
    table["name"] = [found.name_of(label) for label in found.labels.tolist()]
    if found.track_ids is not None:
        table["track_id"] = found.track_ids
    return table


def to_supervision(found: Found) -> supervision.Detections:
    """See ``Detections.to_supervision``."""
    try:
        import supervision
    except ModuleNotFoundError:
        raise UserError("to_supervision needs supervision: pip install supervision") from None

    return supervision.Detections(
        xyxy=found.boxes,
        confidence=found.scores,
        class_id=found.labels,
        tracker_id=found.track_ids,
        data={"class_name": np.array([found.name_of(label) for label in found.labels.tolist()], dtype=str)},
    )
