"""Single steps: accumulation, clipping, gradients that are not finite, float16, layouts and compilation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from yolofpn.data.loader import Batch
from yolofpn.structures import Target
from yolofpn.training.ema import ModelEMA
from yolofpn.training.learner import Learner


class Pull(nn.Module):
    """Its loss pulls the one weight to the mean brightness of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        wanted = images.float().mean()
        return {"loss_pull": (self.weight - wanted).square().sum(), "loss_constant": torch.tensor(2.0)}


def batch(value: int, count: int = 1) -> Batch:
    none = torch.zeros(0)
    target = Target(none.reshape(0, 4), none.long(), none.bool(), none)
    images = torch.full((count, 3, 4, 4), value, dtype=torch.uint8)
    return Batch(images, [target] * count, [(0,)] * count)


def make_learner(model: nn.Module, **options: Any) -> Learner:
    optimizer = SGD(model.parameters(), lr=1.0)
    scaler = options.pop("scaler", GradScaler("cpu", enabled=False))
    return Learner(model, model, None, optimizer, scaler, torch.device("cpu"), **options)


def test_gradients_of_batches_are_averaged_and_losses_summed() -> None:
    learner = make_learner(Pull())
    losses = learner.add_gradients([batch(10), batch(20)])
    assert {name: value.item() for name, value in losses.items()} == {"loss_pull": 500, "loss_constant": 4}
    assert learner.update(0.1)
    assert learner.model.get_parameter("weight").item() == pytest.approx(0.1 * 2 * 15)
    learner.add_gradients([batch(10)])  # from zeroed gradients
    assert learner.model.get_parameter("weight").grad == pytest.approx(2 * (3.0 - 10))


def test_clipping_keeps_the_direction() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    learner = make_learner(model, clip_norm=1.0)
    model.weight.grad = torch.tensor([[30.0, 40.0]])
    learner.update(1.0)
    torch.testing.assert_close(model.weight.data, torch.tensor([[-0.6, -0.8]]), rtol=1e-5, atol=1e-6)
    model.weight.grad = torch.tensor([[0.3, 0.4]])  # short enough
    learner.update(1.0)
    torch.testing.assert_close(model.weight.data, torch.tensor([[-0.9, -1.2]]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_change_nothing(clip_norm: float | None, value: float) -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    learner = make_learner(model, clip_norm=clip_norm)
    model.weight.grad = torch.tensor([[value, 1.0]])
    assert not learner.update(1.0)
    assert torch.equal(model.weight.data, before)


def test_the_scaler_passes_over_an_overflow_and_scales_less() -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    scaler = GradScaler("cpu", init_scale=1024.0)
    learner = make_learner(model, scaler=scaler, clip_norm=10.0)
    for gradient, moves in ((torch.tensor([[math.inf, 1.0]]), False), (torch.tensor([[512.0, 0.0]]), True)):
        scaler.scale(torch.ones(1))  # as the backward pass does: the scale is set up
        model.weight.grad = gradient
        assert learner.update(1.0)
        assert torch.equal(model.weight.data, before) != moves
    assert scaler.get_scale() == 512.0
    torch.testing.assert_close(before - model.weight.data, torch.tensor([[1.0, 0.0]]))


def test_gradients_that_no_scale_makes_finite_are_reported() -> None:
    """A network that is broken would else learn nothing for ever without a word."""
    model = nn.Linear(2, 1, bias=False)
    scaler = GradScaler("cpu")
    learner = make_learner(model, scaler=scaler)
    steps = 0
    while True:
        scaler.scale(torch.ones(1))
        model.weight.grad = torch.tensor([[math.nan, 1.0]])
        if not learner.update(1.0):
            break
        steps += 1
        assert steps < 50
    assert steps == 26
    assert model.weight.isfinite().all()


def test_state_goes_there_and_back() -> None:
    def make() -> Learner:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9)
        ema = ModelEMA(model, 0.9, 3)
        scaler = GradScaler("cpu", init_scale=8.0)
        return Learner(model, model, ema, optimizer, scaler, torch.device("cpu"))

    first, second = make(), make()
    first.scaler.scale(first.model(torch.randn(4, 2)).sum()).backward()
    first.update(0.5)
    state = first.state()
    random = torch.rand(3)
    second.restore(state)
    assert torch.equal(torch.rand(3), random)
    assert second.ema is not None and second.ema.updates == 1
    after = second.state()
    for part in ("model", "ema"):
        for name, tensor in state[part].items():
            assert torch.equal(tensor, after[part][name]), name
    momenta = [list(s["optimizer"]["state"].values()) for s in (state, after)]
    assert len(momenta[0]) == 4
    for one, other in zip(*momenta, strict=True):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    assert state["scaler"] == after["scaler"]
    assert after["optimizer"]["param_groups"][0]["lr"] == 0.5


class Layout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.channels_last = False

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        self.channels_last = images.is_contiguous(memory_format=torch.channels_last)
        return {"loss": self.weight.sum()}


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_are_laid_out_as_asked(channels_last: bool) -> None:
    model = Layout()
    make_learner(model, channels_last=channels_last).add_gradients([batch(1, 2)])
    assert model.channels_last == channels_last
