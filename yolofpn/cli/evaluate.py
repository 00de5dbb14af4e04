"""``evaluate.py``: AP of a detector on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, positive_int, run_command, unit_float
from yolofpn.cli.data import add_data_flags, take_data
from yolofpn.cli.detect import add_model_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and evaluate; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.evaluation.evaluation_run import EvaluateOptions, evaluate

        options = EvaluateOptions(data=data.source, root=data.root, voc_corners=data.voc_corners, **vars(arguments))
        return evaluate(options)

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of evaluate.py."""
    parser = Parser(
        prog="evaluate.py",
        aliases={"--cfg": "--darknet-cfg"},
        description="Evaluate a detector on a data set: COCO and VOC metrics, counts per class, curves, and the images "
        "with the most errors.",
    )
    add = parser.add_argument
    add_data_flags(parser)
    add("--split", metavar="NAME", default="val", help="split of the data set")
    add_model_flags(parser)
    add("--batch-size", metavar="N", type=positive_int, default=8, help="images per batch")
    add("--workers", metavar="N", type=count, help="data loading processes; default: chosen for the machine")
    add(
        "--score-thresh",
        metavar="F",
        type=unit_float,
        default=0.001,
        help="score threshold of the detections used for AP; keep it low",
    )
    add("--nms-thresh", metavar="F", type=unit_float, default=0.6, help="IoU threshold of NMS, within each class")
    add(
        "--max-det",
        dest="detections_per_img",
        metavar="N",
        type=positive_int,
        default=300,
        help="maximum detections per image; AR1000 is reported if it is at least 1000",
    )
    add("--report-thresh", metavar="F", type=unit_float, default=0.25, help="score threshold for TP, FP, FN and F1")
    add("--output", type=Path, metavar="DIR", help="output folder; default: runs/evaluate/DATA-N")
    add(
        "--save-proposals",
        type=Path,
        metavar="FILE",
        help="write up to 1000 class-agnostic proposals per image as COCO results, and report their recall",
    )
    add(
        "--proposals",
        type=Path,
        metavar="FILE",
        help="for Fast R-CNN: the proposals of each image, written by --save-proposals of another detector",
    )
    add(
        "--verify",
        action="store_true",
        help="recompute the COCO metrics with pycocotools from the written files and compare",
    )
    add("--json", type=Path, metavar="FILE", help="also write the metrics to this file")
    add(
        "--save-thresholds",
        type=Path,
        metavar="OUT",
        help="write a copy of the weights to this .safetensors file, with the best-F1 score threshold of each class",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
