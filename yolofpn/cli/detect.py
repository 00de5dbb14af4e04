"""``detect.py``: object detection in images, videos, cameras and streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn import runtimes, sinks
from yolofpn.cli.arguments import (
    Parser,
    band_triple,
    comma_list,
    image_size,
    image_sizes,
    overlap,
    positive_int,
    run_command,
    shard,
    tile_size,
    unit_float,
)
from yolofpn.cli.engine import ENGINE_FORMATS, add_engine_flags, take_engine
from yolofpn.cli.tracking import add_track_flags, take_tracking

DEPTHS = ("auto", "12", "16", "minmax")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and detect; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        from yolofpn.inference.detection_run import DetectOptions, detect
        from yolofpn.sources.shards import Shard

        options = vars(arguments)
        engine = take_engine(arguments)
        options["shard"] = Shard(*arguments.shard) if arguments.shard else None
        options["sources"] = (*options["sources"], *options.pop("source"))
        options["track"] = take_tracking(arguments)
        if engine is not None:
            return engine(DetectOptions(**options))
        return detect(DetectOptions(**options))

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of detect.py."""
    parser = Parser(
        prog="detect.py",
        aliases={"--cfg": "--darknet-cfg"},
        description="Detect objects in images, folders, videos, cameras and streams.",
    )
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        metavar="SRC",
        help="image, folder, glob, video, camera number, rtsp/http URL, .txt list, or - for a list on stdin; "
        "default: the sample images",
    )
    add("--source", nargs="+", action="extend", default=[], metavar="SRC", help="the same, as a flag")
    add_model_flags(parser)
    add(
        "--score-thresh", type=unit_float, metavar="F", help="score threshold; default: stored in the weights, else .25"
    )
    add(
        "--nms-thresh",
        type=unit_float,
        metavar="F",
        help="IoU threshold of NMS, within each class; default: stored in the weights, else .45",
    )
    add(
        "--max-det",
        dest="detections_per_img",
        type=positive_int,
        metavar="N",
        help="maximum detections per image; default: stored in the weights",
    )
    add("--classes", nargs="+", action="extend", metavar="NAME|N", help="detect only these classes, by name or label")
    add("--batch-size", type=positive_int, default=1, metavar="N", help="images or frames per batch")
    add("--vid-stride", type=positive_int, default=1, metavar="N", help="detect on every N-th frame of a video")
    _add_output_flags(parser)
    add_track_flags(parser)
    add_engine_flags(parser)
    add("--show", action="store_true", help="show a window; keys: q quit, space pause, s snapshot, + - threshold")
    return parser


def _add_output_flags(parser: Parser) -> None:
    """Add what is written, where, and which part of it."""
    add = parser.add_argument
    add("--output", metavar="DIR", help="output folder, or - for JSON Lines on stdout; default: runs/detect/SOURCE-N")
    add(
        "--resume",
        metavar="DIR",
        help="resume the interrupted run in this output folder, with the same sources and flags: inputs that its "
        "detections.jsonl contains are skipped",
    )
    add(
        "--shard",
        type=shard,
        metavar="K/N",
        help="process only part K of N of the sources, split by a hash of their paths, such as 3/16 in the third of 16 "
        "jobs; to join the results, concatenate the detections.jsonl files",
    )
    keys = [sink.key for sink in sinks.SINKS]
    written = "; ".join(f"{sink.key}: {sink.help}" for sink in sinks.SINKS)
    add(
        "--format",
        type=comma_list(*keys, *ENGINE_FORMATS),
        default="jsonl",
        metavar=",".join((*keys, *ENGINE_FORMATS)),
        help=f"output formats; {written}; parquet: tables (only with --engine)",
    )
    add(
        "--media",
        choices=("all", "hits", "none"),
        help="which annotated images and videos to write; default: all; with --engine: none",
    )
    add("--labels", choices=("score", "name", "none"), default="score", help="label text at each box")


def add_model_flags(parser: Parser) -> None:
    """Add the flags for weights, preprocessing and backend, which detect and evaluate share."""
    add = parser.add_argument
    add(
        "--weights",
        default="auto",
        metavar="FILE|RUN_DIR|NAME",
        help="safetensors, Darknet .weights or exported model, training run, or a name such as yolov3-tiny; auto: the "
        "default weights",
    )
    add("--darknet-cfg", type=Path, metavar="FILE", help="cfg of Darknet weights; default: found automatically")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--img-size", type=image_size, metavar="N|HxW", help="network input size; default: stored in the weights"
    )
    size.add_argument(
        "--pyramid",
        type=image_sizes,
        metavar="N,N",
        help="image pyramid: detect at several input sizes, such as 320,416,608, and merge the results",
    )
    add(
        "--tile",
        type=tile_size,
        metavar="auto|N|HxW",
        help="for small objects in large images: detect in the whole image and in overlapping tiles of this size in "
        "image pixels, and merge the results; auto: the network input size",
    )
    add("--overlap", type=overlap, default=0.2, metavar="F", help="with --tile: fraction shared by two tiles, up to .9")
    add("--resize", choices=("auto", "letterbox", "stretch", "shortest-edge"), default="auto", help="resize mode")
    add(
        "--bands",
        type=band_triple,
        metavar="R,G,B",
        help="for weights of multi-band images: bands to draw as red, green and blue, counted from 1 (one number: "
        "gray); default: stored in the weights, else the first three",
    )
    add(
        "--depth",
        choices=DEPTHS,
        help="white level of images with more than 8 bits per channel: 12 (4095), 16 (65535), minmax (scale each image "
        "from its minimum to its maximum) or auto (the depth stated in the file, else 16; float images: 1, 255 or "
        "65535, depending on their maximum); default: stored in the weights, else auto",
    )
    add(
        "--pad-batches",
        action="store_true",
        help="with --resize shortest-edge: pad images of different sizes to share a batch, which changes their "
        "detections slightly; default: only images of equal size share a batch",
    )
    _add_runtime_flags(parser)


def _add_runtime_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add(
        "--backend",
        choices=("auto", "torch", *(runtime.key for runtime in runtimes.RUNTIMES)),
        default="auto",
        help="inference backend; auto: the choice of `yolofpn tune`, else the first installed one of "
        f"{', '.join(runtime.key for runtime in runtimes.RUNTIMES if runtime.has_batches)}, torch (PyTorch "
        "runs until the graph is built)",
    )
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        default="auto",
        help="numerical precision; auto: the choice of `yolofpn tune`, else fp32; int8 needs a model quantised by "
        "export.py",
    )
    add(
        "--compile",
        action="store_true",
        help="torch backend: compile the network with torch.compile, which takes about a minute per input size",
    )


if __name__ == "__main__":
    raise SystemExit(main())
