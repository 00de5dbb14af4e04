"""Ctrl-C and SIGTERM that end a run between two of its steps, so that nothing that was done is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class StopRequest:
    """Remembers that someone wants the run to stop.

    The first signal lets the step that is under way end; the second ends the program at once.

    Args:
        announce: tell the person who pressed Ctrl-C that it was understood.

    Attributes:
        requested: whether a signal has come.
        repeated: whether a second one has come, which must end the program.
    """

    def __init__(self, *, announce: bool = True) -> None:
        self.requested = self.repeated = False
        self._announce = announce
        self._at_once = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, signals are remembered; the handlers before it come back afterwards.

        Outside the main thread, where Python sets no handlers, nothing changes. A signal that is ignored stays ignored,
        as Ctrl-C is for a program that a shell script started in the background.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._request) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """While this lasts, the first signal already raises KeyboardInterrupt: nothing that is done is lost by it."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.repeated, self.requested = self.requested, True
        if self.repeated or self._at_once:
            raise KeyboardInterrupt
        if self._announce:
            # Not print: a signal may come in the middle of one. Notebooks' standard error has no descriptor, and it may
            # be closed or None.
            with suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), b"stopping after this step ...\n")
