"""Responses for an image: the annotated image as JPEG, and its detections as JSON."""

from __future__ import annotations

import base64
import json
import struct
import time
from dataclasses import replace
from typing import Any

import cv2

from yolofpn.inference.predictor import Predictor
from yolofpn.sinks.records import record
from yolofpn.structures import Detections, Frame, Image, Limits

FAULT = "something went wrong here; the server's log says what"  # of what is no user's mistake
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]


def detect(predictor: Predictor, image: Image, limits: Limits | None = None) -> tuple[Detections, float]:
    """Detect in an image; return detections and seconds. Call it when it is the client's turn."""
    start = time.perf_counter()
    found = predictor.predict([image], limits)[0]
    return found, time.perf_counter() - start


def describe(frame: Frame, found: Detections, seconds: float) -> dict[str, Any]:
    """The line that ``detections.jsonl`` would hold, with the network's time in milliseconds.

    Args:
        frame: what was looked at.
        found: in it.
        seconds: that the detector took, without waiting for its turn.
    """
    return {**record(frame, found), "milliseconds": round(seconds * 1000, 1)}


def drawn_jpeg(image: Image, found: Detections, most_side: int) -> bytes:
    """The image with its boxes, shrunk to ``most_side`` pixels first, so that lines and letters keep their size."""
    height, width = image.shape[:2]
    scale = min(1.0, most_side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(image.dtype, copy=False)
        found = replace(found, boxes=found.boxes * scale, tracks=found.tracks and found.tracks.scaled(scale))
    _, data = cv2.imencode(".jpg", found.draw(image), _JPEG)
    return data.tobytes()


def pack(head: dict[str, Any], jpeg: bytes = b"") -> bytes:
    """Pack a message: length of the JSON text (4 bytes, big-endian), the text, the image."""
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + jpeg


def as_data_url(jpeg: bytes) -> str:
    """An image that fits into JSON."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
