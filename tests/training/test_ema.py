"""The moving average, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from yolofpn.training.ema import ModelEMA


def test_numbers_by_hand() -> None:
    model = nn.BatchNorm1d(1)
    averaged = ModelEMA(model, decay=0.9, warmup=2)
    expected, expected_mean = 1.0, 0.0
    for update, value in enumerate((3.0, -1.0, 5.0), start=1):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(10 * value)  # type: ignore[union-attr]
            model.num_batches_tracked.fill_(update)  # type: ignore[union-attr]
        averaged.update(model)
        decay = 0.9 * (1 - math.exp(-update / 2))
        expected = decay * expected + (1 - decay) * value
        expected_mean = decay * expected_mean + (1 - decay) * 10 * value
    state = averaged.model.state_dict()
    assert state["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert state["running_mean"].item() == pytest.approx(expected_mean, rel=1e-6)
    assert state["num_batches_tracked"].item() == 3
    assert averaged.updates == 3


def test_a_copy_of_its_own() -> None:
    model = nn.Linear(2, 2).train()
    averaged = ModelEMA(model, decay=0.5, warmup=1)
    before = averaged.model.state_dict()["weight"].clone()
    with torch.no_grad():
        model.weight += 1
    assert torch.equal(averaged.model.state_dict()["weight"], before)
    assert not averaged.model.training and model.training
    assert not any(parameter.requires_grad for parameter in averaged.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
