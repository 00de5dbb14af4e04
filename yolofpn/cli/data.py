"""The data set on a command line: shared by evaluate, check, show and anchors."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolofpn.cli.arguments import Parser
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from yolofpn.data.given import GivenData


def add_data_flags(parser: Parser) -> None:
    """The data set, and where it lies if not where its YAML says."""
    parser.add_argument("--data", help="data set: a data YAML, or an exported folder")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="DATA|data.root=DIR|data.voc_corners=TOOL",
        help="the data set, instead of --data; data.root: its folder, instead of the YAML's; "
        "data.voc_corners: the writer of its VOC XML: devkit, cvat, labelimg, labelstudio or roboflow",
    )


def take_data(arguments: Namespace) -> GivenData:
    """What ``add_data_flags`` added, taken out of ``arguments``.

    Raises:
        UserError: no data set is named, or more than one, or something else is overridden.
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
        raise UserError(f"one data set at a time: got {' and '.join(named)}")
    if not named:
        raise UserError("no data set: name one with --data, such as --data cfg/data/coco.yaml, or a folder")
    return given_data(named[0], values)
