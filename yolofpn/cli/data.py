"""The data set on a command line: shared by evaluate, check, show and anchors."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from yolofpn.cli.arguments import Parser
from yolofpn.errors import UserError

ROOT_KEY = "data.root"


def add_data_flags(parser: Parser) -> None:
    """The data set, and where it lies if not where its YAML says."""
    parser.add_argument("--data", help="data set: a data YAML, or a folder as labelling tools export it")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="DATA|data.root=DIR",
        help="the data set without --data; the data set's folder, instead of the one that its YAML names",
    )


def take_data(arguments: Namespace) -> tuple[str, Path | None]:
    """What ``add_data_flags`` added, taken out of ``arguments``: the data set, and its folder if that is given.

    Raises:
        UserError: no data set is named, or more than one, or something else is overridden.
    """
    named = [arguments.data] if arguments.data is not None else []
    root = None
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if equals and key == ROOT_KEY:
            root = Path(value)
        elif equals and not Path(word).exists():
            raise UserError(f"{word}: only {ROOT_KEY}=DIR can be given here")
        else:
            named.append(word)
    del arguments.data, arguments.words
    if len(named) > 1:
        raise UserError(f"one data set at a time: got {' and '.join(named)}")
    if not named:
        raise UserError("no data set: name one with --data, such as --data cfg/data/coco.yaml, or a folder")
    return named[0], root
