"""Typed access to the ``key=value`` lines of a section; errors name file and line."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from yolofpn.errors import UserError

MAX_INTEGER = 1_000_000  # above any real value; below it no size leaves PyTorch's range
MAX_NUMBER = 1e6


@dataclass(frozen=True)
class Entry:
    """A value and its line number (from 1)."""

    value: str
    line: int


class Options:
    """The keys of one section.

    Each reader notes its key as known; ``finish`` then refuses the keys that nobody asked for. All of them raise
    UserError with file, line, section and key.

    Args:
        origin: the file's name, as errors show it.
        section: the section's name without brackets.
        line: the line of the section's head, from 1.
    """

    def __init__(self, origin: str, section: str, line: int) -> None:
        self.origin = origin
        self.section = section
        self.line = line
        self._entries: dict[str, Entry] = {}
        self._repeated: dict[str, Entry] = {}
        self._known: set[str] = set()

    def add(self, key: str, value: str, line: int) -> None:
        """Add one line of the file."""
        if key not in self._entries:
            self._entries[key] = Entry(value, line)
        elif self._entries[key].value != value:
            self._repeated[key] = Entry(value, line)

    def error(self, message: str, key: str | None = None) -> UserError:
        """Return an error at the line of ``key``, or at the section's header if the key is missing."""
        line = self._entries[key].line if key in self._entries else self.line
        return UserError(f"{self.origin}: line {line}: [{self.section}] {message}")

    def missing(self, key: str) -> UserError:
        """Return the error that ``key`` is missing; it names the line of a probable misspelling."""
        near = difflib.get_close_matches(key, sorted(self._entries.keys() - self._known), n=1)
        hint = f" (did you mean it by {near[0]!r}?)" if near else ""
        return self.error(f"{key}= is missing{hint}", near[0] if near else None)

    def text(self, key: str) -> str | None:
        """Return the value of ``key``; None if it is missing."""
        self._known.add(key)
        # Darknet takes the first of two, other readers the last: there is no right answer.
        if key in self._repeated:
            first, second = self._entries[key], self._repeated[key]
            raise self.error(f"{key}={first.value} becomes {key}={second.value} on line {second.line}: keep one", key)
        return self._entries[key].value if key in self._entries else None

    def integer(self, key: str, default: int, minimum: int = 1, maximum: int = MAX_INTEGER) -> int:
        """Read an integer from ``minimum`` to ``maximum``."""
        text = self.text(key)
        if text is None:
            return default
        value = self._integer(key, text)
        if value < minimum:
            raise self.error(f"{key}={text}: must be at least {minimum}", key)
        if value > maximum:
            raise self.error(f"{key}={_short(text)}: must be at most {maximum}", key)
        return value

    def number(self, key: str, default: float) -> float:
        """Read a finite number."""
        text = self.text(key)
        return default if text is None else self._number(key, text)

    def flag(self, key: str, default: bool = False) -> bool:
        """Read 0 or 1."""
        text = self.text(key)
        if text not in (None, "0", "1"):
            raise self.error(f"{key}={_short(text or '')}: must be 0 or 1", key)
        return default if text is None else text == "1"

    def integers(self, key: str) -> tuple[int, ...]:
        """Read comma-separated integers; empty if the key is missing."""
        return tuple(self._integer(key, item) for item in self._items(key))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Read comma-separated finite numbers; empty if the key is missing."""
        return tuple(self._number(key, item) for item in self._items(key))

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """Read one of ``choices``."""
        text = self.text(key)
        if text is not None and text not in choices:
            near = difflib.get_close_matches(text, choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"supported: {', '.join(choices)}"
            raise self.error(f"{key}={text} is not supported ({hint})", key)
        return default if text is None else text

    def only(self, value: float, *keys: str) -> None:
        """Reject these keys with any value other than ``value``, because it would have an unsupported effect."""
        for key in keys:
            if self.number(key, value) != value:
                raise self.error(f"{key}={self.text(key)} is not supported, only {key}={value:g}", key)

    def never(self, *keys: str) -> None:
        """Reject these keys with any value."""
        for key in keys:
            if self.text(key) is not None:
                raise self.error(f"{key}= is not supported", key)

    def finish(self, ignored: frozenset[str]) -> list[str]:
        """Return the unknown keys with their lines: those not read and not ``ignored``.

        Darknet ignores them. Probable misspellings of known keys are rejected.
        """
        unknown = []
        for key in self._entries:
            if key in self._known or key in ignored:
                continue
            near = difflib.get_close_matches(key, sorted(self._known | ignored), n=1, cutoff=0.8)
            if near and near[0] in self._known:
                raise self.error(f"unknown key {_short(key)!r} (did you mean {near[0]!r}?)", key)
            unknown.append(f"{_short(key)} (line {self._entries[key].line})")
        return unknown

    def _items(self, key: str) -> list[str]:
        text = self.text(key)
        return [] if text is None else text.rstrip(",").split(",")

    def _integer(self, key: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:  # too many digits, too
            raise self.error(f"{key}={_short(self.text(key) or '')}: {_short(text)!r} is not an integer", key) from None

    def _number(self, key: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or abs(value) > MAX_NUMBER:
            reason = "is not a number" if not math.isfinite(value) else f"is beyond {MAX_NUMBER:,.0f}"
            raise self.error(f"{key}={_short(self.text(key) or '')}: {_short(text)!r} {reason}", key)
        return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
