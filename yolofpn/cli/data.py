"""Data set arguments, shared by evaluate, check, show and anchors."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolofpn.cli.arguments import Parser
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from yolofpn.data.given import GivenData


def add_data_flags(parser: Parser) -> None:
    """Add ``--data`` and the positional data set arguments to ``parser``."""
    parser.add_argument("--data", help="data set: a data YAML, or an exported folder")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="DATA|data.root=DIR|data.voc_corners=TOOL",
        help="data set (same as --data); data.root=DIR overrides the root folder of its YAML; data.voc_corners=TOOL "
        "names the tool that wrote its VOC XML: devkit, cvat, labelimg, labelstudio or roboflow",
    )


def take_data(arguments: Namespace) -> GivenData:
    """Remove what ``add_data_flags`` added from ``arguments`` and return it.

    Raises:
        UserError: if no data set or more than one is given, or another key is overridden.
    """
    from yolofpn.data.given import GIVEN_KEYS, given_data

    named = [arguments.data] if arguments.data is not None else []
    values: dict[str, Any] = {}
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if equals and key in GIVEN_KEYS:
            values[key.removeprefix("data.")] = value
        elif equals and not Path(word).exists():
            raise UserError(f"{word}: only {GIVEN_KEYS[0]}=DIR and {GIVEN_KEYS[1]}=TOOL can be given here")
        else:
            named.append(word)
    del arguments.data, arguments.words
    if len(named) > 1:
        raise UserError(f"only one data set is possible: got {' and '.join(named)}")
    if not named:
        raise UserError("no data set: give one with --data, such as --data cfg/data/coco.yaml, or a folder")
    return given_data(named[0], values)
