"""A model while it learns: one optimiser step at a time, from the gradients of one batch or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from yolofpn.data.loader import Batch
from yolofpn.training.ema import ModelEMA
from yolofpn.training.optim import set_learning_rate

# A scale of float16 gradients that 26 overflows in a row lead to: less of it would not help.
LEAST_SCALE = 2.0**-10


@dataclass(frozen=True)
class Learner:
    """Everything that changes while a model learns, and how it does.

    Attributes:
        model: what learns.
        network: what is called for the losses: the model, or the same wrapped for several processes.
        ema: the moving average of the model's weights, if there is one.
        optimizer: of the model's parameters.
        scaler: keeps float16 gradients from vanishing; idle with other types.
        device: where the model lies.
        dtype: of the network's arithmetic; the weights themselves are float32.
        channels_last: whether images are laid out so.
        clip_norm: gradients of a larger norm are scaled down to it; None: never.
    """

    model: nn.Module
    network: nn.Module
    ema: ModelEMA | None
    optimizer: Optimizer
    scaler: GradScaler
    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    clip_norm: float | None = None

    @property
    def averaged(self) -> nn.Module:
        """What is evaluated and kept: the moving average, or the model itself where there is none."""
        return self.ema.model if self.ema else self.model

    def add_gradients(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Backward through each batch from zeroed gradients; the losses by name, each summed over the batches."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            batch = batch.to(self.device)
            images = batch.images
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            # Gradients of several processes need to meet only once per step.
            alone = isinstance(self.network, DistributedDataParallel) and number < len(batches)
            with self.network.no_sync() if alone else nullcontext():  # type: ignore[operator]
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    losses: dict[str, Tensor] = self.network(images, batch.targets)
                total = torch.stack(list(losses.values())).sum()
                self.scaler.scale(total / len(batches)).backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                sums[name] = sums[name] + loss.detach() if name in sums else loss.detach()
        return sums

    def update(self, rate: float) -> bool:
        """One optimiser step with the gradients that are there; whether these were finite.

        With float16 a step whose gradients overflow is left out and the next ones are scaled less, as they should be,
        down to ``LEAST_SCALE``; otherwise gradients that are not finite change nothing and are reported.
        """
        set_learning_rate(self.optimizer, rate)
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if self.clip_norm is None else self.clip_norm)
        can_scale_less = self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE
        if not can_scale_less and not bool(norm.isfinite()):
            return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update(self.model)
        return True

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
