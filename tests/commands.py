"""Runs commands within the test process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Outcome:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


def call(main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    """Run a command; an unexpected error is raised."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    printed = capsys.readouterr()
    return Outcome(code, printed.out, printed.err)
