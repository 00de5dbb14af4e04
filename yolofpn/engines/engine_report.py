"""Messages of a run by an engine: progress, failures, summary."""

from __future__ import annotations

import sys
import time
from collections import Counter

from yolofpn.engines.unit_detector import UnitReport, peak_memory
from yolofpn.text import counted

MOST_FAILURES = 20  # that are printed; the output has all of them
SECONDS_BETWEEN_LINES = 10.0


class EngineReport:
    """Counts what the workers report, and prints a line now and then.

    Attributes:
        images: number of images that have detections, or none, but no error.
        failed: number of images that could not be used.
    """

    def __init__(self) -> None:
        self.images = self.failed = 0
        self._printed = 0
        self._classes: Counter[str] = Counter()
        self._peaks: dict[int, int] = {}
        self._start = self._last_line = time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)

    def take(self, unit: UnitReport) -> None:
        """A unit is done."""
        self.images += unit.images
        self.failed += unit.failed
        self._classes.update(unit.classes)
        self._peaks[unit.worker] = unit.peak
        for message in unit.messages[: MOST_FAILURES - self._printed]:
            self._printed += 1
            print(f"failed: {message}", file=sys.stderr, flush=True)
        if time.perf_counter() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.perf_counter()
            self.say(f"{counted(self.images, 'image')} so far{self._failures()}, {self._speed():.1f} per second")

    def finish(self, output: str) -> None:
        """Print the summary."""
        if self.failed > self._printed:
            hidden = self.failed - self._printed
            print(f"failed: {hidden} more, which the results name with their errors", file=sys.stderr, flush=True)
        found = ", ".join(f"{count} {name}" for name, count in self._classes.most_common()) or "nothing"
        self.say(f"{counted(self.images, 'image')}{self._failures()}: found {found}")
        self.say(
            f"{self._speed():.1f} FPS end to end, {counted(len(self._peaks), 'worker')}; peak memory: driver "
            f"{peak_memory() >> 20} MiB, worker {max(self._peaks.values(), default=0) >> 20} MiB"
        )
        self.say(f"results: {output}")

    def _failures(self) -> str:
        return f", {self.failed} failed" if self.failed else ""

    def _speed(self) -> float:
        return (self.images + self.failed) / max(time.perf_counter() - self._start, 1e-9)
