"""``export.py``: export weights to the graph of a runtime, or to Darknet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolofpn import runtimes
from yolofpn.cli.arguments import DONE, Parser, image_size, positive_int, run_command
from yolofpn.errors import UserError
from yolofpn.text import command

if TYPE_CHECKING:
    from yolofpn.inference.export_graph import Calibration, Exporter

FORMATS = (
    "triton: model folder for Triton Inference Server (ONNX file, config.pbtxt, labels.txt); darknet: also writes .cfg "
    "and .names"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and export; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        calibration = vars(arguments).pop("calibration")
        if (arguments.precision == "int8") != (calibration is not None):
            raise UserError("--precision int8 and --calibration DATA must be given together")
        from yolofpn.inference.export_graph import ExportOptions, open_export

        exporter, notes = open_export(ExportOptions(**vars(arguments)))
        for note in notes:
            print(note, flush=True)
        print("\n".join(exporter.export(_calibration(exporter, calibration) if calibration else None)))
        if arguments.format == "triton":
            print(f"use: tritonserver --model-repository {arguments.output.absolute().parent}")
        else:
            print(f"use: {command('detect')} --weights {arguments.output} dog.jpg")
        if arguments.layout != "raw":
            print("in other programs: docs/export.md")
        return DONE

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of export.py."""
    parser = Parser(
        prog="export.py",
        aliases={"--cfg": "--darknet-cfg"},
        description="Export a detector to an inference runtime or to Darknet.",
    )
    add = parser.add_argument
    files = ", ".join(f"{runtime.suffix} ({runtime.key})" for runtime in runtimes.RUNTIMES)
    formats = (*(runtime.key for runtime in runtimes.RUNTIMES), "triton", "darknet")
    add(
        "output",
        type=Path,
        metavar="OUT",
        help=f"output file: {files} or .weights (darknet); with triton the model folder",
    )
    add("--format", choices=formats, required=True, help=FORMATS)
    add(
        "--weights",
        default="auto",
        metavar="FILE|RUN_DIR|NAME",
        help="safetensors, Darknet .weights, training run, or a name such as yolov3-tiny; auto: the default weights",
    )
    add("--darknet-cfg", type=Path, metavar="FILE", help="cfg of Darknet weights; default: found automatically")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    add(
        "--img-size",
        type=image_size,
        metavar="N|HxW",
        help="fixed input size of the model; default: stored in the weights",
    )
    add("--resize", choices=("auto", "letterbox", "stretch"), default="auto", help="resize mode")
    _add_graph_flags(parser)
    return parser


def _add_graph_flags(parser: Parser) -> None:
    """Add what the file computes: in which precision, for how many images, and what goes in and comes out."""
    add = parser.add_argument
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        default="auto",
        help="numerical precision; auto: fp32",
    )
    add(
        "--batch",
        dest="batch",
        type=batch_size,
        metavar="N|dynamic",
        help="batch size, with triton the maximum; default: dynamic, with triton 8, with end2end 1",
    )
    add(
        "--layout",
        choices=("raw", "decoded", "end2end"),
        default="raw",
        help="outputs; raw: feature maps, for yolofpn; for other programs, with labels.txt: decoded (onnx, ncnn, "
        "litert): [B, 4 + C, N] cx, cy, w, h and class scores, or end2end (onnx): [1, K, 6] x1, y1, x2, y2, score, "
        "label after NMS",
    )
    add(
        "--input-type",
        choices=("float", "uint8"),
        help="input of onnx, ncnn and litert files: float RGB in 0..1 or uint8 RGB in 0..255; default: float, with raw "
        "uint8",
    )
    add("--opset", type=int, choices=range(16, 24), metavar="N", help="ONNX opset version; default: 17")
    add("--calibration", metavar="DATA", help="with int8: data set for calibration and for measuring AP")


def batch_size(text: str) -> int | None:
    """Parse a positive integer, or 'dynamic' into None.

    Raises:
        argparse.ArgumentTypeError: if the text is neither.
    """
    return None if text == "dynamic" else positive_int(text)


def _calibration(exporter: Exporter, data: str) -> Calibration:
    from yolofpn.evaluation.calibration import open_calibration

    return open_calibration(data, exporter.metadata)


if __name__ == "__main__":
    raise SystemExit(main())
