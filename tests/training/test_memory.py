"""The estimate of a training step's memory."""

from __future__ import annotations

import pytest
import torch

from tests.training.small import small_config
from yolofpn.config import AdamWConfig, Config, SGDConfig, TrainConfig
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO
from yolofpn.training.memory import BACKWARD_SHARE, MemoryEstimate, estimate_memory, kept_bytes

CPU = torch.device("cpu")


@pytest.fixture
def config() -> Config:
    return small_config()


@pytest.fixture
def model(config: Config) -> YOLO:
    return build_yolo(config.model, 2, config.input, config.postprocess)


def test_state_counts_every_copy(model: YOLO) -> None:
    weights = sum(4 * parameter.numel() for parameter in model.parameters())

    def state(settings: TrainConfig) -> int:
        return estimate_memory(model, settings, (64, 64), CPU, torch.float32).state

    sgd, adamw = SGDConfig(type="sgd"), AdamWConfig(type="adamw")
    plain = state(TrainConfig(optimizer=sgd, ema_decay=0))  # weights, gradients, momentum
    assert plain == pytest.approx(3 * weights, rel=0.01)
    assert state(TrainConfig(optimizer=sgd, ema_decay=0.9)) == plain + weights
    assert state(TrainConfig(optimizer=adamw, ema_decay=0.9)) == plain + 2 * weights


def test_images_count_by_their_area_and_type(model: YOLO) -> None:
    def per_image(size: int, dtype: torch.dtype) -> int:
        return estimate_memory(model, TrainConfig(), (size, size), CPU, dtype).per_image

    small = per_image(64, torch.float32)
    assert per_image(128, torch.float32) == pytest.approx(4 * small, rel=0.01)
    assert 0.4 * small < per_image(64, torch.bfloat16) < 0.8 * small


def test_kept_maps_by_hand(model: YOLO) -> None:
    """Of every convolution its input, of every batch norm its input, of every activation its output, is kept."""
    kept = kept_bytes(model, torch.zeros(2, 3, 64, 64), torch.float32) - kept_bytes(
        model, torch.zeros(1, 3, 64, 64), torch.float32
    )
    first = 4 * 8 * 32 * 32
    assert kept > 4 * 3 * 64 * 64 + 2 * first  # the image, and the first map before batch norm and after
    maps = ((3, 64), (8, 32), (16, 16), (32, 8), (64, 4), (128, 2))
    total = sum(4 * channels * side * side for channels, side in maps)
    assert kept < 3 * total


def test_the_model_is_left_as_it_was(model: YOLO) -> None:
    before = {name: tensor.clone() for name, tensor in model.train().state_dict().items()}
    estimate_memory(model, TrainConfig(), (64, 64), CPU, torch.float32)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_line() -> None:
    estimate = MemoryEstimate(state=1_500_000_000, per_image=50_000_000, batch_size=10)
    assert estimate.total == 2_000_000_000
    assert str(estimate).startswith("memory: about 2.00 GB: 1.50 GB for weights")
    assert "50 MB for each of 10 images" in str(estimate)
    assert 0 < BACKWARD_SHARE < 1
