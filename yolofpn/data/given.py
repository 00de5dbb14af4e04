"""The data set as a command line names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolofpn.config import VocCorners, validate
from yolofpn.config.load import DataSection

GIVEN_KEYS = ("data.root", "data.voc_corners")


@dataclass(frozen=True)
class GivenData:
    """The data set of a command line.

    Attributes:
        source: as ``open_data`` takes it.
        root: the data set's folder, if that is given.
        voc_corners: how VOC's corners are to be read, if that is given.
    """

    source: str
    root: Path | None = None
    voc_corners: VocCorners | None = None


def given_data(source: str, values: dict[str, Any]) -> GivenData:
    """The data set ``source`` with what ``data.KEY=VALUE`` words say of it.

    Raises:
        UserError: if a value is none that the key may have.
    """
    section = validate(DataSection, {"source": source, **values}, "data")
    return GivenData(section.source, None if section.root is None else Path(section.root), section.voc_corners)
