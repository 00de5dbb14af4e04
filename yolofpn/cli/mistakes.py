"""``yolofpn mistakes``: suspected label errors of a data set, the most suspicious first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, positive_int, run_command
from yolofpn.cli.data import add_data_flags, take_data
from yolofpn.cli.detect import add_model_flags


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, detect and write the page; return the exit code."""
    parser = Parser(
        prog="yolofpn mistakes",
        aliases={"--cfg": "--darknet-cfg"},
        description="Find suspected label errors of a data set (missing, wrong class, badly placed, no such object) "
        "with a detector; write an HTML page and lists, the most suspicious first.",
    )
    add = parser.add_argument
    add_data_flags(parser)
    add(
        "--split", metavar="NAME", default="all", help="split of the data set; all: train and the images held out of it"
    )
    add_model_flags(parser)
    add("--batch-size", metavar="N", type=positive_int, default=8, help="images per batch")
    add("--workers", metavar="N", type=count, help="data loading processes; default: chosen for the machine")
    add(
        "--quick",
        action="store_true",
        help="detect in whole images only, not in crops of them: faster, but finds fewer errors",
    )
    add("--count", metavar="N", type=positive_int, default=100, help="images on the page; the lists hold all")
    add("--output", type=Path, metavar="DIR", help="output folder; default: runs/mistakes/DATA-N")
    arguments = parser.parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.evaluation.evaluation_run import EvaluateOptions
        from yolofpn.evaluation.mistakes_run import mistakes

        settings = vars(arguments)
        shown, quick = settings.pop("count"), settings.pop("quick")
        settings |= {"score_thresh": 0.01, "nms_thresh": 0.5}
        options = EvaluateOptions(data=data.source, root=data.root, voc_corners=data.voc_corners, **settings)
        return mistakes(options, shown, quick=quick)

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
