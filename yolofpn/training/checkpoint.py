"""What a run must know to go on as if it had never stopped, written so that no failure loses the one before."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from yolofpn.errors import UserError
from yolofpn.training.ema import ModelEMA

FORMAT_VERSION = 1


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: the epoch that goes on, from 0.
        batch: batches of it that are done.
        step: optimiser steps that are done.
        seconds: of training so far, over all of its parts.
        best_ap: the best AP so far; -1 before the first evaluation.
        best_epoch: where it was reached.
        worse_evaluations: evaluations since then.
        loss_sums: of the batches of this epoch that are done, by name.
        finished: the run has come to its end.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_ap: float = -1.0
    best_epoch: int = -1
    worse_evaluations: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    finished: bool = False


@dataclass(frozen=True)
class Learner:
    """Everything that changes while a model learns."""

    model: nn.Module
    ema: ModelEMA | None
    optimizer: Optimizer
    scaler: GradScaler

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain numbers."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "ema_updates": self.ema.updates if self.ema else 0,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        if self.ema:
            self.ema.model.load_state_dict(state["ema"])
            self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def save_checkpoint(
    path: Path, learner: Learner, progress: Progress, *, metadata: str, config: str, overfit: int | None
) -> None:
    """Write a checkpoint; the file of that name stays until the new one lies on the disk.

    Args:
        path: ``last.pt`` or ``best.pt`` of a run folder.
        learner: what learns.
        progress: how far it has come.
        metadata: of the weights, as JSON.
        config: of the run, as JSON.
        overfit: train and evaluate on so many pictures only.

    Raises:
        UserError: it cannot be written, as on a full disk; an earlier file is still there.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "metadata": metadata,
        "config": config,
        "overfit": overfit,
        "progress": asdict(progress),
        **learner.state(),
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        unfinished.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); the checkpoint before it is unharmed") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What ``save_checkpoint`` wrote; nothing in it can run code.

    Raises:
        UserError: it is missing, damaged, or no checkpoint of this program.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: no checkpoint to resume from") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise UserError(f"{path}: is damaged or no checkpoint") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path}: is no checkpoint of this program")
    return content
