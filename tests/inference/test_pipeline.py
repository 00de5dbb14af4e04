from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.inference.fakes import nothing_found
from yolofpn.errors import InputError, UserError
from yolofpn.inference.pipeline import results_of, written
from yolofpn.results import Failure, Result
from yolofpn.sinks.opened import Sinks
from yolofpn.sinks.output_names import SourceInfo
from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections, Frame, Image, Limits, WholeImage

Wholes = Sequence[WholeImage | None] | None


def frames(name: str, count: int, error: Exception | None = None) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(np.full((4, 6, 3), index, np.uint8), name, index, index / 10)
    if error is not None:
        raise error


def source(name: str, count: int, error: Exception | None = None) -> Source:
    return Source(name, "video", Path(name), lambda: frames(name, count, error))


@dataclass
class FakePredictor:
    """Finds nothing, and remembers how many batches were under way at once, and of which sizes they were."""

    slots: int = 1
    breaks_at: int = -1
    sizes: list[int] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    limits: Limits | None = None
    threads: set[threading.Thread] = field(default_factory=set)

    def start(self, images: Sequence[Image], limits: Limits | None = None, wholes: Wholes = None) -> SimpleNamespace:
        self.limits = limits
        self.threads.add(threading.current_thread())
        self.sizes.append(len(images))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        number = len(self.sizes) - 1

        def finish() -> list[Detections]:
            self.under_way -= 1
            if number == self.breaks_at:
                raise UserError("the network broke")
            return [nothing_found() for _ in images]

        return SimpleNamespace(result=finish)


class Recorder:
    """A sink that remembers what it took, and refuses one frame."""

    def __init__(self, refused: int = -1, error: type[Exception] = InputError) -> None:
        self.taken: list[int] = []
        self._refused = refused
        self._error = error

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        if frame.index == self._refused:
            raise self._error("cannot be written")
        self.taken.append(frame.index)

    def close(self) -> None:
        pass


def run(predictor: FakePredictor, *sources: Source, batch_size: int = 1, limits: Limits | None = None) -> Any:
    return results_of(iter(sources), predictor, batch_size=batch_size, limits=limits)


def places(results: Iterator[Result]) -> list[tuple[str, int]]:
    return [(result.source.name, result.frame.index) for result in results]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_everything_comes_once_and_in_order(slots: int, batch_size: int) -> None:
    predictor = FakePredictor(slots)
    results = run(predictor, source("a", 7), source("b", 0), source("c", 12), batch_size=batch_size)
    assert places(results) == [("a", index) for index in range(7)] + [("c", index) for index in range(12)]
    assert predictor.under_way == 0
    assert predictor.most <= slots
    assert set(predictor.sizes[:-1]) == {batch_size}


def test_as_many_batches_are_under_way_as_pay_off() -> None:
    read = threading.Event()

    def all_read() -> Iterator[Frame]:
        yield from frames("a", 4)
        read.set()

    class Slow(FakePredictor):
        def start(
            self, images: Sequence[Image], limits: Limits | None = None, wholes: Wholes = None
        ) -> SimpleNamespace:
            assert read.wait(5)
            return super().start(images, limits)

    predictor = Slow(slots=2)
    assert len(places(run(predictor, Source("a", "video", Path("a"), all_read)))) == 4
    assert predictor.most == 2


def test_the_network_belongs_to_one_thread() -> None:
    predictor = FakePredictor(slots=2)
    list(run(predictor, source("a", 20)))
    assert len(predictor.threads) == 1
    assert threading.current_thread() not in predictor.threads


def test_no_result_waits_for_a_frame_that_has_yet_to_come() -> None:
    gate = threading.Event()

    def slow() -> Iterator[Frame]:
        yield from frames("slow", 1)
        assert gate.wait(5)
        yield from frames("slow", 1)

    results = run(FakePredictor(slots=4), Source("slow", "stream", Path("slow"), slow))
    assert next(results).frame.index == 0
    gate.set()
    assert len(list(results)) == 1


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_failures_stand_between_the_results_that_they_come_between(slots: int, batch_size: int) -> None:
    sources = [
        source("a", 2),
        source("bad", 1, InputError("bad is bad")),
        source("c", 9),
        source("d", 0, InputError("d")),
    ]
    items = list(run(FakePredictor(slots), *sources, batch_size=batch_size))
    told = [item.message if isinstance(item, Failure) else item.source.name for item in items]
    assert told == ["a", "a", "bad", "bad is bad", *["c"] * 9, "d"]


def test_limits_reach_the_network() -> None:
    predictor = FakePredictor()
    list(run(predictor, source("a", 1), limits=Limits(0.05)))
    assert predictor.limits == Limits(0.05)


def test_what_was_read_before_a_reader_broke_is_finished() -> None:
    results = run(FakePredictor(slots=3), source("a", 5, ValueError("a bug")), source("b", 5), batch_size=2)
    assert places(next(results) for _ in range(5)) == [("a", index) for index in range(5)]
    with pytest.raises(ValueError, match="a bug"):
        next(results)


def test_a_network_that_breaks_ends_it_after_what_was_found_before() -> None:
    results = run(FakePredictor(slots=3, breaks_at=4), source("a", 50))
    found = [next(results).frame.index for _ in range(4)]
    with pytest.raises(UserError, match="network"):
        next(results)
    assert found == [0, 1, 2, 3]
    results.close()


def test_results_come_out_once_they_are_written() -> None:
    recorder = Recorder(refused=1)
    done = list(written(run(FakePredictor(), source("a", 4)), Sinks([recorder])))
    assert [each.frame.index for each in done if isinstance(each, Result)] == [0, 1, 2, 3]
    assert [each.message for each in done if isinstance(each, Failure)] == ["a: cannot be written"]
    assert recorder.taken == [0, 2, 3]


def test_a_full_disk_reaches_the_consumer_after_what_was_written() -> None:
    recorder = Recorder(refused=3, error=UserError)
    results = run(FakePredictor(), source("a", 50))
    done: Any = written(results, Sinks([recorder]))
    assert [next(done).frame.index for _ in range(3)] == [0, 1, 2] == recorder.taken
    with pytest.raises(UserError, match="written"):
        next(done)
    results.close()


def test_large_images_do_not_pile_up() -> None:
    read: list[int] = []

    def large() -> Iterator[Frame]:
        for index in range(6):
            read.append(index)
            yield Frame(np.empty((5000, 5000, 3), np.uint8), "large", index)  # 75 MB, more than may wait

    results = run(FakePredictor(), Source("large", "video", Path("large"), large))
    assert results.peek() is not None
    threading.Event().wait(0.05)
    # One waits behind each of the two stages, one is held by each.
    assert len(read) <= 4
    assert len(list(results)) == 6
