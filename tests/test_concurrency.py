from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from yolofpn import concurrency as background
from yolofpn.concurrency import Background, Handover


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.001)


class Counter:
    """0, 1, 2, ... without end; knows how far it has got, and in which thread it was closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed_in: threading.Thread | None = None

    def numbers(self) -> Iterator[int]:
        try:
            while True:
                self.made += 1
                yield self.made - 1
        finally:
            self.closed_in = threading.current_thread()


def test_items_come_in_their_order_and_end() -> None:
    assert list(Background(iter(range(100)), ahead=3)) == list(range(100))


def test_it_works_in_another_thread() -> None:
    def threads() -> Iterator[threading.Thread]:
        yield threading.current_thread()

    assert next(Background(threads(), ahead=1)) is not threading.current_thread()


def test_no_more_than_so_many_wait() -> None:
    counter = Counter()
    ahead = Background(counter.numbers(), ahead=3)
    wait_until(lambda: counter.made == 4)  # three wait, the fourth has no room
    time.sleep(0.02)
    assert counter.made == 4
    assert next(ahead) == 0
    wait_until(lambda: counter.made == 5)
    ahead.close()
    assert counter.made == 5


@pytest.mark.parametrize(("limit", "made"), [(1, 2), (10, 2), (11, 3), (1000, 9)])
def test_heavy_items_wait_alone(limit: int, made: int) -> None:
    counter = Counter()
    ahead = Background(counter.numbers(), ahead=8, weight=lambda item: 10, limit=limit)
    wait_until(lambda: counter.made == made)
    time.sleep(0.02)
    assert counter.made == made
    assert [next(ahead) for _ in range(20)] == list(range(20))
    ahead.close()


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    ahead = Background(numbers(), ahead=5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert list(ahead) == []


def test_looking_ahead_takes_nothing() -> None:
    ahead = Background(iter([7, 8]), ahead=1)
    assert [ahead.peek(), ahead.peek(), next(ahead), next(ahead)] == [7, 7, 7, 8]
    assert ahead.peek() is None


def test_ready_says_whether_one_would_wait() -> None:
    gate = threading.Event()

    def numbers() -> Iterator[int]:
        gate.wait(5)
        yield 1

    ahead = Background(numbers(), ahead=1)
    assert not ahead.ready
    gate.set()
    wait_until(lambda: ahead.ready)
    assert list(ahead) == [1]
    assert ahead.ready


def test_waiting_ends_with_the_next_item_the_end_or_the_time() -> None:
    go = threading.Event()

    def items() -> Iterator[int]:
        go.wait()
        yield 1

    ahead = Background(items(), ahead=1)
    assert not ahead.wait(0.01)
    go.set()
    assert ahead.wait(60)
    assert next(ahead) == 1
    assert ahead.wait(60)  # for the end, which is known at once
    assert next(ahead, None) is None


def test_closing_ends_the_thread_and_closes_the_items_in_it() -> None:
    counter = Counter()
    ahead = Background(counter.numbers(), ahead=2)
    assert next(ahead) == 0
    before = threading.active_count()
    ahead.close()
    assert counter.closed_in not in (None, threading.current_thread())
    assert threading.active_count() == before - 1
    assert list(ahead) == []
    ahead.close()


def test_closing_does_not_wait_for_ever_where_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PATIENCE", 0.05)
    gate = threading.Event()

    def silent() -> Iterator[int]:
        gate.wait(5)
        yield 1

    first = Background(silent(), ahead=1)
    second = Background((item for item in first), upstream=first, ahead=1)
    second.close()
    assert not gate.is_set()
    assert list(second) == []
    gate.set()


def test_stopping_lets_out_what_is_under_way() -> None:
    counter = Counter()
    first = Background(counter.numbers(), ahead=2)
    second = Background((10 * item for item in first), upstream=first, ahead=2)
    assert next(second) == 0
    wait_until(lambda: counter.made >= 6)
    second.stop()
    rest = list(second)
    assert rest == [10 * (index + 1) for index in range(len(rest))]
    assert len(rest) >= 2  # those that waited behind the second stage; those before it were dropped
    assert len(rest) < counter.made - 1
    assert counter.closed_in is not None


def test_what_is_handed_over_is_done_in_order_in_another_thread() -> None:
    done: list[tuple[int, threading.Thread]] = []
    worker = Handover[int](lambda item: done.append((item, threading.current_thread())), waiting=2)
    for number in range(50):
        worker.give(number)
    worker.close()
    assert [number for number, _ in done] == list(range(50))
    assert {thread for _, thread in done} & {threading.current_thread()} == set()


def test_a_giver_who_is_too_fast_waits() -> None:
    gate, given = threading.Event(), []
    worker = Handover[int](lambda item: gate.wait(5), waiting=2)

    def give() -> None:
        for number in range(10):
            worker.give(number)
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    wait_until(lambda: len(given) == 3)  # one is worked on, two wait
    time.sleep(0.02)
    assert len(given) == 3
    gate.set()
    giver.join(5)
    worker.close()
    assert len(given) == 10


def test_an_error_comes_back_with_the_next_item_and_at_the_end() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise KeyError("full")
        done.append(item)

    worker = Handover[int](work, waiting=1)
    with pytest.raises(KeyError, match="full"):
        for number in range(100):
            worker.give(number)
    with pytest.raises(KeyError, match="full"):
        worker.close()
    assert done == [0, 1]
