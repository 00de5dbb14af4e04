"""Durations for people."""

from __future__ import annotations


def describe_time(seconds: float) -> str:
    """'8 s', '12 min' or '3.5 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
