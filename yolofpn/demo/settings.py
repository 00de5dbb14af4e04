"""What a user of the page may choose, as it comes from the browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolofpn.errors import InputError

LARGEST_SIDE = 1280  # pixels of the network's input; its memory and time grow with the square
MOST_CLASSES = 2000


@dataclass(frozen=True)
class Settings:
    """One user's choices; None is what the weights say.

    Attributes:
        weights: key of one of the weights on offer.
        img_size: side of the network's input.
        classes: the only ones wanted.
    """

    weights: str = "0"
    img_size: int | None = None
    score_thresh: float | None = None
    nms_thresh: float | None = None
    classes: tuple[str, ...] | None = None


def parse_settings(values: Mapping[str, str]) -> Settings:
    """From texts such as those of an address's query; empty ones and unknown keys are left out.

    Classes are separated by line feeds, since their names may hold anything else.

    Raises:
        InputError: a value is impossible.
    """
    given = {key: value.strip() for key, value in values.items() if value.strip()}
    classes = given.get("classes", "").splitlines()
    if len(classes) > MOST_CLASSES:
        raise InputError(f"{len(classes)} classes are more than the {MOST_CLASSES} that can be asked for")
    return Settings(
        weights=given.get("weights", "0"),
        img_size=_size(given["size"]) if "size" in given else None,
        score_thresh=_unit(given["score"], "score threshold") if "score" in given else None,
        nms_thresh=_unit(given["nms"], "NMS threshold") if "nms" in given else None,
        classes=tuple(classes) or None,
    )


def _size(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= LARGEST_SIDE):
        raise InputError(f"image size {text[:20]!r} is no number of pixels from 1 to {LARGEST_SIDE}")
    return int(text)


def _unit(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{name} {text[:20]!r} is no number from 0 to 1")
    return value
