"""``benchmark.py``: how fast everything is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolofpn.cli.arguments import Parser, count, image_size, positive_int, run_door

LISTS = ("weights", "precision", "img_size", "batch_size", "overrides")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and measure; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        from yolofpn.benchmark.run import BenchmarkOptions, benchmark

        options = vars(arguments)
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
    add("--weights", **lists, metavar="FILE", help="a model's YAML (--cfg says the same)")
    add("--data", help="data set: a data YAML, or a folder as labelling tools export it")
    add("--precision", **lists, choices=("auto", "fp32", "bf16", "fp16"), help="of the network's arithmetic")
    add("--img-size", **lists, type=image_size, metavar="N|HxW", help="network inputs; default: the model's own")
    add("--batch-size", **lists, type=positive_int, metavar="N", help="pictures that go through the network together")
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add("--train", action="store_true", help="measure training and its loader")
    add("--workers", type=count, help="processes that load pictures; default: as fits the machine")
    add("--rounds", type=positive_int, default=5, help="how often each takes its turn")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("overrides", nargs="*", metavar="section.key=value", help="changes to the cfg, such as data.root=DIR")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
