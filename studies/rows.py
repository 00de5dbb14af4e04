"""Rows of a study's table: measured figures and the paper's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Mean and standard deviation of a metric over all seeds, in per cent.

    Attributes:
        mean: of them.
        spread: their standard deviation (of the sample), None for a single one.
    """

    mean: float
    spread: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.spread is None else f"{self.mean:.1f} ± {self.spread:.1f}"


@dataclass(frozen=True)
class ComparedRow:
    """One system.

    Attributes:
        title: of the row.
        seeds: with which it was measured.
        measured: a figure for each column of the table; None where there is nothing to find.
        paper_row: the letter of the same system in the paper's table.
        paper: its numbers there, None where it gives none.
    """

    title: str
    seeds: tuple[int, ...]
    measured: tuple[Measured | None, ...]
    paper_row: str | None
    paper: tuple[float | None, ...]
