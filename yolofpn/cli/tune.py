"""``yolofpn tune``: choose the fastest backend and precision for some weights on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, image_size, positive_int, run_command, unit_float


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and tune; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        from yolofpn.tuning.tuning import TuneOptions, tune

        return tune(TuneOptions(**vars(arguments)))

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of ``yolofpn tune``."""
    parser = Parser(
        prog="yolofpn tune",
        aliases={"--cfg": "--darknet-cfg"},
        description="Measure every backend and precision on your own images, and save the fastest one whose AP is "
        "within --max-loss of PyTorch in fp32.",
    )
    add = parser.add_argument
    add(
        "weights",
        nargs="?",
        default="auto",
        metavar="WEIGHTS",
        help="safetensors or Darknet .weights, a training run, or a name; default: the default weights",
    )
    add(
        "--data",
        metavar="DATA",
        help="data set (compares AP), or folder of images (compares detections); default: the sample images",
    )
    add("--darknet-cfg", type=Path, metavar="FILE", help="cfg of Darknet weights; default: found automatically")
    add("--names", type=Path, metavar="FILE", help="class names: .names, classes.txt, data.yaml or Darknet .data")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input size; default: stored in the weights")
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    add("--images", type=positive_int, default=64, metavar="N", help="maximum number of images to compare on")
    add("--rounds", type=positive_int, default=5, metavar="N", help="timing rounds")
    add("--max-loss", type=unit_float, default=0.005, metavar="F", help="largest acceptable loss of AP")
    add("--dry-run", action="store_true", help="print the table without saving the choice")
    add("--forget", action="store_true", help="delete the saved choice for these weights")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
