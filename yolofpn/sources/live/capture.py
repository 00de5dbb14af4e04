"""Captures the newest frame of a camera or stream, and reconnects when it is lost.

A thread of its own receives and decodes, and keeps the newest frame only: whoever takes frames slowly gets fewer of
them, never older ones. A source that is lost is opened again, after pauses that grow; meanwhile its last frame is
given now and then, marked as stale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Condition, Thread
from typing import TypeAlias

from yolofpn.errors import InputError
from yolofpn.structures import Frame, Image

JOIN_SECONDS = 1.0  # that closing waits for a thread; one that is stuck in a read ends by itself after its time-out

Shot: TypeAlias = Callable[[], Image]  # gives the image of a received frame; called for frames that are wanted only


@dataclass(frozen=True)
class Patience:
    """Timeouts and retry pauses of a live source, in seconds.

    Attributes:
        open_timeout: for its first answer.
        read_timeout: without a frame, after which it counts as lost.
        attempts: to reach it at all before it counts as failed.
        first_pause: before the first new attempt; each further pause is twice as long.
        longest_pause: at which pauses stop growing.
        stale_after: without a frame, after which the last one is repeated.
        stale_every: between these repetitions.
    """

    open_timeout: float = 10.0
    read_timeout: float = 10.0
    attempts: int = 3
    first_pause: float = 0.5
    longest_pause: float = 30.0
    stale_after: float = 2.0
    stale_every: float = 1.0

    def pause(self, failures: int) -> float:
        """Return the pause in seconds after this many consecutive failures (at least one)."""
        return min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 60))


# Opens a source anew and gives what arrives. Raises InputError when it cannot be opened or is lost; ends at its end.
Connect: TypeAlias = Callable[[Patience], Iterator[Shot]]


@dataclass(frozen=True)
class Counters:
    """Counters of a live source.

    Attributes:
        received: frames that arrived, those of a stride only.
        dropped: frames that a newer one replaced before they were taken.
        reconnects: how often it came back after it was lost.
        stale_seconds: for how long frames were missing, from the moment that they counted as stale.
    """

    received: int = 0
    dropped: int = 0
    reconnects: int = 0
    stale_seconds: float = 0.0


@dataclass(frozen=True)
class _Arrival:
    shot: Shot
    index: int
    time: float  # monotonic
    clock: datetime


PATIENCE = Patience()


class LiveCapture:
    """Receives one live source; a context manager that begins with it and ends it.

    Iterating gives the newest frame each time, and waits for one that was not given yet. All methods may be called
    from any thread.

    Args:
        name: of its frames; never with a password.
        connect: opens it.
        patience: time-outs and pauses.
        vid_stride: of the frames that arrive, 0, n, 2n, ... count; the others are no dropped frames.
        changed: is notified of every change; several captures may share one.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        patience: Patience | None = None,
        vid_stride: int = 1,
        changed: Condition | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._patience = patience or PATIENCE
        self._vid_stride = vid_stride
        self._changed = changed or Condition()
        self._thread = Thread(target=self._run, name=f"capture {name}", daemon=True)
        self._closing = False
        self._ended = False
        self._failure = ""
        self._crash: Exception | None = None
        self._news: list[str] = []
        self._arrival: _Arrival | None = None  # not taken yet
        self._dropped_since = 0
        self._next_index = 0
        self._bad_frames = 0
        self._first_time = 0.0
        self._last: Frame | None = None
        self._last_arrival = 0.0
        self._stale_since: float | None = None
        self._last_stale = 0.0
        self._lost_at: float | None = None
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        """The counters so far."""
        with self._changed:
            going_on = time.monotonic() - self._stale_since if self._stale_since is not None else 0.0
            return replace(self._counters, stale_seconds=self._counters.stale_seconds + going_on)

    @property
    def ended(self) -> bool:
        """Whether the source has ended or was closed; its last frame may still be available."""
        with self._changed:
            return (self._ended or self._closing) and self._arrival is None

    @property
    def failure(self) -> str:
        """Why it could not be reached, once the attempts are used up; empty before, and when it answered after all."""
        with self._changed:
            return self._failure

    @property
    def ready(self) -> bool:
        """Whether ``take`` would return a new frame."""
        with self._changed:
            return self._arrival is not None

    def __enter__(self) -> LiveCapture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """Receive no more; ``close`` waits for that."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the source; a thread that waits for a silent source ends at its timeout."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame each time, until the source ends or is closed.

        Raises:
            InputError: if it cannot be reached.
        """
        while True:
            frame = self.take()
            if frame is not None:
                yield frame
            elif self.failure:
                raise InputError(self.failure)
            elif self.ended:
                return
            else:
                self.wait(0.1)

    def wait(self, seconds: float) -> None:
        """Wait until something changes, at most this many seconds."""
        with self._changed:
            if self._arrival is None and not self._ended and not self._closing:
                self._changed.wait(seconds)

    def take(self) -> Frame | None:
        """The newest frame if it was not given yet, else the last one as stale if it is time for that, else None."""
        with self._changed:
            if self._crash is not None:
                raise self._crash
            arrival, self._arrival = self._arrival, None
            dropped, self._dropped_since = self._dropped_since, 0
            if arrival is None:
                return self._stale_frame()
            self._end_staleness(arrival.time)
        seconds = arrival.time - self._first_time
        try:
            image = arrival.shot()
        except InputError as error:
            self._report_bad_frame(str(error))
            return None
        frame = Frame(image, self.name, arrival.index, seconds, arrival.clock, dropped=dropped)
        with self._changed:
            self._last = frame
        return frame

    def news(self) -> list[str]:
        """Return messages about events since the last call: lost, reconnected."""
        with self._changed:
            news, self._news = self._news, []
            return news

    def _report_bad_frame(self, message: str) -> None:
        """Convert a received frame; one that cannot be converted is skipped, which is reported once."""
        with self._changed:
            if not self._bad_frames:
                self._news.append(f"{message}: skipped")
            self._bad_frames += 1

    def _stale_frame(self) -> Frame | None:
        now = time.monotonic()
        if self._last is None or self._ended or now - self._last_arrival < self._patience.stale_after:
            return None
        if self._stale_since is None:
            self._stale_since = now
        elif now - self._last_stale < self._patience.stale_every:
            return None
        self._last_stale = now
        return replace(self._last, time=now - self._first_time, stale=True, dropped=0)

    def _end_staleness(self, now: float) -> None:
        if self._stale_since is not None:
            seconds = self._counters.stale_seconds + max(0.0, now - self._stale_since)
            self._counters = replace(self._counters, stale_seconds=seconds)
            self._stale_since = None

    def _run(self) -> None:
        failures = 0
        while not self._closing:
            received = self._counters.received
            try:
                if self._receive_all():
                    return
            except InputError as error:
                failures = 1 if self._counters.received > received else failures + 1
                self._lose(str(error), failures)
            except Exception as error:  # a fault in the program itself belongs to whoever takes the frames
                self._crash = error
                self._end()
                return

    def _receive_all(self) -> bool:
        """Whether the source has ended or was closed."""
        with closing(self._connect(self._patience)) as shots:  # type: ignore[type-var]
            for number, shot in enumerate(shots):
                if self._closing:
                    return True
                if number % self._vid_stride == 0:
                    self._receive(shot)
        self._end()
        return True

    def _receive(self, shot: Shot) -> None:
        now = time.monotonic()
        with self._changed:
            if self._next_index == 0:
                self._first_time = now
            self._come_back(now)
            replaced = self._arrival is not None
            self._dropped_since += replaced
            self._counters = replace(
                self._counters,
                received=self._counters.received + 1,
                dropped=self._counters.dropped + replaced,
            )
            self._arrival = _Arrival(shot, self._next_index, now, datetime.now(UTC))
            self._last_arrival = now
            self._next_index += self._vid_stride
            self._changed.notify_all()

    def _come_back(self, now: float) -> None:
        self._failure = ""
        if self._lost_at is None:
            return
        if self._next_index:
            self._counters = replace(self._counters, reconnects=self._counters.reconnects + 1)
        self._news.append(f"{self.name}: back after {now - self._lost_at:.1f} s")
        self._lost_at = None

    def _lose(self, reason: str, failures: int) -> None:
        """Remember the loss, and wait before the next attempt."""
        pause = self._patience.pause(failures)
        with self._changed:
            never_seen = self._next_index == 0
            if never_seen and failures >= self._patience.attempts:
                self._failure = reason
            if self._lost_at is None:
                self._lost_at = time.monotonic()
                self._news.append(f"{reason}; trying again")
            self._changed.notify_all()
            deadline = time.monotonic() + pause
            while not self._closing and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
