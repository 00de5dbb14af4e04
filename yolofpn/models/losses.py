"""Losses that are divided by a number which depends on the batch, and that number over all processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed
from torch import Tensor


class Losses(dict[str, Tensor]):
    """Losses by name, with what they were divided by.

    Attributes:
        counts: that number by name, over all processes and before it was made at least 1: what gradients of several
            batches are weighted by.
    """

    def __init__(self, losses: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> None:
        super().__init__(losses)
        self.counts = dict(counts)

    @classmethod
    def over(cls, sums: Mapping[str, Tensor], number: int) -> Losses:
        """The sums of a batch divided by ``number``, such as that of its positives, or rather its mean of a process.

        Averaging gradients over processes, as DDP does, then gives what one process would get from the whole batch.
        At least 1 in all counts.
        """
        count = torch.tensor(float(number), device=next(iter(sums.values())).device)
        processes = 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            processes = torch.distributed.get_world_size()
        normaliser = count.clamp(min=1) / processes
        return cls({name: loss / normaliser for name, loss in sums.items()}, dict.fromkeys(sums, count))

    def beside(self, others: Losses) -> Losses:
        """These and ``others``, each divided by its own number."""
        return Losses({**self, **others}, {**self.counts, **others.counts})
