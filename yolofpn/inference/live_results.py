"""Detections in live sources as they come: all sources share one pass of the network, nobody waits for another."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from threading import Condition
from typing import Protocol

from yolofpn.errors import InputError
from yolofpn.inference.pipeline import Starter, results_of
from yolofpn.results import Failure, Result, Results
from yolofpn.sources.kinds import Source, failed_source
from yolofpn.sources.live.capture import Counters
from yolofpn.structures import Detections, Frame, Limits

APART = "live sources and files do not mix, as live ones have no end; give each kind a run of its own"
TICK = 0.1  # seconds between two looks at sources that deliver nothing


class LiveReport(Protocol):
    """Is told what happens to live sources; a ``Report`` is one."""

    def note(self, line: str) -> None:
        """Something went wrong from which the run may recover, or has recovered."""
        ...

    def count_live(self, source: Source, counters: Counters) -> None:
        """How a source did."""
        ...


class LiveResults(Iterator[Result | Failure]):
    """Detections of the newest frame of each source, batch by batch, until all sources end or it is stopped.

    A pass begins as soon as any source has a new frame, and takes the newest of every source that has one. Nothing is
    done ahead, so a result is as old as its own way through the network. A source that cannot be reached is reported,
    and tried again as long as there are others.

    Args:
        sources: live ones, which are opened at once, and failed ones.
        predictor: for all of them.
        report: is told what happens to the sources.
        limits: which predictions become detections; by default the predictor's own.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        predictor: Starter,
        report: LiveReport | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        self._predictor = predictor
        self._limits = limits
        self._report = report
        self._changed = Condition()
        live = [source for source in sources if source.kind == "stream"]
        self._failures = [Failure(_message_of(source)) for source in sources if source.kind != "stream"]
        self._captures = [(source, source.open_live(self._changed)) for source in live]
        self._failed: set[Source] = set()
        self._found: dict[Source, Detections] = {}  # in the last frame of each
        self._stopped = False
        self._peeked: Result | Failure | None = None
        self._results = self._run()
        with ExitStack() as started:  # if one does not start, those before it are released
            for _, capture in self._captures:
                started.enter_context(capture)
            self._running = started.pop_all()

    def __next__(self) -> Result | Failure:
        if self._peeked is None:
            return next(self._results)
        result, self._peeked = self._peeked, None
        return result

    def peek(self) -> Result | Failure | None:
        """Return the next item without consuming it; None at the end."""
        if self._peeked is None:
            self._peeked = next(self._results, None)
        return self._peeked

    def stop(self) -> None:
        """Start no further batch."""
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
            if source in self._found and self._report is not None:
                self._report.count_live(source, capture.counters)

    def _run(self) -> Iterator[Result | Failure]:
        yield from self._failures
        while not self._stopped:
            taken = [(source, frame) for source, capture in self._captures if (frame := capture.take())]
            yield from self._news()
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
        found = self._predictor.start([frame.image for _, frame in frames], self._limits).result()
        seconds = (time.perf_counter() - start) / len(frames)
        for (source, frame), detections in zip(frames, found, strict=True):
            self._found[source] = detections
            yield Result(source, frame, detections, seconds)

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or any(capture.ready for _, capture in self._captures), TICK)

    def _news(self) -> Iterator[Failure]:
        for source, capture in self._captures:
            for line in capture.news():
                if self._report is not None:
                    self._report.note(line)
            if capture.failure and source not in self._failed:
                self._failed.add(source)
                yield Failure(capture.failure)


def open_results(
    sources: Iterator[Source],
    predictor: Starter,
    batch_size: int = 1,
    *,
    limits: Limits | None = None,
    report: LiveReport | None = None,
) -> Results:
    """The results of all ``sources``: of live ones beside each other, of files one after the other.

    The first one that is there decides; those of the other kind fail, because nothing would ever be reached behind a
    source without an end.

    Args:
        sources: the live ones among them are all asked for, files only until the first is found.
        predictor: for all of them.
        batch_size: images of a batch; live sources share one.
        limits: which predictions become detections; by default the predictor's own.
        report: is told what happens to live sources.
    """
    head: list[Source] = []
    try:
        for source in sources:
            head.append(source)
            if source.kind == "stream":
                found = _all(chain(head, sources))
                wanted = [each if each.kind in ("stream", "failed") else _failed(each) for each in found]
                return LiveResults(wanted, predictor, report, limits=limits)
            if source.kind != "failed":
                break
    except InputError as error:
        head.append(failed_source("sources", str(error)))
    files = (_failed(source) if source.kind == "stream" else source for source in chain(head, sources))
    return results_of(files, predictor, batch_size=batch_size, limits=limits)


def _all(sources: Iterator[Source]) -> list[Source]:
    """All of them, with a failed one in the place of what cannot be had."""
    found: list[Source] = []
    while True:
        try:
            source = next(sources, None)
            if source is None:
                return found
            found.append(source)
        except InputError as error:
            found.append(failed_source("sources", str(error)))


def _failed(source: Source) -> Source:
    return failed_source(source.name, f"{source.name}: {APART}")


def _message_of(failed: Source) -> str:
    try:
        next(failed.frames())
    except InputError as error:
        return str(error)
    raise AssertionError("a failed source gives no frames")
