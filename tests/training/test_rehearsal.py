"""How a run is fitted into a given time."""

from __future__ import annotations

import pytest

from yolofpn.training.rehearsal import CLOSING_SECONDS, Pace, TimeBudget, epochs_that_fit, schedule_for


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def budget(seconds: float, evaluation: float = 0.0) -> tuple[TimeBudget, Clock]:
    clock = Clock()
    return TimeBudget(seconds + CLOSING_SECONDS, 0.0, evaluation, clock), clock


def test_as_many_epochs_as_fit() -> None:
    whole, _ = budget(100)
    assert schedule_for(whole, Pace(0.5), 10) == (20, None)


def test_evaluations_cost_their_time() -> None:
    whole, _ = budget(600, evaluation=20)  # a tenth of 606 s is worth three of them; a fourth closes the run
    assert whole.evaluations == 3
    assert schedule_for(whole, Pace(1.0), 10) == (52, None)


def test_few_epochs_are_cut_so_that_they_fill_the_time() -> None:
    whole, _ = budget(35)
    assert schedule_for(whole, Pace(1.0), 10) == (4, 8)  # 3.5 epochs: 4 of 8 batches (8.75)


def test_less_than_one_epoch_is_a_part_of_one() -> None:
    whole, _ = budget(50)
    assert schedule_for(whole, Pace(1.0), 1000) == (1, 50)


@pytest.mark.parametrize(("seconds", "expected"), [(10, 20), (10.2, 20), (20, 10), (5, 40)])
def test_the_number_of_epochs_follows_the_speed(seconds: float, expected: int) -> None:
    whole, clock = budget(200)
    clock.now = seconds  # one epoch is over
    fit = epochs_that_fit(whole, 1, 20, 5, seconds)
    assert abs(fit - expected) <= 1


def test_a_run_that_is_late_ends_with_the_epoch_that_is_over() -> None:
    whole, clock = budget(100)
    clock.now = 130
    assert epochs_that_fit(whole, 3, 20, 5, 40.0) == 3
