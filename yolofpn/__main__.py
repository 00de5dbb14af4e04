"""``python -m yolofpn COMMAND`` and, once installed, ``yolofpn COMMAND``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "detect": "find objects in pictures, folders, videos, cameras and streams",
    "train": "train a detector for your own classes",
    "evaluate": "measure a detector on a data set",
    "benchmark": "measure how fast detection and training are here",
    "demo": "show a web page for webcam, uploads and cameras",
    "export": "write a detector as ONNX, OpenVINO or Darknet files",
    "check": "say what a data set holds and what is wrong with it",
    "show": "draw a page of a data set's pictures with their boxes",
    "anchors": "fit anchors to a data set",
    "summary": "print the layer table of a model",
    "tune": "choose backend and precision on your own images, and keep the choice",
    "study": "train systems that differ in one thing, and compare them beside the FPN paper",
    "convert": "turn Darknet weights into safetensors and back",
    "classify": "name what an ImageNet classifier sees in a picture",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the rest of the command line to the command's own door; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: yolofpn COMMAND ...    (each has its own --help)\n")
        print("\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items()))
        return 0 if words else 2
    if words[0] == "--version":
        from yolofpn import __version__

        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f", did you mean {near[0]}?" if near else f"; there are {', '.join(COMMANDS)}"
        print(f"yolofpn: unknown command {words[0]!r}{hint}", file=sys.stderr)
        return 2
    code: int = import_module(f"yolofpn.cli.{words[0]}").main(words[1:])
    return code


if __name__ == "__main__":
    raise SystemExit(main())
