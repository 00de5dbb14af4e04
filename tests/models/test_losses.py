"""What losses are divided by: a number of the batch, over all processes."""

from __future__ import annotations

import pytest
import torch

from yolofpn.models.losses import Losses

SUMS = {"loss_a": torch.tensor(14.0), "loss_b": torch.tensor(7.0)}


@pytest.mark.parametrize(("number", "expected"), [(7, [2.0, 1.0]), (0, [14.0, 7.0])])
def test_sums_are_divided_by_at_least_one(number: int, expected: list[float]) -> None:
    losses = Losses.over(SUMS, number)
    assert [loss.item() for loss in losses.values()] == expected
    assert {name: count.item() for name, count in losses.counts.items()} == dict.fromkeys(SUMS, number)


@pytest.mark.parametrize(("own", "others", "divisor"), [(3, 5, 2.0), (0, 4, 1.0), (0, 0, 0.25)])
def test_several_processes_divide_by_the_mean_of_one(
    monkeypatch: pytest.MonkeyPatch, own: int, others: int, divisor: float
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(others))
    losses = Losses.over(SUMS, own)
    assert losses["loss_a"].item() == 14 / divisor
    assert losses.counts["loss_b"].item() == own + others


def test_losses_beside_others_keep_their_own_numbers() -> None:
    both = Losses.over(SUMS, 2).beside(Losses.over({"loss_c": torch.tensor(3.0)}, 5))
    assert list(both) == ["loss_a", "loss_b", "loss_c"]
    assert [count.item() for count in both.counts.values()] == [2, 2, 5]
