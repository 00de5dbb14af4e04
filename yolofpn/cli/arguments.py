"""What the doors share: parsing with helpful errors, silent aliases, exit codes and signals."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from yolofpn.errors import UserError

DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2

# What people's fingers know from other programs; not shown by --help.
ALIASES = {
    "--imgsz": "--img-size",
    "--img": "--img-size",
    "--conf": "--score-thresh",
    "--conf-thres": "--score-thresh",
    "--thresh": "--score-thresh",
    "--iou": "--nms-thresh",
    "--iou-thres": "--nms-thresh",
    "--batch": "--batch-size",
    "--model": "--weights",
    "--view-img": "--show",
}
FLAG_ALIASES = {"--nosave": ("--media", "none"), "--no-media": ("--media", "none")}


class Parser(argparse.ArgumentParser):
    """argparse with whole flag names only, aliases, and the nearest flag named when one is unknown."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self.aliases = {**ALIASES, **options.pop("aliases", {})}
        options.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Parse, aliases translated first; an error names the nearest flag and ends with exit code 2."""
        words = list(sys.argv[1:] if args is None else args)
        parsed, unknown = self.parse_known_intermixed_args(self._translate(words), namespace)
        if unknown:
            self.error(self._explain_unknown(unknown))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message in one line, without the usage that pushes it off the screen."""
        self.exit(NOTHING_DONE, f"{self.prog}: {message} (see --help)\n")

    def _translate(self, words: Sequence[str]) -> list[str]:
        known = set(self._option_string_actions)
        result: list[str] = []
        for word in words:
            flag, equals, value = word.partition("=")
            if flag not in known and self.aliases.get(flag) in known:
                result.append(self.aliases[flag] + equals + value)
            elif word not in known and word in FLAG_ALIASES and FLAG_ALIASES[word][0] in known:
                result.extend(FLAG_ALIASES[word])
            else:
                result.append(word)
        return result

    def _explain_unknown(self, unknown: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if not flags:
            return f"unexpected argument {unknown[0]!r}"
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        near = difflib.get_close_matches(flags[0], known, n=1, cutoff=0.5)
        return f"unknown flag {flags[0]}" + (f", did you mean {near[0]}?" if near else "")


def image_size(text: str) -> tuple[int, int]:
    """'416' or '416x608' (height x width) -> (height, width).

    Raises:
        argparse.ArgumentTypeError: it is neither, or not a positive multiple of 32.
    """
    match = re.fullmatch(r"(\d+)(?:[x,](\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give N or HxW in pixels, such as 416 or 416x608")
    height = int(match[1])
    width = int(match[2]) if match[2] else height
    if not height or not width:
        raise argparse.ArgumentTypeError(f"{text!r}: a size is at least 1")
    return height, width


def unit_float(text: str) -> float:
    """A number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def positive_int(text: str) -> int:
    """A whole number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def comma_list(*choices: str) -> Callable[[str], tuple[str, ...]]:
    """A parser for 'a,b': each one of ``choices``."""

    def parse(text: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in text.split(",") if item.strip())
        for item in items:
            if item not in choices:
                raise argparse.ArgumentTypeError(f"{item!r} is none of {', '.join(choices)}")
        return items

    return parse


def run_door(door: Callable[[], int]) -> int:
    """Run ``door`` and turn what goes wrong into a message and an exit code; SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return door()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOTHING_DONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return SOME_FAILED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing more to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
