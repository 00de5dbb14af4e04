"""``train.py``: train a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import (
    DONE,
    SOME_FAILED,
    Parser,
    count,
    image_size,
    positive_float,
    positive_int,
    run_command,
)
from yolofpn.cli.detect import DEPTHS


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        from yolofpn.training.run_plan import TrainOptions
        from yolofpn.training.training_run import train

        arguments.overrides = tuple(arguments.overrides)
        return DONE if train(TrainOptions(**vars(arguments))).finished else SOME_FAILED

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of train.py; missing flags are None, as --resume accepts few."""
    parser = Parser(prog="train.py", description="Train a detector on your own classes.")
    add = parser.add_argument
    add("--cfg", type=Path, metavar="FILE", help="model config, such as cfg/yolofpn-lite.yaml")
    add("--data", help="data set: a data YAML, or an exported folder; default: the config's")
    initial = (
        "initial weights; auto (default): the included weights that fit the network, else installed ImageNet weights; "
        "none: random initialisation"
    )
    add("--weights", metavar="FILE|RUN_DIR|NAME|auto|none", help=initial)
    added = (
        "add the classes of this data set to the detector of --weights, without images of its old classes; needs no "
        "--cfg"
    )
    add("--add-classes", metavar="DATA", help=added)
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN_DIR",
        help="resume a run; without RUN_DIR: the newest unfinished one",
    )
    add(
        "--auto-resume",
        action="store_true",
        help="resume the run in --output if it has a checkpoint, else start it: one command for every restart",
    )
    add("--overfit", type=positive_int, metavar="N", help="overfit on N images, as a sanity check")
    add("--dry-run", action="store_true", help="check data, anchors, memory and one batch without training")
    add("--epochs", type=positive_int, metavar="N", help="number of epochs; default: the config's")
    add("--minutes", type=positive_float, metavar="F", help="train as many epochs as fit into this time")
    add("--batch-size", type=positive_int, metavar="N", help="images per batch; default: the config's")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input size; default: the config's")
    depths = (
        "white level of images with more than 8 bits per channel (see detect.py --help), stored in the weights; "
        "default: the config's"
    )
    add("--depth", choices=DEPTHS, help=depths)
    add("--device", help="auto, cpu, cuda:N or mps; default: auto")
    add("--workers", type=count, metavar="N", help="data loading processes; default: chosen for the machine")
    add("--seed", type=int, metavar="N", help="random seed; default: the config's")
    add("--output", type=Path, metavar="DIR", help="run folder; default: runs/train/CFG-N")
    add(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="overrides of the config, such as train.optimizer.lr=0.01",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
