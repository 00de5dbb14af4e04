"""The sections that say how a detector is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from yolofpn.fields import (
    InputSide,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictModel,
    UnitFloat,
)

Range = tuple[PositiveFloat, PositiveFloat]


class AugmentConfig(StrictModel):
    """Augmentation settings; 0 disables an augmentation (see ``data/transforms.py``).

    Attributes:
        close_epochs: in the last epochs there is no mosaic and no mixup, so that training ends on real images.
    """

    flip: UnitFloat = 0.5
    vertical_flip: UnitFloat = 0.0
    hue: float = Field(default=0.015, ge=0, le=0.5)
    saturation: UnitFloat = 0.5
    brightness: UnitFloat = 0.3
    scale: Range = (0.7, 1.4)
    translate: UnitFloat = 0.1
    tile: InputSide | None = None
    crop: UnitFloat = 0.3
    crop_scale: UnitFloat = 0.5
    mosaic: UnitFloat = 0.5
    mosaic_zoom: Range = (0.5, 1.5)
    mixup: UnitFloat = 0.0
    min_visibility: UnitFloat = 0.25
    close_epochs: NonNegativeInt = 15


class MultiScaleConfig(StrictModel):
    """Each batch has one of the square sizes lowest, lowest + step, ... highest (YOLOv2, section 2)."""

    lowest: InputSide = 320
    highest: InputSide = 608
    step: InputSide = 32

    @model_validator(mode="after")
    def _in_order(self) -> MultiScaleConfig:
        if self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest} is above highest {self.highest}")
        return self


class SGDConfig(StrictModel):
    """Stochastic gradient descent; ``lr`` is for a batch of ``train.nominal_batch_size``."""

    type: Literal["sgd"]
    lr: PositiveFloat = 0.01
    momentum: UnitFloat = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 5e-4


class AdamWConfig(StrictModel):
    """AdamW (arXiv 1711.05101)."""

    type: Literal["adamw"]
    lr: PositiveFloat = 1e-3
    betas: tuple[UnitFloat, UnitFloat] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.05


OptimizerConfig = Annotated[SGDConfig | AdamWConfig, Field(discriminator="type")]


class CosineConfig(StrictModel):
    """Cosine schedule from the full learning rate to ``final`` times it."""

    type: Literal["cosine"]
    final: UnitFloat = 0.01


class StepConfig(StrictModel):
    """The rate is multiplied by ``gamma`` when each of ``milestones`` (parts of the whole run) has passed."""

    type: Literal["step"]
    milestones: tuple[UnitFloat, ...] = (0.8, 0.9)
    gamma: UnitFloat = 0.1


ScheduleConfig = Annotated[CosineConfig | StepConfig, Field(discriminator="type")]


class DistillConfig(StrictModel):
    """A trained one-stage detector that teaches (see ``training/distill.py``).

    Attributes:
        teacher: its weights: a file, a run folder or a name; with the cell grid and anchors of the model.
        weight: of its losses at the start; it fades to 0 over the run.
    """

    teacher: str
    weight: PositiveFloat = 1.0


class AddClassesConfig(StrictModel):
    """Classes that are added to those of trained one-stage weights (see ``training/incremental.py``).

    Attributes:
        weights: to which they are added: a file, a run folder or a name.
        weight: of the losses that keep the old classes, beside those of the labels.
        ignore_thresh: score from which a detection of the old weights is an ignore region.
    """

    weights: str
    weight: PositiveFloat = 1.0
    ignore_thresh: UnitFloat = 0.2


class TrainConfig(StrictModel):
    """One training run.

    Attributes:
        batch_size: images that go through the network together, on each process.
        nominal_batch_size: gradients of smaller batches are added up to about so many images per step.
        warmup_steps: optimiser steps over which the rate rises from 0.
        warmup_share: the warm-up takes at most this part of all steps.
        ema_decay: of the moving average of the weights that is evaluated and kept, at most: short runs have it follow
            over 3 % of their steps; 0 switches it off.
        ema_steps: the average follows the weights more closely during the first such steps.
        clip_norm: gradients of a larger norm are scaled down to it; None: never.
        precision: 'auto' is bf16 where the hardware is fast at it, else fp32.
        compile: whether torch.compile builds the network's kernels.
        sync_batch_norm: whether several processes share batch norm's statistics.
        freeze: prefixes of parameters that stay as they are, such as [backbone].
        freeze_norm: whether batch norm keeps its statistics and weights.
        eval_interval: epochs between evaluations; the last epoch is always evaluated.
        patience: evaluations without a better AP after which training stops; None: it never stops early.
        checkpoint_minutes: how much work at most is lost when the machine stops.
        repeat_thresh: images of a class that less than this part of all hold are shown more often, the rarer the
            class the more (see ``data/repeats.py``); 0: every image once per epoch.
        reference_images: ``epochs`` are for a data set of so many images; smaller ones take more, larger ones fewer
            (``epochs`` x (reference / images) ** 0.55, between 20 and 600); None: always ``epochs``.
        epoch_batches: an epoch is at most so many batches, for data sets that take too long as a whole; None: all.
        minutes: how long the run should take; epochs and what depends on them are then chosen by its speed.
        distill: a detector that teaches beside the boxes; None: none.
        add_classes: weights whose classes are kept, while those of the data are added; None: none. Set by
            ``train.py --add-classes``.
        workers: processes that load images; None: as fits the machine.
        shuffle_shards: of data sets in shards, the images of so many are mixed at a time.
    """

    epochs: PositiveInt = 300
    batch_size: PositiveInt = 16
    nominal_batch_size: PositiveInt = 64
    optimizer: OptimizerConfig = SGDConfig(type="sgd")
    schedule: ScheduleConfig = CosineConfig(type="cosine")
    warmup_steps: NonNegativeInt = 500
    warmup_share: UnitFloat = 0.1
    ema_decay: float = Field(default=0.9998, ge=0, lt=1)
    ema_steps: PositiveInt = 1000
    clip_norm: PositiveFloat | None = 10.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    sync_batch_norm: bool = False
    multi_scale: MultiScaleConfig | None = None
    freeze: tuple[str, ...] = ()
    freeze_norm: bool = False
    eval_interval: PositiveInt = 1
    patience: PositiveInt | None = None
    checkpoint_minutes: PositiveFloat = 5.0
    repeat_thresh: UnitFloat = 0.0
    reference_images: PositiveInt | None = None
    epoch_batches: PositiveInt | None = None
    minutes: PositiveFloat | None = None
    distill: DistillConfig | None = None
    add_classes: AddClassesConfig | None = None
    workers: int | None = Field(default=None, ge=0, le=1024)
    shuffle_shards: PositiveInt = 8
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _one_teacher(self) -> TrainConfig:
        if self.distill is not None and self.add_classes is not None:
            raise ValueError("distill and add_classes exclude each other: both are a teacher")
        return self
