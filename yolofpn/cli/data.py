"""The data set on a command line: shared by evaluate, check, show and anchors."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolofpn.cli.arguments import Parser
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from yolofpn.config import VocCorners

KEYS = ("data.root", "data.voc_corners")


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


def add_data_flags(parser: Parser) -> None:
    """The data set, and where it lies if not where its YAML says."""
    parser.add_argument("--data", help="data set: a data YAML, or a folder as labelling tools export it")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="DATA|data.root=DIR|data.voc_corners=TOOL",
        help="the data set without --data; its folder, instead of the one that its YAML names; who wrote its VOC XML, "
        "where that cannot be seen: devkit, cvat, labelimg, labelstudio or roboflow",
    )


def take_data(arguments: Namespace) -> GivenData:
    """What ``add_data_flags`` added, taken out of ``arguments``.

    Raises:
        UserError: no data set is named, or more than one, or something else is overridden.
    """
    named = [arguments.data] if arguments.data is not None else []
    values: dict[str, Any] = {}
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if equals and key in KEYS:
            values[key.removeprefix("data.")] = value
        elif equals and not Path(word).exists():
            raise UserError(f"{word}: only {KEYS[0]}=DIR and {KEYS[1]}=TOOL can be given here")
        else:
            named.append(word)
    del arguments.data, arguments.words
    if len(named) > 1:
        raise UserError(f"one data set at a time: got {' and '.join(named)}")
    if not named:
        raise UserError("no data set: name one with --data, such as --data cfg/data/coco.yaml, or a folder")
    return given_data(named[0], values)


def given_data(source: str, values: dict[str, Any]) -> GivenData:
    """The data set ``source`` with what ``data.KEY=VALUE`` words say of it.

    Raises:
        UserError: a value is none that the key may have.
    """
    from yolofpn.config.load import DataSection, validate

    section = validate(DataSection, {"source": source, **values}, "data")
    return GivenData(section.source, None if section.root is None else Path(section.root), section.voc_corners)
