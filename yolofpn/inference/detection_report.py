"""Messages of a detection run: progress, failures, summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from yolofpn.inference.tracked_results import TrackCounts
from yolofpn.results import Failure, Result
from yolofpn.sources.live.capture import Counters
from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections
from yolofpn.text import bar_stream, counted

if TYPE_CHECKING:
    from tqdm import tqdm

IMAGES_BY_LINE = 20
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal that a bar could be drawn on


class Report:
    """Lines for the first images, a bar for more of them and for every video, and a summary.

    Args:
        stream: where it is printed; what went wrong goes to standard error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._images = 0
        self._frames = 0
        self._failures = 0
        self._classes: Counter[str] = Counter()
        self._network_seconds = 0.0
        self._start = time.perf_counter()
        self._progress: dict[Source | None, ProgressLines] = {}
        self._live: list[str] = []
        self.tracks: Mapping[Source, TrackCounts] = {}  # filled by the run if objects are tracked

    def start_clock(self) -> None:
        """Start the timer of the end-to-end speed."""
        self._start = time.perf_counter()

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        _print(line, self._stream)

    def fail(self, line: str) -> None:
        """Say that an input could not be used, or only in part."""
        self._failures += 1
        _print(f"failed: {line}", sys.stderr)

    def note(self, line: str) -> None:
        """Report a problem from which the run may recover or has recovered."""
        _print(line, sys.stderr)

    def stop(self, line: str) -> None:
        """Report why the run was interrupted."""
        _print(line, sys.stderr)

    def take(self, item: Result | Failure) -> None:
        """An image or frame is done, or could not be used. Repeated frames of a silent live source do not count."""
        if isinstance(item, Failure):
            self.fail(item.message)
            return
        source, frame, detections, seconds = item.source, item.frame, item.detections, item.seconds
        if frame.stale:
            return
        self._network_seconds += seconds
        self._classes.update(detections.counts())
        if source.kind == "image":
            self._images += 1
            if self._images <= IMAGES_BY_LINE:
                self._end_progress()
                height, width = frame.size
                self.say(f"{source.name} {width}x{height}: {describe(detections)} ({seconds * 1000:.0f} ms)")
                return
        else:
            self._frames += 1
        self._progress_of(source).advance(detections)

    def count_live(self, source: Source, counters: Counters) -> None:
        """Format the counters of a live source for the summary."""
        self._live.append(
            f"{source.name}: {counted(counters.received, 'frame')} received, {counters.dropped} dropped, "
            f"{counted(counters.reconnects, 'reconnect')}, stale for {counters.stale_seconds:.0f} s"
        )

    def finish(self, output: Path | None) -> int:
        """Print the summary; the exit code: 1 if an input failed, else 0."""
        self._end_progress()
        for line in self._live:
            self.say(line)
        done = [counted(self._images, "image")] if self._images or not self._frames else []
        done += [counted(self._frames, "frame")] if self._frames else []
        failed = f", {self._failures} failed" if self._failures else ""
        found = ", ".join(f"{count} {name}" for name, count in self._classes.most_common()) or "nothing"
        self.say(f"{' and '.join(done)}{failed}: found {found}")
        count = self._images + self._frames
        network = count / max(self._network_seconds, 1e-9)
        end_to_end = count / max(time.perf_counter() - self._start, 1e-9)
        for source, counts in self.tracks.items():
            for line in describe_tracks(counts):
                self.say(f"{source.name}: {line}" if len(self.tracks) > 1 else line)
        self.say(f"{network:.1f} FPS network, {end_to_end:.1f} FPS end to end")
        if output is not None:
            self.say(f"results: {output}")
        return 1 if self._failures else 0

    def _progress_of(self, source: Source) -> ProgressLines:
        """That of ``source``; all images share one, and live sources run beside each other."""
        key = None if source.kind == "image" else source
        if key not in self._progress:
            if source.kind != "stream":
                self._end_progress()
            self._progress[key] = ProgressLines(self._stream, key)
        return self._progress[key]

    def _end_progress(self) -> None:
        for progress in self._progress.values():
            progress.close()
        self._progress.clear()


class ProgressLines:
    """How far one video, or many images, have come: a bar on a terminal, else a line now and then and at the end.

    Args:
        stream: where it is printed.
        source: the video; None for images.
    """

    def __init__(self, stream: TextIO, source: Source | None) -> None:
        self.source = source
        self._stream = stream
        self._name = source.name if source else "more images"
        self._unit = "frame" if source else "image"
        self._done = 0
        self._last_line = time.perf_counter()
        self._bar: tqdm[NoReturn] | None = None
        if stream.isatty():
            from tqdm import tqdm  # not for a few images

            total = source.frame_count if source else None
            file = bar_stream(stream)
            self._bar = tqdm(total=total, desc=self._name, unit=self._unit, file=file, dynamic_ncols=True)

    def advance(self, detections: Detections) -> None:
        """Advance by one."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        elif time.perf_counter() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.perf_counter()
            _print(f"{self._name}: {counted(self._done, self._unit)} so far, now {describe(detections)}", self._stream)

    def close(self) -> None:
        """No more are to come."""
        if self._bar is not None:
            self._bar.close()
        else:
            _print(f"{self._name}: {counted(self._done, self._unit)}", self._stream)


def describe_tracks(counts: TrackCounts) -> list[str]:
    """'tracked 3 person, 1 dog', and for each line and zone 'door: 2 in (2 person), 1 out (1 person)'."""
    tracked = ", ".join(f"{count} {name}" for name, count in counts.started.most_common()) or "nothing"
    lines = [f"tracked {tracked}"]
    for shape in counts.shapes:
        by_direction = zip(("in", "out"), (shape.entered, shape.left), (0, 1), strict=True)
        parts = []
        for direction, total, column in by_direction:
            classes = ", ".join(f"{both[column]} {name}" for name, both in shape.by_class.items() if both[column])
            parts.append(f"{total} {direction}" + (f" ({classes})" if classes else ""))
        inside = "" if shape.is_line else f", {len(shape.inside)} inside at the end"
        lines.append(f"{shape.name}: {', '.join(parts)}{inside}")
    return lines


def describe(detections: Detections) -> str:
    """'1 bicycle .98, 2 dog .99' with the best score of each class, or 'nothing'."""
    best: dict[str, float] = {}
    for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True):
        name = detections.name_of(label)
        best[name] = max(best.get(name, 0.0), score)
    counts = detections.counts()
    return ", ".join(f"{counts[name]} {name} {_score(score)}" for name, score in best.items()) or "nothing"


def _print(line: str, stream: TextIO) -> None:
    if "tqdm" not in sys.modules:  # there is no bar
        print(line, file=stream, flush=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=stream):
        print(line, file=stream, flush=True)


def _score(score: float) -> str:
    return f"{score:.2f}".removeprefix("0")
