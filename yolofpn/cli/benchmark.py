"""``benchmark.py``: how fast everything is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolofpn.cli.arguments import Parser, count, image_size, positive_int, run_door

BACKENDS = ("auto", "torch", "openvino", "onnx")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LISTS = ("weights", "source", "backend", "precision", "img_size", "batch_size", "workload", "overrides")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        from yolofpn.benchmark.run import BenchmarkOptions, benchmark, print_tables

        options = vars(arguments)
        tables = options.pop("tables")
        if tables is not None:
            return print_tables(tables)
        return benchmark(BenchmarkOptions(**options | {name: tuple(options[name]) for name in LISTS}))

    return run_door(door)


def build_parser() -> Parser:
    """The flags of benchmark.py."""
    parser = Parser(
        prog="benchmark.py",
        aliases={"--cfg": "--weights"},
        description="Measure speed: everything that is named takes turns in one run, so that ratios hold.",
    )
    add = parser.add_argument
    lists: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    add("--weights", **lists, metavar="FILE", help="any weights; a model's YAML or a Darknet cfg gets random ones")
    add("--source", **lists, metavar="SRC", help="pictures and videos; default: what ships with the project")
    add("--empty", action="store_true", help="measure on pictures of one gray, in place of --source")
    add("--data", help="data set, to say AP next to speed, or to train on: a data YAML, or a folder")
    add("--backend", **lists, choices=BACKENDS, help="what runs the network")
    add("--precision", **lists, choices=PRECISIONS, help="of the network's arithmetic")
    add("--img-size", **lists, type=image_size, metavar="N|HxW", help="network inputs; default: the weights' own")
    add("--batch-size", **lists, type=positive_int, metavar="N", help="pictures that go through the network together")
    add(
        "--workload",
        **lists,
        choices=("few", "live", "many"),
        help="what backends get ready for: live: each picture at once; many: the most in all; default: many",
    )
    add("--compile", action="store_true", help="measure the torch backend with torch.compile too")
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add("--train", action="store_true", help="measure training and its loader; --weights are YAML files (or --cfg)")
    add("--workers", type=count, help="for --train, processes that load pictures; default: as fits the machine")
    add("--hot-path", action="store_true", help="measure what is done for every picture around the network")
    add("--no-peers", dest="peers", action="store_false", help="leave OpenCV out, which else runs Darknet files too")
    add("--rounds", type=positive_int, default=5, help="how often each takes its turn")
    add("--frames", type=positive_int, default=120, help="of a run end to end, at most")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--plot", type=Path, metavar="FILE", help="draw AP against time there (.png); needs --data")
    add("--tables", type=Path, metavar="FILE", help="measure nothing, print the tables of a --json file")
    add("overrides", nargs="*", metavar="section.key=value", help="data.root=DIR; with --train any change to the YAML")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
