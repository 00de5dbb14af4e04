"""The data set given on a command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolofpn.config import VocCorners, validate
from yolofpn.config.config_file import DataSection

GIVEN_KEYS = ("data.root", "data.voc_corners")


@dataclass(frozen=True)
class GivenData:
    """A data set with its overrides.

    Attributes:
        source: as ``open_data`` takes it.
        root: overrides the root folder.
        voc_corners: convention of VOC's corners.
    """

    source: str
    root: Path | None = None
    voc_corners: VocCorners | None = None


def given_data(source: str, values: dict[str, Any]) -> GivenData:
    """Return the data set ``source`` with ``data.KEY=VALUE`` overrides.

    Raises:
        UserError: if a value is none that the key may have.
    """
    section = validate(DataSection, {"source": source, **values}, "data")
    return GivenData(section.source, None if section.root is None else Path(section.root), section.voc_corners)
