from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolofpn.errors import InputError
from yolofpn.inference.read_ahead import ReadAhead
from yolofpn.results import Failure
from yolofpn.sources.resolve import Source
from yolofpn.structures import Frame

Admit = Callable[[int], None]


def image(name: str, decode: Callable[[Admit], Frame] | None = None) -> Source:
    def plain(admit: Admit) -> Frame:
        admit(100)
        return frame(name)

    decode = decode or plain
    return Source(name, "image", Path(name), lambda: iter([decode(lambda pixels: None)]), decode=decode)


def frame(name: str, index: int = 0) -> Frame:
    return Frame(np.zeros((10, 10, 3), np.uint8), name, index)


def names(items: Iterator[tuple[Source, Frame] | Failure]) -> list[str]:
    return [item.message if isinstance(item, Failure) else f"{item[0].name}{item[1].index}" for item in items]


def test_order_is_kept_and_failures_stand_in_their_place() -> None:
    def broken(admit: Admit) -> Frame:
        raise InputError("broken is broken")

    def slow(admit: Admit) -> Frame:
        time.sleep(0.05)
        return frame("slow")

    clip = Source("clip", "video", Path("clip"), lambda: (frame("clip", index) for index in range(2)))
    sources = [image("slow", slow), image("a"), image("broken", broken), clip, *(image(str(i)) for i in range(9))]
    reading = ReadAhead(iter(sources), threads=3, limit=1 << 20)
    expected = ["slow0", "a0", "broken is broken", "clip0", "clip1", *(f"{i}0" for i in range(9))]
    assert names(reading.frames()) == expected


def test_several_images_are_decoded_at_once() -> None:
    together = threading.Barrier(3, timeout=5)

    def decode(admit: Admit) -> Frame:
        together.wait()
        return frame("x")

    reading = ReadAhead(iter([image("x", decode)] * 3), threads=3, limit=1 << 20)
    assert names(reading.frames()) == ["x0"] * 3


@pytest.mark.parametrize("pixels", [60, 1000])
def test_pixels_limit_how_far_ahead_images_are_decoded(pixels: int) -> None:
    lock, held, most = threading.Lock(), [0], [0]

    def decode(admit: Admit) -> Frame:
        admit(pixels)
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return frame("x")

    taken = 0
    for _ in ReadAhead(iter([image("x", decode)] * 12), threads=4, limit=3 * 130).frames():
        time.sleep(0.01)
        taken += 1
        with lock:
            held[0] -= 1
    assert taken == 12
    # Two of 60 pixels fit, of 1000 only the one whose turn it is; and the consumer lets go of its image a little later.
    assert most[0] <= (4 if pixels == 60 else 2)


def test_fetched_images_limit_how_far_ahead_sources_are_listed() -> None:
    listed = 0

    def sources() -> Iterator[Source]:
        nonlocal listed
        for index in range(30):
            listed += 1
            yield replace(image(str(index)), held=100)

    ahead = []
    for taken, _ in enumerate(ReadAhead(sources(), threads=4, limit=200).frames(), start=1):
        time.sleep(0.005)
        ahead.append(listed - taken)
    # Two of 100 bytes reach the limit: two wait for their decoding, two are listed, and one has just been fetched.
    assert len(ahead) == 30
    assert max(ahead) <= 5


def test_no_frame_waits_for_a_source_that_has_yet_to_come() -> None:
    gate = threading.Event()

    def sources() -> Iterator[Source]:
        yield image("a")
        assert gate.wait(5)
        yield image("b")

    frames = ReadAhead(sources(), threads=2, limit=1 << 20).frames()
    assert names(iter([next(frames)])) == ["a0"]
    gate.set()
    assert names(frames) == ["b0"]


def test_closing_ends_the_decoding() -> None:
    started = threading.Event()

    def decode(admit: Admit) -> Frame:
        started.set()
        admit(1 << 30)
        return frame("large")

    reading = ReadAhead(iter([image("a"), *[image("large", decode)] * 5]), threads=2, limit=1)
    with closing(reading):
        next(reading.frames())
        assert started.wait(5)
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("decode") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
