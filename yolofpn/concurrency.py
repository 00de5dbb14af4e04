"""Threads with bounded queues: an iterator that works ahead, and work that is handed over."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_PATIENCE = 5.0  # seconds; a thread that waits longer than this for a camera or the keyboard is left to itself


class Background(Generic[T], Iterator[T]):
    """Iterate over ``items`` in a background thread that prefetches.

    Items may be anything but None. An exception of ``items`` reaches the consumer behind everything that was made
    before it. ``items`` is run, and closed, by that thread alone.

    Args:
        items: what to run.
        upstream: what ``items`` takes from, closed before it; else its thread might wait there for ever.
        ahead: how many items may wait for the consumer.
        weight: of an item, in bytes.
        limit: while the items that wait weigh this much, no further one is made.
        wake: ends the waiting of ``items`` for something else; called at closing.
    """

    def __init__(
        self,
        items: Iterator[T],
        *,
        upstream: Background[Any] | None = None,
        ahead: int,
        weight: Callable[[T], int] = lambda item: 0,
        limit: int = 1,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = items
        self._wake = wake
        self._upstream = upstream
        self._ahead = ahead
        self._weight = weight
        self._limit = limit
        self._waiting: deque[T] = deque()
        self._weights = 0
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        # A daemon, because a read from a camera, an address or the keyboard cannot be broken off.
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        with self._changed:
            item = self._wait()
            if item is None:
                raise StopIteration
            self._waiting.popleft()
            self._weights -= self._weight(item)
            self._changed.notify_all()
            return item

    def peek(self) -> T | None:
        """Return the next item without consuming it; None at the end."""
        with self._changed:
            return self._wait()

    @property
    def ready(self) -> bool:
        """Return whether ``next`` would not block."""
        return bool(self._waiting) or self._ended or self._closed

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until ``next`` would not block; return whether it would not."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self.ready, seconds))

    def stop(self) -> None:
        """Take no more from the first of the upstream iterators; what is under way between them still comes out."""
        if self._upstream is not None:
            self._upstream.stop()
        else:
            self.close()

    def close(self) -> None:
        """End at once, and the upstream iterators before it: what waits is dropped, ``items`` is closed."""
        if self._upstream is not None:
            self._upstream.close()
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._wake()
        self._thread.join(_PATIENCE)

    def _wait(self) -> T | None:
        self._changed.wait_for(lambda: self._waiting or self._ended or self._closed)
        if self._waiting:
            return self._waiting[0]
        if self._error is not None and not self._closed:
            error, self._error = self._error, None
            raise error
        return None

    def _run(self) -> None:
        try:
            try:
                for item in self._items:
                    if not self._put(item):
                        break
            finally:
                close = getattr(self._items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # all that an iterator may raise is the consumer's to handle
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Wait for room, but make the item wait even where it is too heavy; False once closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (len(self._waiting) < self._ahead and self._weights < self._limit)
            )
            if not self._closed:
                self._waiting.append(item)
                self._weights += self._weight(item)
                self._changed.notify_all()
            return not self._closed


class Handover(Generic[T]):
    """Does something with each item in its order, in a thread of its own, while the giver goes on.

    Args:
        work: what is done with an item. After its first exception nothing more is done; the giver gets the exception.
        waiting: how many items may wait; a giver who is faster than that waits too.
    """

    def __init__(self, work: Callable[[T], object], *, waiting: int) -> None:
        self._work = work
        self._most = waiting
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()

    def give(self, item: T) -> None:
        """Hand ``item`` over; raises what went wrong with an earlier one."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._most or self._error)
            if self._error is not None:
                raise self._error
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for completion; raise the error of the thread, if any."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            try:
                self._work(item)
            except BaseException as error:  # all that may be raised is the giver's to handle
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
