"""Random state of each process, so that a resumed run draws the same random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

RandomState: TypeAlias = dict[str, Tensor]  # by type of device


def random_state(device: torch.device) -> RandomState:
    """Return the random state of this process."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(states: Tensor | Sequence[RandomState], rank: int, device: torch.device) -> None:
    """Restore the result of ``random_state``.

    Args:
        states: of all processes of the run, in the order of ranks; older checkpoints have that of the first alone.
        rank: of this process; if there was none of that number, its state stays as it is.
        device: where it trains.
    """
    if isinstance(states, Tensor):
        states = [{"cpu": states}]
    if rank >= len(states):
        return
    torch.set_rng_state(states[rank]["cpu"])
    if device.type == "cuda" and "cuda" in states[rank]:
        torch.cuda.set_rng_state(states[rank]["cuda"], device)
