"""Reading, detecting and writing at the same time, each in a thread of its own with few pictures between them.

PyAV, OpenCV and the networks let other threads run while they work, so on two processors the network hardly waits for
the decoder or the encoder. Everything stays in its order, and each stage is an ordinary generator.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from yolofpn.concurrency import Background
from yolofpn.errors import InputError
from yolofpn.inference.predictor import InFlight, Predictor
from yolofpn.inference.report import Report
from yolofpn.results import Result, Results
from yolofpn.sinks.build import Sinks
from yolofpn.sources.resolve import Source
from yolofpn.structures import Frame, Limits
from yolofpn.view.thresholds import above

AHEAD = 4  # pictures that may wait between two stages
LIMIT = 64 << 20  # bytes of pictures from which no more are read: large ones wait alone


def results_of(
    sources: Iterator[Source], predictor: Predictor, report: Report, *, batch_size: int = 1
) -> Background[Result]:
    """Every picture and frame of ``sources``, one after the other, with what is in it.

    Whoever takes the results must ``close`` them, whatever happens. ``LiveResults`` are those of live sources, whose
    frames may be dropped but not wait.

    Args:
        sources: are asked for one after the other, each when the one before it has ended.
        predictor: is used by one thread alone.
        report: is told which sources failed.
        batch_size: pictures that share a pass of the network.
    """
    frames = Background(read_frames(sources, report), ahead=max(AHEAD, batch_size), weight=_bytes_of, limit=LIMIT)
    results = detect_frames(frames, predictor, batch_size)
    return Background(results, upstream=frames, ahead=AHEAD, weight=_bytes_of_result, limit=LIMIT)


def written(results: Results, sinks: Sinks, report: Report, shown: Limits | None = None) -> Background[Result]:
    """The same results, each once all sinks have taken it; ends when ``results`` ends, stops or is closed.

    Args:
        results: are taken in a thread of its own.
        sinks: every result goes there.
        report: is told what they cannot take.
        shown: given if there is a window: what is above these thresholds is written, the rest becomes ``candidates``;
            and no result waits for the window, because what is seen of a live source would be old.
    """

    def write() -> Iterator[Result]:
        for result in results:
            if shown is not None:
                kept = above(result.detections, shown.score_thresh)
                result = replace(result, detections=kept, candidates=result.detections)
            try:
                sinks.write(result.source, result.frame, result.detections)
            except InputError as error:  # a picture too large for any format; the others go on
                report.fail(f"{result.source.name}: {error}")
            yield result

    return Background(write(), ahead=1 if shown else AHEAD, weight=_bytes_of_result, limit=LIMIT)


def read_frames(sources: Iterator[Source], report: Report) -> Iterator[tuple[Source, Frame]]:
    """Every frame of every source; a source that fails is reported, and the next one goes on."""
    count = 0
    while True:
        try:
            source = next(sources, None)
            if source is None:
                return
            for frame in source.frames():
                yield source, frame
                count += 1
        except InputError as error:
            report.fail(str(error), after=count)


@dataclass(frozen=True)
class _Batch:
    members: list[tuple[Source, Frame]]
    started: InFlight
    seconds: float


def detect_frames(frames: Background[tuple[Source, Frame]], predictor: Predictor, batch_size: int) -> Iterator[Result]:
    """Results in the order of the frames, with as many batches in the network at once as pay off there.

    No result is held back while the next frame has yet to come; and what was read before a reader broke is finished.
    """
    in_flight: deque[_Batch] = deque()
    error: Exception | None = None
    while error is None:
        members, error = _take(frames, batch_size)
        if members:
            in_flight.append(_start(members, predictor))
        elif error is None:
            break
        while in_flight and (len(in_flight) >= predictor.backend.slots or not frames.ready):
            yield from _finish(in_flight.popleft())
    while in_flight:
        yield from _finish(in_flight.popleft())
    if error is not None:
        raise error


def _take(frames: Iterator[tuple[Source, Frame]], count: int) -> tuple[list[tuple[Source, Frame]], Exception | None]:
    """Up to ``count`` frames, fewer at the end or before an error, which comes along; none once they have ended."""
    taken: list[tuple[Source, Frame]] = []
    try:
        while len(taken) < count and (frame := next(frames, None)):
            taken.append(frame)
    except Exception as error:  # whatever broke the reader is told after what it has read
        return taken, error
    return taken, None


def _start(members: list[tuple[Source, Frame]], predictor: Predictor) -> _Batch:
    start = time.perf_counter()
    started = predictor.start([frame.image for _, frame in members])
    return _Batch(members, started, time.perf_counter() - start)


def _finish(batch: _Batch) -> Iterator[Result]:
    start = time.perf_counter()
    found = batch.started.result()
    seconds = (batch.seconds + time.perf_counter() - start) / len(batch.members)
    for (source, frame), detections in zip(batch.members, found, strict=True):
        yield Result(source, frame, detections, seconds)


def _bytes_of(item: tuple[Source, Frame]) -> int:
    return item[1].image.nbytes


def _bytes_of_result(result: Result) -> int:
    return result.frame.image.nbytes
