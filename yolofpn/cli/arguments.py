"""Shared by all commands: an argument parser with helpful errors and aliases, exit codes and signal handling."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from yolofpn.errors import DONE as DONE
from yolofpn.errors import NOTHING_DONE as NOTHING_DONE
from yolofpn.errors import SOME_FAILED as SOME_FAILED
from yolofpn.errors import UserError, torch_errors
from yolofpn.text import printable_output

# Flags of other programs, accepted silently; not shown by --help.
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

# Flags of other programs that have another form here: refused with this hint.
ELSEWHERE = {
    "--save-txt": "--format yolo",
    "--save-labels": "--format labels",
    "--save-crop": "--format crops",
    "--save-csv": "--format csv",
    "--save-json": "--format coco",
    "--save-conf": "--format yolo",
    "--half": "--precision fp16",
    "--project": "--output DIR",
    "--name": "--output DIR",
    "--exist-ok": "--output DIR",
    "--hide-labels": "--labels none",
    "--hide-conf": "--labels name",
}
MOST_OVERLAP = 0.9  # of two tiles
SMALLEST_SIDE = 32  # pixels of a network's input; a smaller number after --img-size is a camera's


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, with aliases, and with a suggestion for an unknown flag."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self.aliases = {**ALIASES, **options.pop("aliases", {})}
        options["prog"] = _shown_prog(options["prog"])
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Translate aliases, then parse; an unknown flag suggests the nearest one and exits with code 2."""
        words = self._translate(sys.argv[1:] if args is None else args)
        self._refuse_size_in_two_words(words)
        parsed, unknown = self.parse_known_intermixed_args(words, namespace)
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

    def _refuse_size_in_two_words(self, words: Sequence[str]) -> None:
        """Refuse ``--img-size 384 640``, where 640 would be read as a camera number or a file."""
        action = self._option_string_actions.get("--img-size")
        if action is not None and action.nargs == "+":
            return
        for flag, height, width in zip(words, words[1:], words[2:], strict=False):
            if flag == "--img-size" and _is_whole(height) and _is_whole(width) and int(width) >= SMALLEST_SIDE:
                self.error(f"--img-size takes one word: --img-size {height}x{width} (height x width)")

    def _explain_unknown(self, unknown: Sequence[str]) -> str:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if not flags:
            return f"unexpected argument {unknown[0]!r}"
        here = ELSEWHERE.get("--" + _bare(flags[0]), "")
        if here.partition(" ")[0] in self._option_string_actions:
            return f"unknown flag {flags[0]}: use {here}"
        known = {flag: flag for flag in self._option_string_actions if flag.startswith("--")}
        known |= {alias: flag for alias, flag in self.aliases.items() if flag in known}
        by_bare = {_bare(typed): flag for typed, flag in known.items()}
        near = difflib.get_close_matches(_bare(flags[0]), by_bare, n=1)
        return f"unknown flag {flags[0]}" + (f", did you mean {by_bare[near[0]]}?" if near else "")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Append a flag's default to its help, if it is a value that can be typed."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and not isinstance(action.default, bool | list | tuple)
        return super()._get_help_string(action) if has_default else action.help


def _bare(flag: str) -> str:
    """Strip the leading dashes of a flag, which would make any two flags look similar."""
    return flag.lstrip("-").replace("_", "-")


def _shown_prog(prog: str) -> str:
    """Return the name the command was called by: ``detect.py``, or ``yolofpn detect`` if the package is installed."""
    script = Path(sys.argv[0])
    by_package = script.stem == "yolofpn" or (script.parent.name, script.name) == ("yolofpn", "__main__.py")
    return f"yolofpn {Path(prog).stem}" if by_package and prog.endswith(".py") else prog


def image_size(text: str) -> tuple[int, int]:
    """Parse '416' or '416x608' (height x width) into (height, width) in pixels.

    Raises:
        argparse.ArgumentTypeError: if the text has neither form, or a side is too large.
    """
    from yolofpn.reading import MAX_INPUT_SIDE  # imported here to keep --help fast

    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text.lower())
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not height or not width:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give N or HxW in pixels, such as 416 or 416x608")
    if max(height, width) > MAX_INPUT_SIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: at most {MAX_INPUT_SIDE} pixels per side")
    return height, width


def image_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parse '320,416x608' into the (height, width) of each size.

    Raises:
        argparse.ArgumentTypeError: if an item is not a size, or a size is repeated.
    """
    sizes = tuple(image_size(item.strip()) for item in text.split(","))
    if len(set(sizes)) < len(sizes):
        raise argparse.ArgumentTypeError(f"{text!r} repeats a size")
    return sizes


def tile_size(text: str) -> tuple[int, int] | Literal["auto"]:
    """Parse 'auto' or a size.

    Raises:
        argparse.ArgumentTypeError: if it is neither, or too small.
    """
    if text == "auto":
        return "auto"
    size = image_size(text)
    if min(size) < SMALLEST_SIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is too small: at least {SMALLEST_SIDE} pixels per side")
    return size


def band_triple(text: str) -> tuple[int, int, int]:
    """Parse '3,2,1', or '4' for (4, 4, 4): numbers of bands, from 1.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})(?:,([1-9][0-9]{0,3}),([1-9][0-9]{0,3}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers of bands, from 1, such as 3,2,1")
    red, green, blue = (int(match[group] or match[1]) for group in (1, 2, 3))
    return red, green, blue


def unit_float(text: str) -> float:
    """Parse a number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def overlap(text: str) -> float:
    """Parse the part that two tiles share, from 0 to .9."""
    value = unit_float(text)
    if value > MOST_OVERLAP:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: at most {MOST_OVERLAP}")
    return value


def positive_int(text: str) -> int:
    """Parse a positive integer."""
    if not _is_whole(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """Parse K/N: part K, from 1, of N."""
    number, _, parts = text.partition("/")
    if not (_is_whole(number) and _is_whole(parts) and 1 <= int(number) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part K/N, such as 1/16 for the first of 16")
    return int(number), int(parts)


def positive_float(text: str) -> float:
    """Parse a finite number above 0.

    Raises:
        argparse.ArgumentTypeError: if the text is anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def count(text: str) -> int:
    """Parse a non-negative integer."""
    if not _is_whole(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative integer")
    return int(text)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def comma_list(*choices: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser for comma-separated items such as 'a,b', each of them one of ``choices``."""

    def parse(text: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in text.split(",") if item.strip())
        for item in items:
            if item not in choices:
                raise argparse.ArgumentTypeError(f"{item!r} is not one of {', '.join(choices)}")
        return items

    return parse


def run_command(command: Callable[[], int]) -> int:
    """Run ``command`` and turn its errors into a message and an exit code; SIGTERM is handled like Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every file's name can be encoded
    with printable_output():
        return _run(command)


def _run(command: Callable[[], int]) -> int:
    try:
        with _sigterm_interrupts(), torch_errors():
            return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOTHING_DONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return SOME_FAILED
    except BrokenPipeError:  # the reader of our output went away (`| head`): nothing more to say
        _drop_unwritten_output()
        return SOME_FAILED
    except OSError as error:
        print(f"error: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        _drop_unwritten_output()
        return NOTHING_DONE


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # elsewhere Python sets no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _drop_unwritten_output() -> None:
    """Discard buffered output that cannot be written; otherwise the interpreter fails again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
