"""Flags of tracking."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from yolofpn import tracking
from yolofpn.cli.arguments import Parser

if TYPE_CHECKING:
    from yolofpn.tracking.source_tracks import TrackOptions

NamedNumbers = tuple[str, tuple[float, ...]]


def add_track_flags(parser: Parser) -> None:
    """Add the flags for tracking and counting."""
    add = parser.add_argument
    add("--track", action="store_true", help="track objects through videos and streams; needs the extra 'track'")
    methods = "; ".join(f"{tracker.key}: {tracker.help}" for tracker in tracking.TRACKERS)
    add(
        "--tracker",
        choices=[tracker.key for tracker in tracking.TRACKERS],
        help=f"tracking method; default: {tracking.TRACKERS[0].key}; {methods}",
    )
    add(
        "--line",
        type=_points(4, 4),
        action="append",
        default=[],
        metavar="[NAME=]X1,Y1,X2,Y2",
        help="count tracked objects that cross a line, in both directions; pixels, or fractions of width and height if "
        "no number exceeds 1; repeatable",
    )
    add(
        "--zone",
        type=_points(6, 200),
        action="append",
        default=[],
        metavar="[NAME=]X1,Y1,X2,Y2,X3,Y3,...",
        help="count tracked objects that enter, leave and are inside a polygon; repeatable",
    )


def take_tracking(arguments: argparse.Namespace) -> TrackOptions | None:
    """Remove the flags of ``add_track_flags`` from ``arguments``; return their options, None without tracking.

    Raises:
        UserError: a line or zone is impossible.
    """
    wanted, tracker, lines, zones = (arguments.__dict__.pop(key) for key in ("track", "tracker", "line", "zone"))
    if not (wanted or tracker or lines or zones):
        return None
    from yolofpn.tracking.shapes import Shape
    from yolofpn.tracking.source_tracks import TrackOptions

    shapes = [
        Shape(name or f"{kind} {number}", tuple(zip(values[::2], values[1::2], strict=True)))
        for kind, given in (("line", lines), ("zone", zones))
        for number, (name, values) in enumerate(given, 1)
    ]
    return TrackOptions(tracker, tuple(shapes))


class _points:
    """Parses 'door=10,20,30,40' into its name, empty if there is none, and ``least`` to ``most`` numbers."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> NamedNumbers:
        name, _, numbers = text.rpartition("=")
        try:
            values = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r}: the coordinates are not numbers, such as door=10,20,30,40"
            ) from None
        if not self._least <= len(values) <= self._most or len(values) % 2:
            wanted = f"{self._least}" if self._least == self._most else f"an even number, at least {self._least},"
            raise argparse.ArgumentTypeError(f"{text!r} has {len(values)} coordinates, not {wanted}")
        return name.strip(), values
