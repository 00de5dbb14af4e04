from __future__ import annotations

import math

import pytest
import torch

from tests.models.small import small_config, small_model
from yolofpn.training import precision
from yolofpn.training.precision import seconds_per_step, training_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("exact", "rounded", "expected"),
    [(1.0, 0.5, torch.bfloat16), (1.0, 1.7, torch.float32), (1.0, 0.99, torch.float32)],
    ids=["bf16 is faster", "bf16 is slower", "as good as equal"],
)
def test_the_faster_one_is_taken(
    exact: float, rounded: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {torch.float32: exact, torch.bfloat16: rounded}
    monkeypatch.setattr(precision, "seconds_per_step", lambda model, dtype, limit: times[dtype])
    dtype, line = training_dtype("auto", small_model(small_config()), CPU)
    assert dtype == expected
    assert line is not None and ("bf16," in line) == (expected == torch.bfloat16)


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "seconds_per_step", None)
    assert training_dtype("bf16", small_model(small_config()), CPU) == (torch.bfloat16, None)
    assert training_dtype("fp32", small_model(small_config()), CPU) == (torch.float32, None)


@pytest.mark.slow
def test_measuring_leaves_the_model_as_it_is() -> None:
    model = small_model(small_config())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert 0 < seconds_per_step(model, torch.float32, math.inf) < 60
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
