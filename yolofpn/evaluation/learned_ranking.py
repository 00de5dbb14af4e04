"""Learns from examples how probable a mistake is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from yolofpn.evaluation.table import Bools, Floats, Ints

HIDDEN = 16
STEPS = 300
RATE = 1e-2
DECAY = 1e-2


class Examples(NamedTuple):
    """What was seen, and what was true.

    Attributes:
        features: [S, F].
        wrong: [S].
        images: [S] in which image.
    """

    features: Floats
    wrong: Bools
    images: Ints

    def where(self, rows: Bools) -> Examples:
        """Return some of them."""
        return Examples(self.features[rows], self.wrong[rows], self.images[rows])


def learn_probability(examples: Sequence[Examples], features: Floats) -> Floats:
    """Train a network with one hidden layer on ``examples``; return its probabilities [S] of ``features`` [S, F].

    The result is the same each time.
    """
    if not len(features):
        return np.zeros(0)
    seen = np.concatenate([each.features for each in examples])
    wrong = np.concatenate([each.wrong for each in examples])
    mean, deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-6
    inputs, wanted = torch.from_numpy((seen - mean) / deviation).float(), torch.from_numpy(wrong).float()
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(HIDDEN, inputs.shape[1], generator=generator) / inputs.shape[1] ** 0.5
    parameters = [first, torch.zeros(HIDDEN), torch.randn(1, HIDDEN, generator=generator) / HIDDEN**0.5, torch.zeros(1)]
    for each in parameters:
        each.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(_logits(inputs, parameters), wanted)
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        asked = torch.from_numpy((features - mean) / deviation).float()
        return _logits(asked, parameters).double().sigmoid().numpy()  # in float32 small ones would all be 0


def _logits(inputs: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    first, bias, second, last = parameters
    return F.linear(F.linear(inputs, first, bias).relu(), second, last)[:, 0]
