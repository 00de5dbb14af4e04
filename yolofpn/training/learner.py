"""A model while it learns: one optimiser step at a time, from the gradients of one batch or several."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from yolofpn.data.loader import Batch
from yolofpn.models.losses import Losses
from yolofpn.training.distill import Distillation
from yolofpn.training.ema import ModelEMA, ModelT
from yolofpn.training.optim import set_learning_rate
from yolofpn.training.random_state import random_state, restore_random_state

# A scale of float16 gradients that 26 overflows in a row lead to: less of it would not help.
LEAST_SCALE = 2.0**-10


class Update(enum.Enum):
    """Outcome of an optimiser step."""

    DONE = enum.auto()
    SKIPPED = enum.auto()  # float16 gradients overflowed: nothing has changed but their scale
    NOT_FINITE = enum.auto()  # nothing has changed, and no other scale would help


@dataclass(frozen=True)
class Learner(Generic[ModelT]):
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

    model: ModelT
    network: nn.Module
    ema: ModelEMA[ModelT] | None
    optimizer: Optimizer
    scaler: GradScaler
    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    clip_norm: float | None = None
    _buffers: list[Tensor] = field(default_factory=list)

    @property
    def averaged(self) -> ModelT:
        """The evaluated and saved model: the EMA, or the model itself without EMA."""
        return self.ema.model if self.ema else self.model

    def note_progress(self, share: float) -> None:
        """Set the progress of the run, in [0, 1], which reduces the weight of distillation."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        if isinstance(network, Distillation):
            network.progress = share

    def add_gradients(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Backward through each batch from zeroed gradients; the losses by name, each summed over the batches.

        Losses that were divided by a number of their own batch (``Losses``) count as if all batches were one, so that
        the gradient is that of the large batch. Batch norm, where it is live, still sees one batch at a time.

        What all batches together divide by is only known at the end. Where it is in the same proportion to what was
        assumed for all losses, the gradients are scaled. Where it is not, which happens to two stages if some image
        has fewer anchors or proposals than are looked at, the step is done again with the numbers now known.
        """
        several = len(batches) > 1
        random = random_state(self.device) if several else {}
        self._remember_buffers(always=several)
        weights = BatchWeights(len(batches))
        losses = self._accumulate(batches, weights)
        if weights.uneven():
            restore_random_state([random], 0, self.device)
            self._restore_buffers()
            weights = weights.corrected()
            losses = self._accumulate(batches, weights)
        return self._rescaled(losses, weights.factor())

    def _accumulate(self, batches: Sequence[Batch], weights: BatchWeights) -> dict[str, Tensor]:
        """The gradients of all batches and the sums of their losses, each batch with its weights."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(1, device=self.device)
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
                weighted = torch.stack(list(losses.values())) * weights.of_next(losses)
                self.scaler.scale(weighted.sum() / len(batches)).backward()  # type: ignore[no-untyped-call]
            sums = sums + weighted.detach()
        return dict(zip(losses, sums, strict=True))

    def _rescaled(self, losses: dict[str, Tensor], factor: Tensor | None) -> dict[str, Tensor]:
        """Gradients and losses times ``factor``."""
        if factor is None:
            return losses
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        return {name: loss * factor for name, loss in losses.items()}

    def update(self, rate: float) -> Update:
        """Do an optimiser step with the current gradients.

        Gradients that are not finite change nothing: neither weights nor their average nor the statistics of batch
        norm. With float16 the next ones are then scaled less, down to ``LEAST_SCALE``.
        """
        set_learning_rate(self.optimizer, rate)
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, math.inf if self.clip_norm is None else self.clip_norm)
        if not bool(norm.isfinite()):
            return self._scale_less()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema:
            self.ema.update(self.model)
        return Update.DONE

    def _scale_less(self) -> Update:
        """After gradients that are not finite, in place of a step."""
        scale = self.scaler.get_scale()
        self.scaler.update()
        if not self.scaler.is_enabled() or scale <= LEAST_SCALE or self.scaler.get_scale() >= scale:
            return Update.NOT_FINITE
        self._restore_buffers()
        return Update.SKIPPED

    def _remember_buffers(self, *, always: bool) -> None:
        """Save batch norm statistics, to restore them if the step is skipped or repeated."""
        if always or self.scaler.is_enabled():
            self._buffers[:] = [buffer.detach().clone() for buffer in self.model.buffers()]

    def _restore_buffers(self) -> None:
        for buffer, before in zip(self.model.buffers(), self._buffers, strict=True):
            buffer.copy_(before)

    def state(self) -> dict[str, Any]:
        """Return the state, without random state, as tensors and plain numbers."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "ema_updates": self.ema.updates if self.ema else 0,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of ``state``."""
        self.model.load_state_dict(state["model"])
        if self.ema:
            self.ema.model.load_state_dict(state["ema"])
            self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


class BatchWeights:
    """How much each loss of each batch of a step counts, where it was divided by a number of its own batch.

    Args:
        batches: how many there are.
        assumed: [L], what the L losses are divided by in all batches together; by default what it would be if all were
            as the first one.
    """

    def __init__(self, batches: int, assumed: Tensor | None = None) -> None:
        self._batches = batches
        self._assumed = assumed
        self._total: Tensor | None = None

    def of_next(self, losses: Mapping[str, Tensor]) -> Tensor | float:
        """Return the weights of the next batch, [L]; their mean is 1."""
        if self._batches == 1 or not isinstance(losses, Losses):
            return 1.0
        first = next(iter(losses.counts.values()))
        counts = torch.stack([losses.counts.get(name, first) for name in losses])
        own = counts.clamp(min=1)  # what they were divided by
        if self._assumed is None:
            self._assumed = own * self._batches
        self._total = counts if self._total is None else self._total + counts
        return own * self._batches / self._assumed

    def uneven(self) -> bool:
        """Whether no common factor corrects all losses."""
        ratios = self._ratios()
        return ratios is not None and bool(ratios.min() < ratios.max())

    def corrected(self) -> BatchWeights:
        """The weights of the same batches with what they turned out to be divided by."""
        assert self._total is not None
        return BatchWeights(self._batches, self._total.clamp(min=1))

    def factor(self) -> Tensor | None:
        """What corrects the sum over all batches; None: nothing has to be corrected."""
        ratios = self._ratios()
        return None if ratios is None else ratios[0]

    def _ratios(self) -> Tensor | None:
        return None if self._assumed is None or self._total is None else self._assumed / self._total.clamp(min=1)
