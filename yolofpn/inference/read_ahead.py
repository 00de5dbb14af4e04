"""Reads sources in their order, and decodes images ahead in several threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from yolofpn.concurrency import Background
from yolofpn.errors import InputError
from yolofpn.results import Failure
from yolofpn.sources.resolve import Source
from yolofpn.structures import Frame

AHEAD_OF_THREAD = 2  # images for each thread: one that it decodes, one that waits
BYTES_PER_PIXEL = 3


class ReadAhead:
    """Every frame of every source; a failure stands in the place of what cannot be read.

    Images are decoded ahead, but no source is waited for while a frame of an earlier one is there. Videos are read
    when they are next.

    Args:
        sources: are asked for in a thread of their own.
        threads: that decode images.
        limit: bytes of decoded images from which no other image is decoded, except the next one; and of images fetched
            from addresses from which no other one is fetched, or waits for its decoding.
    """

    def __init__(self, sources: Iterator[Source], *, threads: int, limit: int) -> None:
        self._most = AHEAD_OF_THREAD * threads
        self._limit = limit
        self._listed = Background(_or_failure(sources), ahead=self._most, weight=_held, limit=limit)
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._budget = _Budget(limit)

    def close(self) -> None:
        """End ``frames``, in whatever thread it is; what is being decoded is dropped."""
        self._budget.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._listed.close()

    def frames(self) -> Iterator[tuple[Source, Frame] | Failure]:
        """Yield them once."""
        waiting: deque[tuple[Source | Failure, Future[Frame] | None]] = deque()
        ended = False
        try:
            for number in self._budget.numbers():
                while not ended and (not waiting or (self._has_room(waiting) and self._listed.ready)):
                    item = next(self._listed, None)
                    ended = item is None
                    if item is not None:
                        waiting.append((item, self._started(item, number + len(waiting))))
                if not waiting:
                    return
                yield from _frames_of(*waiting.popleft())
        finally:
            self.close()

    def _has_room(self, waiting: deque[tuple[Source | Failure, Future[Frame] | None]]) -> bool:
        return len(waiting) < self._most and sum(_held(item) for item, _ in waiting) < self._limit

    def _started(self, item: Source | Failure, number: int) -> Future[Frame] | None:
        if isinstance(item, Failure) or item.decode is None:
            return None
        return self._pool.submit(item.decode, partial(self._budget.admit, number))


def _held(item: Source | Failure) -> int:
    return 0 if isinstance(item, Failure) else item.held


def _or_failure(sources: Iterator[Source]) -> Iterator[Source | Failure]:
    while True:
        try:
            source = next(sources, None)
        except InputError as error:
            yield Failure(str(error))
            continue
        if source is None:
            return
        yield source


def _frames_of(item: Source | Failure, decoded: Future[Frame] | None) -> Iterator[tuple[Source, Frame] | Failure]:
    if isinstance(item, Failure):
        yield item
        return
    try:
        if decoded is not None:
            yield item, decoded.result()
            return
        for frame in item.frames():
            yield item, frame
    except InputError as error:
        yield Failure(str(error))


class _Budget:
    """Memory of images that are decoded, or being decoded, before their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[int, int] = {}  # by number of the image
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def numbers(self) -> Iterator[int]:
        """0, 1, 2, ...: the one whose turn it is, which may always be decoded; what was before it is released."""
        while True:
            yield self._next
            with self._changed:
                self._taken.pop(self._next, None)
                self._next += 1
                self._changed.notify_all()

    def admit(self, number: int, pixels: int) -> None:
        """Wait until image ``number`` may be decoded.

        Raises:
            InputError: if that is no longer wanted.
        """
        with self._changed:
            size = pixels * BYTES_PER_PIXEL
            self._changed.wait_for(
                lambda: self._closed or number == self._next or sum(self._taken.values()) + size <= self._limit
            )
            if self._closed:
                raise InputError("reading has ended")
            self._taken[number] = size

    def close(self) -> None:
        """Refuse all others."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
