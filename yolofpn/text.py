"""Text that others wrote (class names, file names, model cards, servers' answers), made safe to show and to store."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

# C0 except tab and newline, DEL and C1: a terminal takes them for commands. The last ones turn the reading direction.
_CONTROLS = [*(code for code in range(32) if code not in (9, 10)), *range(0x7F, 0xA0)]
_CONTROLS += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}
_UNPRINTABLE_IN_YAML = _ESCAPES | {code: f"\\u{code:04x}" for code in (*range(0xD800, 0xE000), 0xFEFF, 0xFFFE, 0xFFFF)}
_CURSOR_UP = re.compile(r"\n*(?:\x1b\[A)+")
LONGEST_PART = 180  # bytes of one part of a path; file systems take 255, and suffixes and numbers are added
FORBIDDEN = set('<>:"/\\|?*')  # in a file's name on one system or another
_SCRIPTS = ("detect", "train", "evaluate", "benchmark", "export", "demo")  # NAME.py at the top of a clone


def command(name: str) -> str:
    """A command of this program in the form in which the user started it, for a next command that can be pasted.

    ``python evaluate.py`` after ``python train.py``, ``yolofpn evaluate`` after ``yolofpn train``; after
    ``python -m yolofpn train``, and from anywhere else, ``python -m yolofpn evaluate``.

    Args:
        name: one of ``yolofpn.__main__.COMMANDS``.
    """
    started = Path(sys.argv[0]) if sys.argv else Path()
    if started.stem == "yolofpn":
        return f"yolofpn {name}"
    if started.suffix == ".py" and started.stem in _SCRIPTS and name in _SCRIPTS:
        return f"python {shlex.quote(str(started.with_name(name + '.py')))}"
    return f"python -m yolofpn {name}"


def typed_command() -> str:
    """The command line that started this process, quoted for a shell."""
    started, words = Path(sys.argv[0]), sys.argv[1:]
    if started.stem == "yolofpn":
        return shlex.join(["yolofpn", *words])
    if (started.parent.name, started.name) == ("yolofpn", "__main__.py"):
        return shlex.join(["python", "-m", "yolofpn", *words])
    return shlex.join(["python", *sys.argv])


def counted(number: int, thing: str) -> str:
    """'1 image', '2 images', '0 boxes', '3 batches'."""
    if number == 1:
        return f"1 {thing}"
    return f"{number} {thing}{'es' if thing.endswith(('x', 'tch', 's')) else 's'}"


def printable(text: str) -> str:
    r"""``text`` with control characters as ``\u001b`` and the like; tabs and newlines stay."""
    return text.translate(_ESCAPES)


def as_yaml(value: object) -> str:
    """A string, number, list or mapping as text that both JSON and YAML read back.

    YAML takes neither control characters nor JSON's pairs of escapes; what stands for the bytes of a file's name that
    are not UTF-8 is escaped.
    """
    return json.dumps(value, ensure_ascii=False).translate(_UNPRINTABLE_IN_YAML)


def list_line(name: str) -> str:
    """A file's name as a line of a list; in quotes, with JSON's escapes, where it would not be read back as it is."""
    if "\n" in name or "\r" in name or name.strip() != name or name.startswith(('"', "#")):
        return json.dumps(name, ensure_ascii=False).translate(_ESCAPES)
    return name


def from_list_line(line: str) -> str:
    """The name that a line of a list stands for: see ``list_line``; without quotes it is the line itself."""
    if len(line) > 2 and line[0] == line[-1] == '"':
        with suppress(ValueError):
            name = json.loads(line)
            if isinstance(name, str) and "\0" not in name:
                return name
    return line


def one_line_names(names: Sequence[str]) -> list[str]:
    """Class names for a file of one name per line: without line breaks, and by number where nothing else is left."""
    return [" ".join(name.split()) or str(label) for label, name in enumerate(names)]


class _PrintableStream:
    """A text stream that escapes control characters; everything but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._wrapped = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._wrapped, name)

    def __eq__(self, other: object) -> bool:
        return self._wrapped == getattr(other, "_wrapped", other)  # tqdm looks for bars on the same stream

    def __hash__(self) -> int:
        return hash(self._wrapped)

    def write(self, text: str) -> int:
        """Write ``text`` with its control characters escaped."""
        return self._wrapped.write(printable(text))

    def writelines(self, lines: Sequence[str]) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)


class _BarStream(_PrintableStream):
    """What a progress bar writes to: its own movements of the cursor stay, what it shows is escaped."""

    def write(self, text: str) -> int:
        """Write ``text``, in which a carriage return at the start, or cursor movements alone, are the bar's."""
        if _CURSOR_UP.fullmatch(text):
            return self._wrapped.write(text)
        start = "\r" if text.startswith("\r") else ""
        return self._wrapped.write(start + printable(text.removeprefix("\r")))


def bar_stream(stream: TextIO) -> TextIO:
    """``stream`` for a progress bar, which moves the cursor; other control characters are escaped as ever."""
    return cast(TextIO, _BarStream(getattr(stream, "_wrapped", stream)))


@contextmanager
def printable_output() -> Iterator[None]:
    """Standard output and error escape control characters within this context; closed ones take and drop all."""
    before = sys.stdout, sys.stderr
    with ExitStack() as opened:
        # Also keeps the handles 1 and 2 from files that are opened later, which would receive what libraries print.
        streams = [stream or opened.enter_context(open(os.devnull, "w")) for stream in before]  # noqa: PTH123
        sys.stdout, sys.stderr = (cast(TextIO, _PrintableStream(stream)) for stream in streams)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def safe_part(text: str) -> str:
    """``text`` as one part of a path on any file system: odd characters become ``_``, long ones are cut."""
    text = "".join("_" if character in FORBIDDEN or not character.isprintable() else character for character in text)
    text = text.encode("utf-8", "replace")[:LONGEST_PART].decode("utf-8", "ignore")
    return text.strip().rstrip(".")
