"""``python -m yolofpn COMMAND`` and, once installed, ``yolofpn COMMAND``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "detect": "detect objects in images, videos, cameras and streams",
    "train": "train a detector on your own classes",
    "evaluate": "evaluate a detector on a data set: AP, AR, counts, curves",
    "benchmark": "measure the speed of detection and training (in a clone)",
    "demo": "detect in the browser: webcam, uploads, cameras",
    "export": "export a detector to ONNX, OpenVINO or Darknet",
    "check": "check a data set for problems",
    "show": "draw images of a data set with their boxes",
    "stats": "measure range, mean and std of the images of a data set",
    "anchors": "fit anchors to a data set",
    "summary": "print the layer table of a model",
    "tune": "choose the fastest backend and precision on your own images",
    "study": "run the FPN paper's ablation studies (in a clone)",
    "convert": "convert Darknet weights to safetensors and back",
    "mistakes": "find suspected label errors of a data set with a detector",
    "convert-labels": "write a data set in another label format",
    "classify": "classify images with an ImageNet classifier",
}
CLONE = Path(__file__).resolve().parents[1]
IN_CLONE = {"benchmark": "benchmarking", "study": "studies"}  # packages beside this one, which the wheel does not have


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the rest of the command line; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: yolofpn COMMAND ...    (each command has its own --help)\n")
        print("\n".join(f"  {name:14} {text}" for name, text in COMMANDS.items()))
        return 0 if words else 2
    if words[0] == "--version":
        from yolofpn import __version__

        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f", did you mean {near[0]}?" if near else f"; commands: {', '.join(COMMANDS)}"
        print(f"yolofpn: unknown command {words[0]!r}{hint}", file=sys.stderr)
        return 2
    name = command_module(words[0])
    if name is None:
        print(f"yolofpn {words[0]}: needs a clone of the repository: it is not installed", file=sys.stderr)
        return 2
    code: int = import_module(name).main(words[1:])
    return code


def command_module(command: str, clone: Path = CLONE) -> str | None:
    """Return the module with the ``main`` of a command; None for one of ``clone`` that is not there."""
    package = IN_CLONE.get(command)
    if package is None:
        return f"yolofpn.cli.{command.replace('-', '_')}"
    if not (clone / package / "command.py").is_file():
        return None
    if str(clone) not in sys.path:  # started in another folder by the script of an editable installation
        sys.path.append(str(clone))
    return f"{package}.command"


if __name__ == "__main__":
    raise SystemExit(main())
