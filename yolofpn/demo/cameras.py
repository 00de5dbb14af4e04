"""This computer's cameras, streams and videos, for any number of people who watch them in the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from threading import Condition, Thread

from yolofpn.demo.answers import FAULT
from yolofpn.demo.limits import WorkLimits
from yolofpn.errors import InputError, UserError
from yolofpn.sources.resolve import Source, resolve_sources
from yolofpn.structures import Frame

_RETRY_SECONDS = 2.0  # between attempts to open a source that failed


class Camera:
    """Keeps the newest frame of one source, as long as somebody watches.

    Videos are shown in time, and begin anew at their end.

    Args:
        source: what is read.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.path.name if source.path else source.name  # folders are none of the users' business
        self._source = source
        self._changed = Condition()
        self._viewers = 0
        self._thread: Thread | None = None
        self._frame: Frame | None = None
        self._number = 0
        self._failure = ""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Keep the camera running within this context."""
        with self._changed:
            self._viewers += 1
            if self._thread is None:
                self._thread = Thread(target=self._run, name=f"source {self.name}", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._viewers -= 1
                self._changed.notify_all()

    def newer(self, number: int) -> tuple[int, Frame] | None:
        """The newest frame and its own number, if it is newer than frame ``number``; None while it is not.

        Its ``dropped`` are those between the two; ``number`` is 0 for whoever has seen none.

        Raises:
            InputError: if the source failed.
        """
        with self._changed:
            if self._frame is not None and self._number > number:
                dropped = self._number - number - 1 if number else 0
                return self._number, replace(self._frame, dropped=dropped)
            if self._failure:
                raise InputError(self._failure)
            return None

    def _run(self) -> None:
        while self._wanted():
            try:
                for frame in _in_time(self._source):
                    with self._changed:
                        self._frame, self._failure = replace(frame, source=self.name), ""
                        self._number += 1
                    if not self._wanted():
                        return
                pause = 0.0 if self._source.kind == "video" else _RETRY_SECONDS
            except UserError as error:
                self._fail(str(error).replace(self._source.name, self.name))
                pause = _RETRY_SECONDS
            except Exception:  # whoever watches is told, and the next attempt may do better
                logging.getLogger(__name__).exception("while reading a source")
                self._fail(f"{self.name}: {FAULT}")
                pause = _RETRY_SECONDS
            with self._changed:
                self._changed.wait_for(lambda: not self._viewers, pause)

    def _fail(self, message: str) -> None:
        with self._changed:
            self._failure = message

    def _wanted(self) -> bool:
        """Whether there are viewers; without viewers the thread ends, and the next viewer starts a new one."""
        with self._changed:
            if self._viewers == 0:
                self._thread = None
                self._frame, self._failure = None, ""
            return self._viewers > 0


def open_cameras(specs: Sequence[str], most: int = WorkLimits.cameras) -> list[Camera]:
    """Create a camera for each source of ``specs``.

    Raises:
        UserError: if one of them is not there, or there are more than ``most``.
    """
    if not specs:
        return []
    sources = list(islice(resolve_sources(specs), most + 1))
    if len(sources) > most:
        raise UserError(f"--source names more than {most} sources: name cameras, streams or single videos")
    for source in sources:
        if source.kind == "failed":
            next(source.frames())  # raises what is wrong with it
    return [Camera(source) for source in sources]


def _in_time(source: Source) -> Iterator[Frame]:
    """The frames of a source; those of a file not before they are due."""
    start = time.monotonic()
    for frame in source.frames():
        if source.kind == "video":
            time.sleep(max(0.0, start + frame.time - time.monotonic()))
        yield frame
