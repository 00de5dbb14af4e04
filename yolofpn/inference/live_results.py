"""Detections in live sources as they come: all sources share one pass of the network, nobody waits for another."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from threading import Condition

from yolofpn.errors import InputError
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.report import Report
from yolofpn.results import Result
from yolofpn.sources.kinds import Source, failed_source
from yolofpn.structures import Detections, Frame

APART = "live sources and files do not mix, as live ones have no end; give each kind a run of its own"
TICK = 0.1  # seconds between two looks at sources that deliver nothing


class LiveResults(Iterator[Result]):
    """What is in the newest frame of each source, pass by pass, until all end or it is stopped.

    A pass begins as soon as any source has a new frame, and takes the newest of every source that has one. Nothing is
    done ahead, so a result is as old as its own way through the network. A source that cannot be reached is reported,
    and tried again as long as there are others.

    Args:
        sources: live ones; they are opened at once.
        predictor: for all of them.
        report: is told what happens to the sources.
    """

    def __init__(self, sources: Sequence[Source], predictor: Predictor, report: Report) -> None:
        self._predictor = predictor
        self._report = report
        self._changed = Condition()
        self._captures = [(source, source.open_live(self._changed)) for source in sources]
        self._failed: set[Source] = set()
        self._found: dict[Source, Detections] = {}  # in the last frame of each
        self._stopped = False
        self._peeked: Result | None = None
        self._results = self._run()
        self._running = ExitStack()
        for _, capture in self._captures:
            self._running.enter_context(capture)

    def __next__(self) -> Result:
        if self._peeked is None:
            return next(self._results)
        result, self._peeked = self._peeked, None
        return result

    def peek(self) -> Result | None:
        """What ``next`` will give, or None at the end."""
        if self._peeked is None:
            self._peeked = next(self._results, None)
        return self._peeked

    def stop(self) -> None:
        """Begin no further pass."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and release the sources; the report is told how each of them did."""
        self.stop()
        for _, capture in self._captures:
            capture.stop()
        self._running.close()
        for source, capture in self._captures:
            if source in self._found:
                self._report.count_live(source, capture.counters)

    def _run(self) -> Iterator[Result]:
        while not self._stopped:
            taken = [(source, frame) for source, capture in self._captures if (frame := capture.take())]
            self._tell()
            yield from self._detect([(source, frame) for source, frame in taken if not frame.stale])
            for source, frame in taken:
                if frame.stale:
                    yield Result(source, frame, self._found[source], 0.0)
            if not taken and all(capture.ended or capture.failure for _, capture in self._captures):
                return
            self._wait()

    def _detect(self, frames: Sequence[tuple[Source, Frame]]) -> Iterator[Result]:
        if not frames:
            return
        start = time.perf_counter()
        found = self._predictor.predict([frame.image for _, frame in frames])
        seconds = (time.perf_counter() - start) / len(frames)
        for (source, frame), detections in zip(frames, found, strict=True):
            self._found[source] = detections
            yield Result(source, frame, detections, seconds)

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or any(capture.ready for _, capture in self._captures), TICK)

    def _tell(self) -> None:
        for source, capture in self._captures:
            for line in capture.news():
                self._report.note(line)
            if capture.failure and source not in self._failed:
                self._failed.add(source)
                self._report.fail(capture.failure)


def live_or_not(sources: Iterator[Source], report: Report) -> tuple[list[Source], Iterator[Source]]:
    """All of ``sources`` if they are live, or else the same sources to be read one after the other.

    The first one that is there decides; those of the other kind fail, because nothing would ever be reached behind a
    source without an end.

    Args:
        sources: the live ones among them are all asked for, files only until the first is found.
        report: is told which live sources cannot be had, and of files among them.
    """
    head: list[Source] = []
    try:
        for source in sources:
            head.append(source)
            if source.kind == "stream":
                return _live_ones(chain(head, sources), report), iter(())
            if source.kind != "failed":
                break
    except InputError as error:
        report.fail(str(error))
    return [], (_failed(source) if source.kind == "stream" else source for source in chain(head, sources))


def _live_ones(sources: Iterator[Source], report: Report) -> list[Source]:
    live: list[Source] = []
    while True:
        try:
            source = next(sources, None)
            if source is None:
                return live
            if source.kind == "stream":
                live.append(source)
            else:
                next((source if source.kind == "failed" else _failed(source)).frames())
        except InputError as error:
            report.fail(str(error))


def _failed(source: Source) -> Source:
    return failed_source(source.name, f"{source.name}: {APART}")
