"""Estimates the workload of a run from its sources before they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape, has_magic
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from yolofpn.data.images import VIDEO_SUFFIXES
from yolofpn.sources.patterns import matching_paths
from yolofpn.sources.remote import STREAM_SCHEMES

# few: the next image may be the last; live: each result is awaited; many: it is the sum that counts.
Workload: TypeAlias = Literal["few", "live", "many"]
MANY = 200  # pictures that are worth the seconds that a faster graph takes to make


def expected_workload(specs: Sequence[str]) -> Workload:
    """Return the workload of sources of ``detect.py``; 'live' if one is a camera or a stream."""
    if any(spec.isdecimal() or spec.partition("://")[0].lower() in STREAM_SCHEMES for spec in specs):
        return "live"
    if len(specs) >= MANY or any(_holds_much(Path(spec)) for spec in specs):
        return "many"
    return "few"


def _holds_much(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES or path.suffix == ".txt":
        return True
    pattern = str(path) if has_magic(str(path)) else str(Path(escape(str(path)), "**"))
    names = [Path(name) for name in islice(matching_paths(pattern), MANY)]
    return len(names) >= MANY or any(name.suffix.lower() in VIDEO_SUFFIXES for name in names)
