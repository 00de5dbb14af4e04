"""Detections as plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolofpn.structures import Detections, Frame


def record(frame: Frame, detections: Detections) -> dict[str, Any]:
    """Convert the result of an image or frame to its JSON record.

    Boxes are rounded to 0.01 pixels, scores to 0.0001, times to a microsecond. Live frames also tell when they were
    captured, whether they repeat an older image, and how many were skipped before them. Tracked ones have a
    ``track_id``, null where the object has none (yet), and counts at ``lines`` and in ``zones``.
    """
    height, width = frame.size
    line: dict[str, Any] = {
        "source": frame.source,
        "frame": frame.index,
        "time": round(frame.time, 6),
        "width": width,
        "height": height,
    }
    if frame.clock is not None:
        line |= {"clock": utc_text(frame.clock), "stale": frame.stale, "dropped": frame.dropped}
    if detections.tracks is not None:
        line |= detections.tracks.to_json()
    found: list[dict[str, Any]] = [
        {"box": [round(side, 2) for side in box], "score": round(score, 4), "label": label, "name": name}
        for box, score, label, name in rows(detections)
    ]
    if detections.track_ids is not None:
        for each, track in zip(found, detections.track_ids.tolist(), strict=True):
            each["track_id"] = track if track >= 0 else None
    line["detections"] = found
    return line


def rows(detections: Detections) -> list[tuple[list[float], float, int, str]]:
    """Box, score, label and class name of each detection as plain values."""
    labels = detections.labels.tolist()
    names = [detections.name_of(label) for label in labels]
    return list(zip(detections.boxes.tolist(), detections.scores.tolist(), labels, names, strict=True))


def utc_text(clock: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, such as ``2025-01-31T12:00:00.250Z``; a naive time is taken as UTC."""
    aware = clock.replace(tzinfo=UTC) if clock.tzinfo is None else clock.astimezone(UTC)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")
