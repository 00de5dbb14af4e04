"""``evaluate.py``: how good a detector is on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, positive_int, run_door, unit_float
from yolofpn.cli.data import add_data_flags, take_data
from yolofpn.cli.detect import add_model_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        data = take_data(arguments)
        from yolofpn.evaluation.run import EvaluateOptions, evaluate

        options = EvaluateOptions(data=data.source, root=data.root, voc_corners=data.voc_corners, **vars(arguments))
        return evaluate(options)

    return run_door(door)


def build_parser() -> Parser:
    """The flags of evaluate.py."""
    parser = Parser(
        prog="evaluate.py",
        aliases={"--cfg": "--darknet-cfg"},
        description="Measure a detector on a data set: COCO and VOC metrics, counts per class, curves, worst images.",
    )
    add = parser.add_argument
    add_data_flags(parser)
    add("--split", metavar="NAME", default="val", help="which part of the data set")
    add_model_flags(parser)
    add("--batch-size", metavar="N", type=positive_int, default=8, help="pictures that go through the network together")
    add("--workers", metavar="N", type=count, help="processes that load pictures; default: as fits the machine")
    add(
        "--score-thresh",
        metavar="F",
        type=unit_float,
        default=0.001,
        help="lowest score of the curves: AP needs a low one",
    )
    add(
        "--nms-thresh", metavar="F", type=unit_float, default=0.6, help="IoU above which the weaker box of a class goes"
    )
    add(
        "--max-det",
        metavar="N",
        type=positive_int,
        default=300,
        help="most detections of one picture; from 1000 on with AR1000",
    )
    add("--report-thresh", metavar="F", type=unit_float, default=0.25, help="lowest score of what TP, FP, FN, F1 count")
    add("--output", type=Path, metavar="DIR", help="where results go; default: runs/evaluate/DATA-N")
    add(
        "--save-proposals",
        type=Path,
        metavar="FILE",
        help="write up to 1000 boxes of each picture, whatever their class, as COCO results, and measure their recall",
    )
    add(
        "--proposals",
        type=Path,
        metavar="FILE",
        help="for Fast R-CNN: where to look in each picture, as another detector's --save-proposals wrote it",
    )
    add(
        "--verify",
        action="store_true",
        help="let pycocotools compute COCO's twelve numbers from the files written, and say whether it agrees",
    )
    add("--json", type=Path, metavar="FILE", help="write the numbers there too")
    add(
        "--save-thresholds",
        type=Path,
        metavar="OUT",
        help="write the weights to this .safetensors file, with the score threshold of best F1 for each class",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
