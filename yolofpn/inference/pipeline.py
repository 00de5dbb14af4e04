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
from yolofpn.hardware import num_threads
from yolofpn.inference.read_ahead import ReadAhead
from yolofpn.results import Failure, Result, Results
from yolofpn.sinks.opened import Sinks
from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections, Frame, Image, Limits, WholeImage
from yolofpn.view.shown_thresholds import above

AHEAD = 4  # images that may wait between two stages
LIMIT = 64 << 20  # bytes of images from which no more are read: large ones wait alone
MOST_READERS = 8  # threads that decode images


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

    def start(
        self,
        images: Sequence[Image],
        limits: Limits | None = None,
        wholes: Sequence[WholeImage | None] | None = None,
    ) -> Pending:
        """Hand images to the network; ``wholes``: those that they were reduced from."""
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
    reading = ReadAhead(sources, threads=min(num_threads(), MOST_READERS), limit=LIMIT)
    frames = Background(
        reading.frames(), ahead=max(AHEAD, batch_size), weight=_bytes_of, limit=LIMIT, wake=reading.close
    )
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
            images, wholes = zip(*((frame.image, frame.whole) for _, frame in members), strict=True)
            started = predictor.start(images, limits, wholes) if any(wholes) else predictor.start(images, limits)
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
    source, frame = (item.source, item.frame) if isinstance(item, Result) else item
    return frame.image.nbytes + source.held
