"""``yolofpn study``: run ablation studies and compare them with the FPN paper's tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, image_size, positive_int, run_command

OUTPUT_BASE = Path("runs/study")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run or compare; return the exit code."""
    actions = {"run": _run, "compare": _compare}
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in actions:
        return run_command(actions[words[0]](words[1:]))
    parser = Parser(
        prog="yolofpn study", description="Run an ablation study, or compare its results with the FPN paper's."
    )
    parser.add_argument("action", choices=tuple(actions), help="each has its own --help")
    parser.parse_args(words)
    raise AssertionError("the accepted actions are handled above")


def _run(words: Sequence[str]) -> Callable[[], int]:
    arguments = build_run_parser().parse_args(words)

    def run() -> int:
        from studies.study_plan import Size
        from studies.study_run import StudyOptions, run_study
        from yolofpn.shipped import find_config

        study = find_config(arguments.study)
        size = Size(
            data=arguments.data,
            weights=arguments.weights,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            img_size=arguments.img_size,
            device=arguments.device,
            workers=arguments.workers,
            overrides=tuple(arguments.overrides),
        )
        output = arguments.output or OUTPUT_BASE / study.stem
        return run_study(StudyOptions(study, output, size, arguments.rows, arguments.seeds))

    return run


def build_run_parser() -> Parser:
    """Return the argument parser of ``study run``; flags that are not given take the values of the rows' YAMLs."""
    parser = Parser(
        prog="yolofpn study run",
        description="Train and evaluate the rows of a study; finished rows are skipped, interrupted ones are resumed.",
    )
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="study config, such as cfg/study/one-stage-small.yaml")
    add("--rows", type=names, metavar="NAME,NAME", help="rows to run; default: all")
    add("--seeds", type=seeds, default="0", metavar="N,N", help="random seeds; each row is trained once per seed")
    add("--data", help="data set: a data YAML, or an exported folder; default: the rows'")
    add("--weights", metavar="FILE", help="initial weights of every training, such as resnet50.pth; default: none")
    add("--epochs", type=positive_int, metavar="N", help="epochs of each training")
    add("--batch-size", type=positive_int, metavar="N", help="images per batch")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input size")
    add("--device", help="auto, cpu, cuda:N or mps; default: auto")
    add("--workers", type=count, metavar="N", help="data loading processes; default: chosen for the machine")
    add("--output", type=Path, metavar="DIR", help="output folder; default: runs/study/STUDY")
    add("overrides", nargs="*", metavar="section.key=value", help="overrides of every row's config")
    return parser


def _compare(words: Sequence[str]) -> Callable[[], int]:
    parser = Parser(
        prog="yolofpn study compare",
        description="Compare the results of a study with the paper's; print them and write table.md and table.png.",
    )
    parser.add_argument("output", type=Path, metavar="DIR", help="the --output folder of the study")
    output = parser.parse_args(words).output

    def run() -> int:
        from studies.compare import compare

        return compare(output)

    return run


def names(text: str) -> tuple[str, ...]:
    """Split 'a,b' into its names.

    Raises:
        argparse.ArgumentTypeError: if there is none.
    """
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    if not items:
        raise argparse.ArgumentTypeError("give at least one name")
    return items


def seeds(text: str) -> tuple[int, ...]:
    """Parse '0,1,2' into non-negative integers without duplicates.

    Raises:
        argparse.ArgumentTypeError: if an item is not a non-negative integer, or there is none.
    """
    return tuple(dict.fromkeys(count(item) for item in names(text)))


if __name__ == "__main__":
    raise SystemExit(main())
