"""``detect.py``: pictures, videos, cameras and streams in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn import sinks
from yolofpn.cli.arguments import Parser, comma_list, image_size, image_sizes, positive_int, run_door, unit_float

DEPTHS = ("auto", "12", "16", "minmax")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and detect; the exit code."""
    arguments = build_parser().parse_args(argv)

    def door() -> int:
        from yolofpn.inference.run import DetectOptions, detect

        options = vars(arguments)
        options["sources"] = (*options["sources"], *options.pop("source"))
        return detect(DetectOptions(**options))

    return run_door(door)


def build_parser() -> Parser:
    """The flags of detect.py."""
    parser = Parser(
        prog="detect.py",
        aliases={"--cfg": "--darknet-cfg"},
        description="Detect objects in pictures, folders, videos, cameras and streams.",
    )
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        metavar="SRC",
        help="picture, folder, pattern, video, camera number, rtsp/http URL, .txt list, or - for a list on stdin; "
        "default: what ships with the project",
    )
    add("--source", nargs="+", action="extend", default=[], metavar="SRC", help="the same, as a flag")
    add_model_flags(parser)
    add("--score-thresh", type=unit_float, metavar="F", help="lowest score; default: what the weights say, else .25")
    add(
        "--nms-thresh",
        type=unit_float,
        metavar="F",
        help="IoU above which the weaker of two boxes of a class goes; default: what the weights say, else .45",
    )
    add("--max-det", type=positive_int, metavar="N", help="most detections of a picture; default: as the weights say")
    add("--classes", nargs="+", action="extend", metavar="NAME|N", help="only these classes, by name or label")
    add("--batch-size", type=positive_int, default=1, metavar="N", help="pictures that share a pass of the network")
    add("--vid-stride", type=positive_int, default=1, metavar="N", help="use every N-th frame of a video")
    add("--output", metavar="DIR", help="where results go, - for JSON lines on stdout; default: runs/detect/SOURCE-N")
    keys = [sink.key for sink in sinks.SINKS]
    written = "; ".join(f"{sink.key}: {sink.help}" for sink in sinks.SINKS)
    add("--format", type=comma_list(*keys), default="jsonl", metavar=",".join(keys), help=f"what is written; {written}")
    add("--media", choices=("all", "hits", "none"), default="all", help="which annotated pictures and videos to write")
    add("--labels", choices=("score", "name", "none"), default="score", help="what stands beside a box")
    add("--show", action="store_true", help="show a window; keys: q quit, space pause, s snapshot, + - threshold")
    return parser


def add_model_flags(parser: Parser) -> None:
    """Which weights, how pictures reach the network, and where it runs: shared by detect and evaluate."""
    add = parser.add_argument
    add(
        "--weights",
        default="auto",
        metavar="FILE|RUN_DIR|NAME",
        help="safetensors or Darknet .weights, a run, a name; auto: the project's own",
    )
    add("--darknet-cfg", type=Path, metavar="FILE", help="the cfg of Darknet weights, if it is not found beside them")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--img-size", type=image_size, metavar="N|HxW", help="network input; default: as the weights say")
    size.add_argument(
        "--pyramid",
        type=image_sizes,
        metavar="N,N",
        help="several network inputs, such as 320,416,608: every picture is seen in each size, the results are merged",
    )
    add("--resize", choices=("auto", "letterbox", "stretch", "shortest-edge"), default="auto", help="way to that size")
    add(
        "--depth",
        choices=DEPTHS,
        help="what is white in images of more than 8 bits: 4095, 65535, or the largest value of each; auto: what the "
        "file states, else 65535 (floats: 1, 255 or 65535, by their largest); default: as the weights say, else auto",
    )
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add(
        "--backend",
        choices=("auto", "torch", "openvino", "onnx"),
        default="auto",
        help="what runs the network; auto: as `yolofpn tune` chose, else the first that is installed of openvino, "
        "onnx and torch, within .01 pixels and .0001 of score of PyTorch; PyTorch runs until a graph is ready",
    )
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        default="auto",
        help="of the network's arithmetic; auto: fp32, or as `yolofpn tune` chose; int8: for graphs that export.py "
        "wrote so",
    )
    add(
        "--compile", action="store_true", help="torch backend: let torch.compile write its kernels, which takes a while"
    )
    add(
        "--pad-batches",
        action="store_true",
        help="shortest-edge: let pictures of unequal size share a batch, filled up to the largest: what is found in "
        "one then depends a little on the others; default: in detect only equal sizes do, in evaluate none",
    )


if __name__ == "__main__":
    raise SystemExit(main())
