"""A live source that does what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from yolofpn.errors import InputError
from yolofpn.sources.kinds import Source
from yolofpn.sources.live.capture import LiveCapture, Patience, Shot
from yolofpn.structures import Image

QUICK = Patience(first_pause=0.01, longest_pause=0.02, stale_after=0.05, stale_every=0.02)
END = "end"


class FakeCamera:
    """Delivers what is put into it: images; a str is the reason for which it is lost, END its end.

    Attributes:
        opened: how often it was opened.
        closed: how often a connection was closed.
        converted: images that were really asked for.
    """

    def __init__(self, *items: Image | str | Exception) -> None:
        self._items: Queue[Image | str | Exception] = Queue()
        self.put(*items)
        self.opened = self.closed = self.converted = 0

    def put(self, *items: Image | str | Exception) -> None:
        for item in items:
            self._items.put(item)

    def connect(self, patience: Patience) -> Iterator[Shot]:
        self.opened += 1
        try:
            while True:
                item = self._items.get(timeout=60)
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, str):
                    if item == END:
                        return
                    raise InputError(item)
                yield self._shot(item)
        finally:
            self.closed += 1

    def _shot(self, image: Image) -> Shot:
        def shot() -> Image:
            self.converted += 1
            return image

        return shot

    def capture(self, **options: Any) -> LiveCapture:
        return LiveCapture("cam", self.connect, **{"patience": QUICK, **options})

    def source(self, name: str = "rtsp://cam/1", **options: Any) -> Source:
        def capture(**more: Any) -> LiveCapture:
            return LiveCapture(name, self.connect, **{"patience": QUICK, **options, **more})

        path = Path(name.partition("://")[2].replace("/", "-"))
        return Source(name, "stream", path, lambda: iter(()), capture=capture)


def shade(value: int, height: int = 4, width: int = 6) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def shades_of(count: int) -> Sequence[Image]:
    return [shade(value) for value in range(1, count + 1)]


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this never happened"
        time.sleep(0.002)
