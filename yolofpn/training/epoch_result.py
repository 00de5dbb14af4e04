"""The result of a training epoch, for printing, loggers and callbacks."""

from __future__ import annotations

from dataclasses import dataclass

from yolofpn.training.durations import describe_time


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch.

    Attributes:
        epoch: its number, from 1.
        epochs: how many the run has.
        step: optimiser steps of the run so far.
        losses: ``loss`` and its parts ``loss_...``, means over the batches of the epoch.
        metrics: ``AP``, ``AP50`` and so on, in [0, 1], of the validation split; -1 where it has no objects; empty if
            the epoch was not evaluated.
        learning_rate: of the last step.
        seconds: how long the epoch took, with its evaluation.
        run_seconds: of training so far, without evaluations.
        images_per_second: training images, without the evaluation.
        best_ap: the best AP of the run so far; -1 before the first evaluation.
    """

    epoch: int
    epochs: int
    step: int
    losses: dict[str, float]
    metrics: dict[str, float]
    learning_rate: float
    seconds: float
    run_seconds: float
    images_per_second: float
    best_ap: float

    def scalars(self) -> dict[str, float]:
        """The row of ``metrics.csv``."""
        axes: dict[str, float] = {"epoch": self.epoch, "step": self.step, "seconds": self.run_seconds}
        return {**axes, "lr": self.learning_rate, **self.losses, **self.metrics}

    def __str__(self) -> str:
        """Format the result with the estimated remaining time."""
        parts = " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in self.losses.items() if k != "loss")
        loss, rate = self.losses["loss"], self.learning_rate
        line = f"epoch {self.epoch}/{self.epochs}: loss {loss:.3f} ({parts}) lr {rate:.2e}"
        if self.metrics:
            line += f"  AP {self.metrics['AP']:.3f} AP50 {self.metrics['AP50']:.3f}"
        left = self.epochs - self.epoch
        return f"{line}  {describe_time(self.seconds)}" + (
            f", {describe_time(self.seconds * left)} left" if left else ""
        )
