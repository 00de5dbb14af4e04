"""``yolofpn check``: summarise a data set and report its problems."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from yolofpn.cli.arguments import DONE, SOME_FAILED, Parser, run_command
from yolofpn.cli.data import add_data_flags, take_data


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, check and print; return exit code 1 if the data set has problems."""
    parser = Parser(prog="yolofpn check", description="Summarise a data set and report its problems.")
    add = parser.add_argument
    add_data_flags(parser)
    add(
        "--cfg",
        metavar="FILE",
        help="model config whose section `input` sets how 16-bit and multi-band images are read",
    )
    add("--split", nargs="+", metavar="NAME", default=["train", "val"], help="splits to check; default: train val")
    add("--no-decode", action="store_true", help="do not decode the images: faster, but damaged images are not found")
    add("--all", action="store_true", help="list every file with a problem, not just ten of each kind")
    arguments = parser.parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.config import load_config
        from yolofpn.data.data_check import check_data

        report = check_data(
            data.source,
            root=data.root,
            voc_corners=data.voc_corners,
            depth=load_config(arguments.cfg).input.reading if arguments.cfg else "auto",
            splits=arguments.split,
            decode=not arguments.no_decode,
            progress=sys.stderr.isatty(),
        )
        print("\n".join(report.lines(None if arguments.all else 10)))
        return SOME_FAILED if report.num_problems else DONE

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
