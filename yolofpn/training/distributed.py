"""Distributed training with ``torchrun``; all functions also work in a single process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from yolofpn.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """Rank and world size of this process.

    Attributes:
        local_rank: number of this process on its machine, which chooses the GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which prints and writes."""
        return self.rank == 0

    @property
    def on_machine(self) -> int:
        """The processes of this run on this machine, as torchrun tells."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if self.world_size > 1 else 1

    def take_device(self, wanted: torch.device) -> torch.device:
        """``wanted``, but of several processes on one machine each has a GPU of its own, now the current one."""
        if self.world_size > 1 and wanted.type == "cuda":
            wanted = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(wanted)
        return wanted


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Meet the other processes that ``torchrun`` started, if it did; those of Ray Train have met already.

    Raises:
        UserError: the others are not there, or one of them ended before this one.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0)))
    if dist.is_initialized():
        yield ranks
        return
    try:
        _meet(ranks)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"cannot meet the {ranks.world_size} processes of this run at {place}: {_line(error)}"
        ) from error
    try:
        yield ranks
    except RuntimeError as error:
        if not is_lost_contact(error):
            raise
        raise UserError(
            f"process {ranks.rank} lost contact with another of the {ranks.world_size} of this run, whose output says "
            f"why ({_line(error)})"
        ) from error
    finally:
        dist.destroy_process_group()


def _meet(ranks: Ranks) -> None:
    # Tensors of GPUs go through NCCL, plans and checkpoints through Gloo: the device is known later than the plan.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    # With a fixed --node-rank, torchrun's store outlives its restarts: a process would find addresses of ended ones.
    store, _, _ = next(rendezvous("env://"))
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = dist.PrefixStore(f"restart{restart}", store)  # type: ignore[attr-defined]  # documented, but not in __all__
    dist.init_process_group(backend, store=own, rank=ranks.rank, world_size=ranks.world_size)


def is_lost_contact(error: RuntimeError) -> bool:
    """Whether another process has ended, or the network between the two."""
    # Gloo raises plain RuntimeErrors, which name its source files.
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def gather(value: Any) -> list[Any]:  # noqa: ANN401
    """``value`` of every process, in the order of ranks."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:  # noqa: ANN401
    """The main process's ``value``."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def answer_of_main(ask: Callable[[], bool]) -> bool:
    """The main process's answer; every process asks, so that all of them go on alike.

    Raises:
        UserError: in the other processes, if ``ask`` raised in the main one, which raises what that was.
    """
    answer, error = False, None
    try:
        answer = ask()
    except Exception as raised:  # anything: it may be the user's code
        error = raised
    answer, failed = from_main((answer, error is not None))
    if error is not None:
        raise error
    if failed:
        raise UserError("the main process failed: its message says why")
    return bool(answer)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of ``values`` over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


@torch.no_grad()
def take_from_main(model: nn.Module) -> None:
    """Broadcast the main process's tensors to ``model``: batch norm statistics may differ between processes."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
