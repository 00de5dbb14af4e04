from __future__ import annotations

import time

import numpy as np
import pytest

from yolofpn.tuning.rounds import Timing, interleave, percentile, timed


def test_percentiles_by_hand() -> None:
    values = [40.0, 10.0, 30.0, 20.0]  # ordered: 10 20 30 40, at 0, 33.3, 66.7 and 100 %
    assert percentile(values, 0) == 10
    assert percentile(values, 50) == 25
    assert percentile(values, 100) == 40
    assert percentile(values, 95) == pytest.approx(38.5)  # position 2.85 of 0..3
    assert percentile([7.0], 99) == 7


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(0).lognormal(size=101).tolist()
    for percent in (0, 1, 37.5, 50, 95, 99, 100):
        assert percentile(values, percent) == pytest.approx(np.percentile(values, percent))


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_percentile_of_nothing_or_out_of_range(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_timing_in_milliseconds() -> None:
    assert Timing((0.004, 0.001, 0.003)).to_json() == pytest.approx(
        {"p50_ms": 3.0, "p95_ms": 3.9, "p99_ms": 3.98, "best_ms": 1.0, "count": 3}
    )


def test_tasks_take_turns_there_and_back() -> None:
    calls: list[str] = []

    def task(name: str) -> list[float]:
        calls.append(name)
        return [float(len(calls))]

    timings = interleave({name: lambda name=name: task(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert "".join(calls) == "abccbaabc"
    assert timings == {"a": Timing((1, 6, 7)), "b": Timing((2, 5, 8)), "c": Timing((3, 4, 9))}


def test_a_steadily_slower_machine_slows_all_alike() -> None:
    clock = iter(range(100))
    timings = interleave({name: lambda: [float(next(clock))] for name in "abcd"}, 4)
    assert len({sum(timing.seconds) for timing in timings.values()}) == 1


def test_several_times_of_one_turn() -> None:
    assert interleave({"a": lambda: [1.0, 2.0]}, 2) == {"a": Timing((1, 2, 1, 2))}


def test_timed_gives_each_call_but_the_first() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.01)

    start = time.perf_counter()
    taken = timed(work, 0, at_least=3)
    assert len(taken) == 3 and len(calls) == 4
    assert all(seconds >= 0.01 for seconds in taken) and sum(taken) <= time.perf_counter() - start
    assert len(timed(work, 0.05, at_least=1)) >= 1
