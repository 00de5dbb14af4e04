"""Text that others wrote (class names, file names, model cards, servers' answers), made safe to show and to store."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, cast

# C0 except tab and newline, DEL and C1: a terminal takes them for commands. The last ones turn the reading direction.
_CONTROLS = [*(code for code in range(32) if code not in (9, 10)), *range(0x7F, 0xA0)]
_CONTROLS += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}
_UNPRINTABLE_IN_YAML = _ESCAPES | {code: f"\\u{code:04x}" for code in (*range(0xD800, 0xE000), 0xFEFF, 0xFFFE, 0xFFFF)}
_CURSOR_UP = re.compile(r"(?:\x1b\[A)+")


def printable(text: str) -> str:
    r"""``text`` with control characters as ``\u001b`` and the like; tabs and newlines stay."""
    return text.translate(_ESCAPES)


def as_yaml(value: object) -> str:
    """A string, number, list or mapping as text that both JSON and YAML read back.

    YAML takes neither control characters nor JSON's pairs of escapes; what stands for the bytes of a file's name that
    are not UTF-8 is escaped.
    """
    return json.dumps(value, ensure_ascii=False).translate(_UNPRINTABLE_IN_YAML)


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
        """Write ``text``; a carriage return at its start, and cursor movements of several bars, are tqdm's."""
        if _CURSOR_UP.fullmatch(text) and _several_bars():
            return self._wrapped.write(text)
        bare = text.lstrip("\r")
        return self._wrapped.write(text[: len(text) - len(bare)] + printable(bare))

    def writelines(self, lines: Sequence[str]) -> None:
        """Write each of ``lines``."""
        for line in lines:
            self.write(line)


def _several_bars() -> bool:
    tqdm = sys.modules.get("tqdm")
    return tqdm is not None and len(getattr(tqdm.tqdm, "_instances", ())) > 1


@contextmanager
def printable_output() -> Iterator[None]:
    """Standard output and error escape control characters within this context."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _PrintableStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
