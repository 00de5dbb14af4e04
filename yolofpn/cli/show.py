"""``yolofpn show``: draw images of a data set with their boxes on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import DONE, Parser, count, positive_int, run_command
from yolofpn.cli.data import add_data_flags, take_data
from yolofpn.cli.detect import DEPTHS


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the page; return the exit code."""
    parser = Parser(
        prog="yolofpn show", description="Draw images of a data set with their ground-truth boxes on one page."
    )
    add = parser.add_argument
    add_data_flags(parser)
    add(
        "--cfg",
        metavar="FILE",
        help="model config whose section `input` sets how 16-bit and multi-band images are read",
    )
    add("--split", metavar="NAME", default="train", help="split of the data set")
    add("--count", type=positive_int, metavar="N", default=12, help="number of images, chosen at random")
    add("--seed", type=count, metavar="N", default=0, help="random seed of the choice")
    add("--depth", choices=DEPTHS, default="auto", help="white level of images with more than 8 bits per channel")
    add("--output", type=Path, default=Path("page.png"), metavar="FILE", help="output image, .png or .jpg")
    arguments = parser.parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.config import load_config
        from yolofpn.data.label_pages import save_page

        lines = save_page(
            data.source,
            arguments.output,
            root=data.root,
            voc_corners=data.voc_corners,
            depth=load_config(arguments.cfg).input.reading if arguments.cfg else arguments.depth,
            split=arguments.split,
            count=arguments.count,
            seed=arguments.seed,
        )
        print("\n".join(lines))
        return DONE

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
