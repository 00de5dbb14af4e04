"""Single steps: accumulation, clipping, gradients that are not finite, float16, layouts and compilation."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from tests.training.accumulation import HEADS, draw_first, images_of, objects, small_two_stage, uneven_batch
from tests.training.small import small_config
from yolofpn.config import Config
from yolofpn.data.loader import Batch
from yolofpn.models.build import build_model
from yolofpn.models.losses import Losses
from yolofpn.models.two_stage import matcher
from yolofpn.structures import Target
from yolofpn.training.build_trainer import restore
from yolofpn.training.checkpoint import Progress
from yolofpn.training.distributed import Ranks
from yolofpn.training.ema import ModelEMA, ModelT
from yolofpn.training.learner import Learner, Update
from yolofpn.training.optim import keep_norm_statistics
from yolofpn.training.random_state import random_state, restore_random_state


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


def make_learner(model: ModelT, **options: Any) -> Learner[ModelT]:
    optimizer = SGD(model.parameters(), lr=1.0)
    scaler = options.pop("scaler", GradScaler("cpu", enabled=False))
    return Learner(model, model, None, optimizer, scaler, torch.device("cpu"), **options)


def test_gradients_of_batches_are_averaged_and_losses_summed() -> None:
    learner = make_learner(Pull())
    losses = learner.add_gradients([batch(10), batch(20)])
    assert {name: value.item() for name, value in losses.items()} == {"loss_pull": 500, "loss_constant": 4}
    assert learner.update(0.1) is Update.DONE
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
    assert learner.update(1.0) is Update.NOT_FINITE
    assert torch.equal(model.weight.data, before)


def test_the_scaler_passes_over_an_overflow_and_scales_less() -> None:
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    scaler = GradScaler("cpu", init_scale=1024.0)
    learner = make_learner(model, scaler=scaler, clip_norm=10.0)
    for gradient, moves in ((torch.tensor([[math.inf, 1.0]]), False), (torch.tensor([[512.0, 0.0]]), True)):
        scaler.scale(torch.ones(1))  # as the backward pass does: the scale is set up
        model.weight.grad = gradient
        assert learner.update(1.0) is (Update.DONE if moves else Update.SKIPPED)
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
        if learner.update(1.0) is Update.NOT_FINITE:
            break
        steps += 1
        assert steps < 50
    assert steps == 26
    assert model.weight.isfinite().all()


def test_state_goes_there_and_back() -> None:
    def make() -> Learner[nn.Sequential]:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9)
        ema = ModelEMA(model, 0.9, 3)
        scaler = GradScaler("cpu", init_scale=8.0)
        return Learner(model, model, ema, optimizer, scaler, torch.device("cpu"))

    first, second = make(), make()
    first.scaler.scale(first.model(torch.randn(4, 2)).sum()).backward()
    first.update(0.5)
    state = first.state()
    second.restore(state)
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


@pytest.fixture
def config() -> Config:
    return small_config()


def assert_parts_are_the_whole(learner: Learner[Any], whole: Batch, *divisions: tuple[int, ...]) -> None:
    """A batch has the gradients and losses of its parts, however many images each of these has."""
    expected_losses = learner.add_gradients([whole])
    gradients = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    expected = {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}
    for sizes in divisions:
        ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
        parts = [images_of(whole, end - size, end) for size, end in zip(sizes, ends, strict=True)]
        losses = learner.add_gradients(parts)
        for name, gradient in expected.items():
            found = learner.model.get_parameter(name).grad
            assert found is not None and (found - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-9, name
        for name, loss in expected_losses.items():
            assert losses[name].item() / len(parts) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_large_batch(config: Config) -> None:
    """Though the images hold 1, 4, 0 and 2 objects, and the losses are divided by how many predictions learn one."""
    torch.manual_seed(0)
    model = build_model(config.model, 2, config.input, config.postprocess)
    keep_norm_statistics(model, everywhere=True)
    assert_parts_are_the_whole(make_learner(model), objects(1, 4, 0, 2), (1, 1, 1, 1), (3, 1), (2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_accumulated_gradients_of_two_stages_are_those_of_the_large_batch(
    head: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though their two losses are divided by different numbers, and images have fewer samples than are looked at."""
    monkeypatch.setattr(matcher, "_draw", draw_first)
    model = small_two_stage(head, config)
    whole = uneven_batch()
    counts = [model(whole.images[i : i + 1], whole.targets[i : i + 1]).counts for i in range(4)]
    per_loss = [tuple(sorted({int(count) for count in own.values()})) for own in counts]
    assert len(set(per_loss)) > 1, "the images are to be uneven"
    assert_parts_are_the_whole(make_learner(model), whole, (1, 1, 1, 1), (3, 1))


