"""The flags of ``detect.py`` for detection by an engine on many machines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn.cli.arguments import Parser, positive_float, positive_int
from yolofpn.errors import UserError

if TYPE_CHECKING:
    from yolofpn.inference.detection_run import DetectOptions

ENGINE_FORMATS = ("parquet",)  # beside those of every run
_FLAGS = ("address", "workers", "gpus_per_worker", "column", "part_size")


def add_engine_flags(parser: Parser) -> None:
    """Add the flags."""
    add = parser.add_argument
    add(
        "--engine",
        choices=("ray",),
        help="distribute large numbers of images over processes and machines with Ray Data; also reads Parquet and CSV "
        "files of paths, WebDataset tars, s3://, gs:// and az://; writes Parquet or JSON Lines (docs/scale.md)",
    )
    add("--address", metavar="ADDR", help="with --engine: the cluster, auto or ray://HOST:PORT; default: this machine")
    add(
        "--workers",
        type=positive_int,
        metavar="N",
        help="with --engine: number of detection processes; default: one per GPU, else one per CPU",
    )
    add(
        "--gpus-per-worker",
        type=positive_float,
        metavar="F",
        help="with --engine: GPUs per worker, such as .5 for two workers on each GPU; default: 1 if there is a GPU",
    )
    add(
        "--column",
        metavar="NAME",
        help="with --engine: column with the paths in Parquet and CSV sources; default: image, path, uri, url, ... or "
        "the only column",
    )
    add(
        "--part-size",
        type=positive_int,
        metavar="N",
        help="with --engine: images per part file of the output; each tar has its own part file; default: 256",
    )


def take_engine(arguments: argparse.Namespace) -> Callable[[DetectOptions], int] | None:
    """Remove the flags of ``add_engine_flags`` from ``arguments``; return what runs the engine, None without one.

    Flags of both kinds of runs get the values of the one at hand.

    Raises:
        UserError: a flag needs the engine, or ``--resume`` is empty.
    """
    if arguments.resume == "":
        raise UserError("--resume is empty: name the output of the run that is resumed")
    engine = arguments.__dict__.pop("engine")
    given = {flag: arguments.__dict__.pop(flag) for flag in _FLAGS}
    if engine is None:
        if unused := [flag for flag, value in given.items() if value is not None]:
            raise UserError(f"--{unused[0].replace('_', '-')} applies to --engine ray only")
        if needing := [form for form in ENGINE_FORMATS if form in arguments.format]:
            raise UserError(f"--format {needing[0]} is written by --engine ray only")
        arguments.media = arguments.media or "all"
        arguments.resume = None if arguments.resume is None else Path(arguments.resume)
        return None
    from yolofpn.engines.cluster import ClusterOptions
    from yolofpn.engines.engine_run import EngineOptions, detect_with_engine

    resume, arguments.resume = arguments.resume, None
    arguments.media = arguments.media or "none"
    cluster = ClusterOptions(given.pop("address"), given.pop("workers"), given.pop("gpus_per_worker"))
    own = {flag: value for flag, value in given.items() if value is not None}

    def run(options: DetectOptions) -> int:
        return detect_with_engine(EngineOptions(detect=options, resume=resume, cluster=cluster, **own))

    return run
