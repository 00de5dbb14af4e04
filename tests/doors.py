"""Calling the doors as a shell does, but within this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a door left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str


def call(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """Run a door; a traceback would come out of it as an exception."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    printed = capsys.readouterr()
    return Outcome(code, printed.out, printed.err)