class TwoCounts(nn.Module):
    """Two losses divided by different numbers, which the brightness says; with a coin and with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm2d(3)
        self.passes = 0

    def forward(self, images: Tensor, targets: list[Target]) -> Losses:
        self.passes += 1
        self.norm(images.float())
        brightness, coin = images.float().mean(), torch.rand(())
        first = Losses.over({"loss_first": self.weight * coin}, 4)
        return first.beside(Losses.over({"loss_second": self.weight * 2 * coin}, int(brightness)))


def test_a_step_is_only_done_again_where_numbers_are_uneven() -> None:
    """Even ones only scale; in a step that is done again random numbers and statistics are those of one pass."""
    for values, passes in (([8, 8, 8], 3), ([8, 4], 4)):
        model = TwoCounts()
        learner = make_learner(model)
        torch.manual_seed(3)
        learner.add_gradients([batch(value) for value in values])
        assert model.passes == passes
        assert model.norm.num_batches_tracked is not None and model.norm.num_batches_tracked.item() == len(values)
        after = torch.rand(())
        torch.manual_seed(3)
        coins = torch.rand(len(values))
        assert torch.equal(after, torch.rand(()))
        expected = coins.sum() / (4 * len(values)) + 2 * coins.sum() / sum(values)
        torch.testing.assert_close(model.weight.grad, expected)


def test_batches_without_objects_divide_by_one_in_all(config: Config) -> None:
    model = build_model(config.model, 2, config.input, config.postprocess)
    keep_norm_statistics(model, everywhere=True)
    learner, empty = make_learner(model), objects(0, 0)
    whole = learner.add_gradients([empty])
    parts = learner.add_gradients([images_of(empty, 0, 1), images_of(empty, 1, 2)])
    assert parts["loss_objectness"].item() / 2 == pytest.approx(whole["loss_objectness"].item(), rel=1e-5)


class Overflowing(nn.Module):
    """A network with batch norm whose gradient is infinite for white images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        pixels = images.float()
        return {"loss": self.norm(pixels).sum() * (torch.inf if pixels.min() == 255 else 1.0) * 1e-3}


def test_a_skipped_step_moves_nothing() -> None:
    model = Overflowing()
    ema = ModelEMA(model, 0.9, 1)
    optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9)
    scaler = GradScaler("cpu", init_scale=8.0)
    learner = Learner(model, model, ema, optimizer, scaler, torch.device("cpu"))
    learner.add_gradients([batch(100)])
    assert learner.update(1.0) is Update.DONE
    before = copy.deepcopy(learner.state())
    learner.add_gradients([batch(255)])
    assert learner.update(1.0) is Update.SKIPPED
    after = learner.state()
    assert after["ema_updates"] == before["ema_updates"] == 1
    for part in ("model", "ema"):
        for name, tensor in before[part].items():
            assert torch.equal(tensor, after[part][name]), (part, name)
    for one, other in zip(before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    assert scaler.get_scale() == 4.0


def test_each_process_takes_back_its_own_random_numbers() -> None:
    cpu = torch.device("cpu")
    states, drawn = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(random_state(cpu))
        drawn.append(torch.rand(3))
    for rank in (1, 0):
        restore_random_state(states, rank, cpu)
        assert torch.equal(torch.rand(3), drawn[rank])
    restore_random_state(states[1]["cpu"], 0, cpu)  # as checkpoints before held it
    assert torch.equal(torch.rand(3), drawn[1])
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    restore_random_state(states, 2, cpu)  # a process that the run did not have
    assert torch.equal(torch.rand(3), expected)


def test_a_resumed_run_draws_the_numbers_that_come_next() -> None:
    first, second = make_learner(Pull()), make_learner(Pull())
    state = {**first.state(), "progress": asdict(Progress()), "rng": [random_state(torch.device("cpu"))]}
    expected = torch.rand(3)
    torch.manual_seed(4)
    restore(second, state, Ranks())  # type: ignore[arg-type]  # it is no detector
    assert torch.equal(torch.rand(3), expected)
