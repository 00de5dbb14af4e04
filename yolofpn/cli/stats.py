"""``yolofpn stats``: measure range, mean and standard deviation of the images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import DONE, Parser, positive_int, run_command
from yolofpn.cli.data import add_data_flags, take_data


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, measure and print; return the exit code."""
    parser = Parser(
        prog="yolofpn stats",
        description="Measure the range, mean and standard deviation of each channel of a data set's images, for the "
        "section `input` of a model config (16-bit, one-channel and multi-band images).",
    )
    add = parser.add_argument
    add_data_flags(parser)
    add("--split", metavar="NAME", default="train", help="split of the data set")
    add("--channels", type=positive_int, metavar="N", help="channels of the images; default: as in the first one")
    add("--images", type=positive_int, default=500, metavar="N", help="read at most N images, spread over the split")
    add("--write", type=Path, metavar="FILE", help="write the numbers into the section `input` of this model config")
    arguments = parser.parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.data.band_statistics import measure_bands, write_settings

        found = measure_bands(
            data.source,
            root=data.root,
            voc_corners=data.voc_corners,
            split=arguments.split,
            channels=arguments.channels,
            most=arguments.images,
        )
        print("\n".join(found.lines()))
        if arguments.write is not None:
            write_settings(arguments.write, found.settings())
            print(f"written into {arguments.write}")
        return DONE

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
