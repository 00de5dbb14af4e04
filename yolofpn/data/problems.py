"""What can be wrong with a data set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProblemKind(StrEnum):
    """What can be wrong with a data set."""

    MISSING_IMAGE = "missing image"
    UNREADABLE_IMAGE = "unreadable image"
    MALFORMED = "malformed annotation"
    UNKNOWN_CLASS = "unknown class"
    UNKNOWN_IMAGE = "annotation of an unknown image"
    ZERO_AREA = "zero-area box"
    OUTSIDE = "box outside the image"
    DUPLICATE = "duplicate box"
    SIZE_DIFFERS = "size differs from the annotation"
    NEAR_IDENTICAL = "near-identical images in train and val"
    NO_BOXES = "labels without a box"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what it is.
        file: the image or annotation file that has it.
        reason: where in the file, what was found and what was done about it.
    """

    kind: ProblemKind
    file: str
    reason: str
