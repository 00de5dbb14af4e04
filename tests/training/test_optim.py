"""Optimiser groups, learning rates by hand, and what stays frozen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from yolofpn.config import AdamWConfig, CosineConfig, SGDConfig, StepConfig
from yolofpn.models.layers import ConvBNAct
from yolofpn.training.optim import (
    build_optimizer,
    freeze,
    keep_norm_statistics,
    learning_rate_factor,
    without_parameter,
)


def two_parts() -> nn.Module:
    model = nn.Module()
    model.backbone = ConvBNAct(3, 4, 3)
    model.back = nn.Conv2d(4, 2, 1)
    return model


@pytest.mark.parametrize(
    "config", [SGDConfig(type="sgd", weight_decay=0.1), AdamWConfig(type="adamw", weight_decay=0.1)]
)
def test_only_kernels_decay(config: SGDConfig | AdamWConfig) -> None:
    model = two_parts()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"backbone.conv.weight", "back.weight"}


def test_sgd_with_nesterov_momentum_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([[2.0]]))
    model = nn.Module()
    model.weight = parameter
    optimizer = build_optimizer(model, SGDConfig(type="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5))
    velocity, value = 0.0, 2.0
    for gradient in (1.0, -3.0):
        parameter.grad = torch.tensor([[gradient]])
        optimizer.step()
        total = gradient + 0.5 * value
        velocity = 0.9 * velocity + total
        value -= 0.1 * (total + 0.9 * velocity)
    assert parameter.item() == pytest.approx(value, rel=1e-6)


def test_cosine_falls_from_one_to_its_end() -> None:
    cosine = CosineConfig(type="cosine", final=0.1)
    factors = [learning_rate_factor(step, 10, 0, cosine) for step in range(11)]
    assert factors[0] == 1
    assert factors[5] == pytest.approx(0.55)
    assert factors[10] == pytest.approx(0.1)
    assert factors[1] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 10)) / 2)
    assert factors == sorted(factors, reverse=True)


def test_steps_fall_at_their_milestones() -> None:
    steps = StepConfig(type="step", milestones=(0.5, 0.8), gamma=0.1)
    factors = [learning_rate_factor(step, 10, 0, steps) for step in range(10)]
    assert factors == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 2)


def test_warmup_rises_in_equal_steps() -> None:
    steps = StepConfig(type="step", milestones=())
    factors = [learning_rate_factor(step, 100, 4, steps) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_frozen_parts_keep_their_statistics() -> None:
    model = two_parts()
    assert freeze(model, ["backbone"], norm=False) == 3  # a kernel and batch norm's two
    model.train()
    keep_norm_statistics(model, everywhere=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    out = model.get_submodule("back")(model.get_submodule("backbone")(torch.randn(2, 3, 8, 8)))
    out.sum().backward()
    build_optimizer(model, SGDConfig(type="sgd")).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"back.weight", "back.bias"}


def test_a_prefix_is_whole_names() -> None:
    model = two_parts()
    with pytest.raises(ValueError, match="backbone"):
        freeze(model, ["ba"], norm=False)
    freeze(model, ["back"], norm=False)
    assert model.get_parameter("backbone.conv.weight").requires_grad


def test_freeze_norm_everywhere() -> None:
    model = two_parts()
    freeze(model, [], norm=True)
    keep_norm_statistics(model.train(), everywhere=True)
    assert not model.get_submodule("backbone.norm").training
    assert not model.get_parameter("backbone.norm.weight").requires_grad
    assert model.get_parameter("backbone.conv.weight").requires_grad


def test_everything_frozen_is_an_error() -> None:
    model = two_parts()
    freeze(model, ["backbone", "back"], norm=False)
    with pytest.raises(ValueError, match="parameter"):
        build_optimizer(model, SGDConfig(type="sgd"))


def test_a_prefix_without_a_parameter_names_the_other_parts_of_its_parents() -> None:
    model = nn.Sequential(nn.Sequential(ConvBNAct(3, 4, 3), nn.Conv2d(4, 4, 1)), nn.Conv2d(4, 2, 1))
    freeze_all_but = without_parameter(model, ("0", "1"), "0.0.conv.weight")
    assert freeze_all_but == ("0.0.norm", "0.1", "1")
    assert without_parameter(model, ("0.0.conv.weight", "1"), "0.0.conv.weight") == ("1",)
    assert without_parameter(model, ("0.1", "1"), "0.0.conv.weight") == ("0.1", "1")
