"""What a detection run tells its user while it goes on and when it is over."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn, TextIO

from tqdm import tqdm

from yolofpn.errors import UserError
from yolofpn.inference.sources import Source
from yolofpn.structures import Detections, Frame

PICTURES_BY_LINE = 20
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal that a bar could be drawn on


class Report:
    """Lines for the first pictures, a bar for more and for videos, and a summary.

    Args:
        stream: where it is printed; failures go to stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.interrupted = False
        self._frames = 0
        self._pictures = 0
        self._network_seconds = 0.0
        self._classes: Counter[str] = Counter()
        self._failures = 0
        self._bar: tqdm[NoReturn] | None = None
        self._bar_source: Source | None = None
        self._start = time.perf_counter()
        self._last_line = self._start

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        with tqdm.external_write_mode(file=self.stream):
            print(line, file=self.stream, flush=True)

    def fail(self, line: str) -> None:
        """An input that could not be used, or only in part."""
        self._failures += 1
        with tqdm.external_write_mode(file=sys.stderr):
            print(f"failed: {line}", file=sys.stderr, flush=True)

    def add(self, source: Source, frame: Frame, detections: Detections, seconds: float) -> None:
        """A picture or frame is done; ``seconds`` is its share of the network's time, from pixels to boxes."""
        self._frames += 1
        self._network_seconds += seconds
        self._classes.update(detections.counts())
        if source.kind == "image":
            self._pictures += 1
            if self._pictures <= PICTURES_BY_LINE:
                height, width = frame.size
                self.say(f"{source.name} {width}x{height}: {describe(detections)} ({seconds * 1000:.0f} ms)")
                return
        self._advance(source, detections)

    def finish(self, output: Path | None) -> int:
        """Print the summary; the exit code.

        Raises:
            UserError: not one picture or frame could be used.
        """
        self._close_bar()
        if self.interrupted:
            print("interrupted: what was done so far is kept", file=sys.stderr)
        if self._frames == 0 and not self.interrupted:
            raise UserError("nothing was detected on: no input could be read")
        self.say(self._summary())
        if output is not None:
            self.say(f"results: {output}")
        return 1 if self._failures or self.interrupted else 0

    def _summary(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in self._classes.most_common()) or "nothing found"
        network = self._frames / max(self._network_seconds, 1e-9)
        total = self._frames / max(time.perf_counter() - self._start, 1e-9)
        failures = f", {self._failures} failed" if self._failures else ""
        pictures = "1 picture" if self._frames == 1 else f"{self._frames} pictures"
        return f"{pictures}{failures}: {found}\n{network:.1f} FPS network, {total:.1f} FPS end to end"

    def _advance(self, source: Source, detections: Detections) -> None:
        if not self.stream.isatty():
            if time.perf_counter() - self._last_line > SECONDS_BETWEEN_LINES:
                self._last_line = time.perf_counter()
                self.say(f"{source.name}: {self._frames} frames done, now {describe(detections)}")
            return
        moving = source.kind != "image"
        if self._bar is None or (moving and source is not self._bar_source):
            self._close_bar()
            total = source.frame_count if moving else None
            self._bar = tqdm(total=total, desc=source.name if moving else "pictures", file=self.stream, unit="frame")
            self._bar_source = source
        self._bar.update()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def describe(detections: Detections) -> str:
    """'1 bicycle .98, 2 dog .99' with the best score of each class, or 'nothing'."""
    if not len(detections):
        return "nothing"
    best: dict[str, float] = {}
    for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True):
        name = detections.name_of(label)
        best[name] = max(best.get(name, 0.0), score)
    counts = detections.counts()
    return ", ".join(f"{counts[name]} {name} {_score(score)}" for name, score in best.items())


def _score(score: float) -> str:
    return f"{score:.2f}".removeprefix("0")
