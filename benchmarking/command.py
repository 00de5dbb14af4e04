"""``benchmark.py``: measure the speed of detection and training on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolofpn import runtimes
from yolofpn.cli.arguments import Parser, count, image_size, positive_int, run_command

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LISTS = ("weights", "source", "backend", "precision", "img_size", "batch_size", "workload", "overrides")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        from benchmarking.benchmark_run import BenchmarkOptions, benchmark, print_tables

        options = vars(arguments)
        tables = options.pop("tables")
        if tables is not None:
            return print_tables(tables)
        return benchmark(BenchmarkOptions(**options | {name: tuple(options[name]) for name in LISTS}))

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of benchmark.py."""
    parser = Parser(
        prog="benchmark.py",
        aliases={"--cfg": "--weights", "--no-peers": "--no-baselines"},
        description="Measure the speed of detection and training. All combinations are timed alternately in one run, "
        "so that load on the machine affects them equally.",
    )
    add = parser.add_argument
    lists: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    add(
        "--weights",
        **lists,
        metavar="FILE",
        help="any weights; model configs and Darknet cfgs get random weights; default: the default weights",
    )
    add("--source", **lists, metavar="SRC", help="images and videos; default: the sample images")
    add("--empty", action="store_true", help="measure on plain gray images instead of --source")
    add("--data", help="data set to measure AP on, or to train on: a data YAML or a folder")
    backends = ("auto", "torch", *(runtime.key for runtime in runtimes.RUNTIMES))
    add("--backend", **lists, choices=backends, help="inference backends; default: auto")
    add("--precision", **lists, choices=PRECISIONS, help="numerical precisions; default: auto")
    add(
        "--img-size",
        **lists,
        type=image_size,
        metavar="N|HxW",
        help="network input sizes; default: stored in the weights",
    )
    add("--batch-size", **lists, type=positive_int, metavar="N", help="images per batch; default: 1")
    add(
        "--workload",
        **lists,
        choices=("few", "live", "many"),
        help="how CPU cores are shared: for a few images, for the latency of a live source, or for the throughput of "
        "many images; default: many",
    )
    add("--compile", action="store_true", help="measure the torch backend with torch.compile too")
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    _add_other_measurements(parser)
    add(
        "--no-baselines",
        dest="baselines",
        action="store_false",
        help="skip the OpenCV baseline of Darknet files",
    )
    _add_output(parser)
    return parser


def _add_other_measurements(parser: Parser) -> None:
    """Add what can be measured in place of the speed of detection."""
    add = parser.add_argument
    add(
        "--train",
        action="store_true",
        help="measure training and its data loader; give model configs as --weights or --cfg",
    )
    add(
        "--workers",
        type=count,
        metavar="N",
        help="with --train: data loading processes; default: chosen for the machine",
    )
    add(
        "--start",
        action="store_true",
        help="measure whole runs of detect.py on one image, with and without PyTorch: CPU time, memory, imports, "
        "installed size; and the first frame of a video and a live stream, with an empty and a full cache",
    )
    add(
        "--throughput",
        action="store_true",
        help="measure whole runs of detect.py --media none on each --source, and the network alone: images per second, "
        "CPU time, memory",
    )
    add(
        "--programs",
        action="store_true",
        help="measure whole programs on one Darknet file: this clone by each runtime, OpenCV, and --darknet: AP on "
        "--data, time of an image, frames per second of a video (--source), start-up, memory, installed size",
    )
    add("--darknet", type=Path, metavar="FILE", help="with --programs: Darknet's program, to compare with")
    add("--against", type=Path, metavar="DIR", help="with --start or --throughput: another clone to compare with")
    add("--hot-path", action="store_true", help="measure each pre- and post-processing step on its own")


def _add_output(parser: Parser) -> None:
    """Add how long is measured, and where the results go."""
    add = parser.add_argument
    add("--rounds", type=positive_int, metavar="N", default=5, help="timing rounds")
    add("--frames", type=positive_int, metavar="N", default=120, help="maximum frames per end-to-end run")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    add("--plot", type=Path, metavar="FILE", help="plot AP against time to this .png; needs --data")
    add("--tables", type=Path, metavar="FILE", help="print the tables of a --json file, without measuring")
    add(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="data.root=DIR; with --train any override of the config",
    )


if __name__ == "__main__":
    raise SystemExit(main())
