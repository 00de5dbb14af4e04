"""``train.py``: a detector for one's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, image_size, positive_int, run_door


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        from yolofpn.training.plan import make_plan
        from yolofpn.training.run import train

        return train(make_plan(**vars(arguments)))

    return run_door(door)


def build_parser() -> Parser:
    """The flags of train.py."""
    parser = Parser(prog="train.py", description="Train a detector.")
    add = parser.add_argument
    add("--cfg", type=Path, metavar="FILE", help="the model and how it is trained, such as cfg/yolofpn-tiny.yaml")
    add("--data", help="data set: a data YAML, a folder as labelling tools export it; default: what the cfg names")
    add("--weights", metavar="FILE|RUN_DIR|NAME|none", default="none", help="what to start from")
    add("--resume", nargs="?", const="", metavar="RUN_DIR", help="go on with a run; alone: the newest unfinished one")
    add("--overfit", type=positive_int, metavar="N", help="learn N pictures by heart, to see that everything works")
    add("--epochs", type=positive_int, help="default: what the cfg says")
    add("--batch-size", type=positive_int, help="pictures that go through the network together")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input")
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add("--workers", type=int, help="processes that load pictures")
    add("--seed", type=int, help="of all that is random")
    add("--output", type=Path, metavar="DIR", help="the run's folder; default: runs/train/CFG-N")
    add("overrides", nargs="*", metavar="section.key=value", help="changes to the cfg, such as train.optimizer.lr=0.01")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
