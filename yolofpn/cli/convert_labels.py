"""``yolofpn convert-labels``: write a data set in another label format."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import DONE, SOME_FAILED, Parser, run_command
from yolofpn.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert; return exit code 1 if labels or images were dropped."""
    from yolofpn.data.writers import WRITERS

    parser = Parser(
        prog="yolofpn convert-labels",
        description="Convert a data set to another label format. Its own format is detected as for training.",
    )
    add = parser.add_argument
    add("source", metavar="SRC", help="data set: a data YAML, or an exported folder")
    add("output", metavar="OUT", type=Path, help="output folder, new or empty")
    add(
        "settings",
        nargs="*",
        metavar="data.root=DIR|data.voc_corners=TOOL",
        help="override the root folder of SRC's YAML, or name the tool that wrote its VOC XML",
    )
    formats = "; ".join(f"{writer.key}: {writer.help}" for writer in WRITERS)
    add("--format", required=True, choices=[writer.key for writer in WRITERS], help=formats)
    add("--split", nargs="+", metavar="NAME", help="splits of the data set; default: all")
    add(
        "--images",
        choices=("copy", "link", "none"),
        default="copy",
        help="copy the images into OUT, write symbolic links to them, or leave them where they are",
    )
    add(
        "--voc-corners",
        choices=("devkit", "cvat"),
        default="devkit",
        help="with --format voc: pixels counted from 1, the last included, or edges from 0 as in CVAT and LabelImg",
    )
    arguments = parser.parse_args(argv)

    def run() -> int:
        from yolofpn.data.convert_labels import convert_labels
        from yolofpn.data.given import GIVEN_KEYS, given_data

        pairs = [word.partition("=") for word in arguments.settings]
        for key, _, value in pairs:
            if key not in GIVEN_KEYS:
                raise UserError(f"{key}={value}: only {GIVEN_KEYS[0]}=DIR and {GIVEN_KEYS[1]}=TOOL can be given here")
        data = given_data(arguments.source, {key.removeprefix("data."): value for key, _, value in pairs})
        result = convert_labels(
            data.source,
            arguments.output,
            arguments.format,
            images=arguments.images,
            splits=arguments.split,
            root=data.root,
            voc_corners=data.voc_corners,
            write_corners=arguments.voc_corners,
        )
        print("\n".join(result.lines))
        for line in result.failures:
            print(f"failed: {line}", file=sys.stderr)
        return SOME_FAILED if result.failures else DONE

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
