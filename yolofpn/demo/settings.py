"""Settings sent by the browser, which are validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolofpn.demo.limits import SettingLimits
from yolofpn.errors import InputError
from yolofpn.reading import ParseError, parse_json


@dataclass(frozen=True)
class Settings:
    """The settings of a user; None: the value stored in the weights.

    Attributes:
        weights: key of one of the weights on offer.
        img_size: side of the network's input.
        classes: the only ones wanted.
        track: whether objects are tracked through videos and live views.
    """

    weights: str = "0"
    img_size: int | None = None
    score_thresh: float | None = None
    nms_thresh: float | None = None
    classes: tuple[str, ...] | None = None
    track: bool = False


def parse_settings(values: Mapping[str, object], limits: SettingLimits | None = None) -> Settings:
    """Parse settings from a query string or message; empty and unknown values are ignored.

    Classes are separated by line feeds, since their names may hold anything else.

    Args:
        values: texts, or the numbers of a message.
        limits: of what may be chosen.

    Raises:
        InputError: if a value is impossible.
    """
    limits = limits or SettingLimits()
    given = {
        key: _text(values.get(key), limits.text) for key in ("weights", "size", "score", "nms", "classes", "track")
    }
    classes = given["classes"].splitlines()
    if len(classes) > limits.classes:
        raise InputError(f"{len(classes)} classes are more than the {limits.classes} that can be asked for")
    if any(len(name) > limits.class_name for name in classes):
        raise InputError(f"a class name is longer than {limits.class_name} characters")
    return Settings(
        weights=given["weights"] or "0",
        img_size=_size(given["size"], limits.img_size) if given["size"] else None,
        score_thresh=_unit(given["score"], "score threshold", limits.score_thresh) if given["score"] else None,
        nms_thresh=_unit(given["nms"], "NMS threshold") if given["nms"] else None,
        classes=tuple(classes) or None,
        track=given["track"] == "1",
    )


def read_settings(text: str, limits: SettingLimits | None = None) -> Settings:
    """Parse settings from a message, a JSON object.

    Raises:
        InputError: if it is none, longer than settings can be, or a value is impossible.
    """
    limits = limits or SettingLimits()
    try:
        values = parse_json(text) if len(text) <= limits.text else None
    except ParseError:
        values = None
    if not isinstance(values, dict):
        raise InputError("these settings cannot be read: reload the page")
    return parse_settings(values, limits)


def _text(value: object, most: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > most):
        raise InputError("these settings cannot be read: reload the page")
    return str(value).strip()


def _size(text: str, largest: int) -> int:
    # No number of so few digits is large, and the one that is checked is the one that is used.
    size = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(largest)) else 0
    if not 1 <= size <= largest:
        raise InputError(f"image size {text[:20]!r} is not a number of pixels from 1 to {largest}")
    return size


def _unit(text: str, name: str, least: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= 1:
        raise InputError(f"{name} {text[:20]!r} is not a number from {least:g} to 1")
    return value
