"""``train.py``: a detector for one's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, image_size, positive_float, positive_int, run_door
from yolofpn.cli.detect import DEPTHS


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        from yolofpn.training.plan import TrainOptions, make_plan
        from yolofpn.training.run import train

        arguments.overrides = tuple(arguments.overrides)
        return train(make_plan(TrainOptions(**vars(arguments))))

    return run_door(door)


def build_parser() -> Parser:
    """The flags of train.py; what is not given stays None, as --resume takes hardly any."""
    parser = Parser(prog="train.py", description="Train a detector.")
    add = parser.add_argument
    add("--cfg", type=Path, metavar="FILE", help="the model and how it is trained, such as cfg/yolofpn-tiny.yaml")
    add("--data", help="data set: a data YAML, a folder as labelling tools export it; default: what the cfg names")
    initial = "initial weights; none: random; default: auto: the default weights, or ImageNet's of the same backbone"
    add("--weights", metavar="FILE|RUN_DIR|NAME|auto|none", help=initial)
    add("--resume", nargs="?", const="", metavar="RUN_DIR", help="go on with a run; alone: the newest unfinished one")
    add("--overfit", type=positive_int, metavar="N", help="learn N pictures by heart, to see that everything works")
    add("--dry-run", action="store_true", help="check data, anchors, memory and one batch, and train nothing")
    add("--epochs", type=positive_int, help="default: what the cfg says")
    add("--minutes", type=positive_float, help="train as many epochs as fit into so many minutes")
    add("--batch-size", type=positive_int, help="pictures that go through the network together; default: the cfg's")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input; default: the cfg's")
    depths = "what is white in images of more than 8 bits, kept with the weights for detect.py; default: the cfg's"
    add("--depth", choices=DEPTHS, help=depths)
    add("--device", help="auto, cpu, cuda:N or mps; default: auto")
    add("--workers", type=count, help="processes that load pictures; default: as fits the machine")
    add("--seed", type=int, help="of all that is random; default: the cfg's")
    add("--output", type=Path, metavar="DIR", help="the run's folder; default: runs/train/CFG-N")
    add("overrides", nargs="*", metavar="section.key=value", help="changes to the cfg, such as train.optimizer.lr=0.01")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
