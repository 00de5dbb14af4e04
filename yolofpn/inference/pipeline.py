"""Reading, detecting and writing at the same time, each in a thread of its own with few images between them.

PyAV, OpenCV and the networks let other threads run while they work, so on two processors the network hardly waits for
the decoder or the encoder. Everything stays in its order, and each stage is an ordinary generator.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from yolofpn.concurrency import Background
from yolofpn.errors import InputError
from yolofpn.results import Failure, Result, Results
from yolofpn.sinks.opened import Sinks
from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections, Frame, Image, Limits
from yolofpn.view.shown_thresholds import above

AHEAD = 4  # images that may wait between two stages
LIMIT = 64 << 20  # bytes of images from which no more are read: large ones wait alone


class Pending(Protocol):
    """Images on their way through a network."""

    def result(self) -> list[Detections]:
        """Wait for the detections of each."""
        ...


class Starter(Protocol):
    """A ``Predictor``, or what stands before one."""

    @property
    def slots(self) -> int:
        """How many calls in flight make it faster."""
        ...

    def start(self, images: Sequence[Image], limits: Limits | None = None) -> Pending:
        """Hand images to the network."""
        ...


def results_of(
    sources: Iterator[Source], predictor: Starter, *, batch_size: int = 1, limits: Limits | None = None
) -> Background[Result | Failure]:
    """Every image and frame of ``sources``, one after the other, with what is in it.

    Whoever takes the results must ``close`` them, whatever happens. ``LiveResults`` are those of live sources, whose
    frames may be dropped but not wait.

    Args:
        sources: are asked for one after the other, each when the one before it has ended.
        predictor: is used by one thread alone.
        batch_size: images of a batch.
        limits: which predictions become detections; by default the predictor's own.
    """
    frames = Background(read_frames(sources), ahead=max(AHEAD, batch_size), weight=_bytes_of, limit=LIMIT)
    results = detect_frames(frames, predictor, batch_size, limits)
    return Background(results, upstream=frames, ahead=AHEAD, weight=_bytes_of, limit=LIMIT)


def written(results: Results, sinks: Sinks, shown: Limits | None = None) -> Background[Result | Failure]:
    """Yield each result after all sinks have written it; ends when ``results`` ends, stops or is closed.

    What no sink can take, such as an image too large for any format, is a failure before its result.

    Args:
        results: are taken in a thread of its own.
        sinks: every result goes there.
        shown: given if there is a window: what is above these thresholds is written, the rest becomes ``candidates``;
            and no result waits for the window, because what is seen of a live source would be old.
    """

    def write() -> Iterator[Result | Failure]:
        for result in results:
            if isinstance(result, Failure):
                yield result
                continue
            if shown is not None and result.candidates is None:
                kept = above(result.detections, shown.score_thresh)
                result = replace(result, detections=kept, candidates=result.detections)
            try:
                sinks.write(result.source, result.frame, result.detections)
            except InputError as error:
                yield Failure(f"{result.source.name}: {error}")
            yield result

    return Background(write(), ahead=1 if shown else AHEAD, weight=_bytes_of, limit=LIMIT)


def read_frames(sources: Iterator[Source]) -> Iterator[tuple[Source, Frame] | Failure]:
    """Every frame of every source; a failure stands in the place of what cannot be read."""
    while True:
        try:
            source = next(sources, None)
            if source is None:
                return
            for frame in source.frames():
                yield source, frame
        except InputError as error:
            yield Failure(str(error))


@dataclass(frozen=True)
class _Batch:
    members: list[tuple[Source, Frame]]
    started: Pending
    seconds: float

    def results(self) -> Iterator[Result]:
        """Wait for them."""
        start = time.perf_counter()
        found = self.started.result()
        seconds = (self.seconds + time.perf_counter() - start) / len(self.members)
        for (source, frame), detections in zip(self.members, found, strict=True):
            yield Result(source, frame, detections, seconds)


def detect_frames(
    frames: Background[tuple[Source, Frame] | Failure],
    predictor: Starter,
    batch_size: int,
    limits: Limits | None = None,
) -> Iterator[Result | Failure]:
    """Results in the order of the frames, with as many batches in the network at once as pay off there.

    No result is held back while the next frame has yet to come; and what was read before a reader broke is finished.
    """
    in_flight: deque[_Batch | Failure] = deque()
    error: Exception | None = None
    ended = False
    while not ended:
        members: list[tuple[Source, Frame]] = []
        failure: Failure | None = None
        try:
            while len(members) < batch_size and failure is None and not ended:
                match next(frames, None):
                    case None:
                        ended = True
                    case Failure() as failure:
                        pass
                    case frame:
                        members.append(frame)
        except Exception as broken:  # whatever broke the reader is raised after what it has read
            error, ended = broken, True
        if members:
            start = time.perf_counter()
            started = predictor.start([frame.image for _, frame in members], limits)
            in_flight.append(_Batch(members, started, time.perf_counter() - start))
        if failure is not None:
            in_flight.append(failure)
        while in_flight and (ended or len(in_flight) >= predictor.slots or not frames.ready):
            first = in_flight.popleft()
            if isinstance(first, Failure):
                yield first
            else:
                yield from first.results()
    if error is not None:
        raise error


def _bytes_of(item: tuple[Source, Frame] | Result | Failure) -> int:
    if isinstance(item, Failure):
        return 0
    return (item.frame if isinstance(item, Result) else item[1]).image.nbytes
