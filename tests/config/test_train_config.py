"""The sections of a training run."""

import pytest
from pydantic import ValidationError

from yolofpn.config import AdamWConfig, AugmentConfig, MultiScaleConfig, TrainConfig


def test_optimizer_and_schedule_are_told_apart_by_type() -> None:
    train = TrainConfig.model_validate({"optimizer": {"type": "adamw"}, "schedule": {"type": "step", "gamma": 0.5}})
    assert train.optimizer == AdamWConfig(type="adamw")
    assert train.schedule.type == "step"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("ema_decay", 1.0),
        ("clip_norm", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("warmup_share", 1.1),
    ],
)
def test_values_out_of_range(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        TrainConfig.model_validate({key: value})


def test_sizes_are_in_order() -> None:
    assert MultiScaleConfig(lowest=320, highest=320).highest == 320
    with pytest.raises(ValidationError, match="lowest 352 is above highest 320"):
        MultiScaleConfig(lowest=352, highest=320)


def test_chances_are_chances() -> None:
    with pytest.raises(ValidationError, match="mosaic"):
        AugmentConfig(mosaic=1.5)
