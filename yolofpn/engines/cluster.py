"""A cluster of Ray: how it is reached, how many workers it has room for, and what it waits for."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from yolofpn.errors import UserError
from yolofpn.hardware import available_cpus
from yolofpn.text import counted

OBJECT_STORE = 256 << 20  # bytes, beside the weights: units and reports are small
WAITING = 30.0  # seconds until it is said that no worker has started, which takes some ten
STARTS = 2  # of Ray on this machine: it gives up after 30 s, which a busy one may need
ROUNDING = 1e-6  # 1 / .1 has to be 10


@dataclass(frozen=True)
class ClusterOptions:
    """Where the workers run.

    Attributes:
        address: of a cluster: 'auto', 'HOST:PORT' or 'ray://HOST:PORT'; None: this machine alone.
        workers: number of processes that detect; None: as many as there is room for.
        gpus_per_worker: part or number of GPUs that each has; None: 1 where there are any.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Shares:
    """What the workers get.

    Attributes:
        gpus: of each worker; it has a CPU, too.
        workers: their number.
    """

    gpus: float
    workers: int


@contextmanager
def connected(options: ClusterOptions, weights_bytes: int) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine that ends with this context.

    Raises:
        UserError: no cluster of Ray's version answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # As a run without an engine; Ray's own choice, 15, starves the workers wherever something else runs.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns users is raised
    settings: dict[str, Any] = {"address": options.address or "local"}
    if options.address is None:
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # 12 kB for each unit, of use for a dashboard
        settings |= {
            "include_dashboard": False,
            "num_cpus": max(options.workers or 1, available_cpus()),
            "object_store_memory": OBJECT_STORE + 2 * weights_bytes,
        }
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    for attempt in range(STARTS):
        try:
            ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:  # of many kinds; of a machine that is too busy it is Exception itself
            ray.shutdown()
            if attempt + 1 < STARTS and options.address is None:
                continue
            reason = str(error).strip().partition("\n")[0]
            place = f"--address {options.address}: no" if options.address else "this machine: no"
            raise UserError(f"{place} Ray cluster that can be used ({reason}); see `ray status`") from None
    if threading.current_thread() is threading.main_thread():
        # That of the command, which keeps what was done; Ray's own aborts the process.
        signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)
    try:
        yield
    finally:
        ray.shutdown()


def shares(cluster: ClusterOptions, machines: Sequence[Mapping[str, float]], device: str) -> Shares:
    """What each worker gets, and how many there are.

    Args:
        cluster: as asked for.
        machines: 'CPU' and 'GPU' of each machine, as far as it has them.
        device: that the predictors are asked to use.

    Raises:
        UserError: no machine has what a worker needs.
    """
    gpus = cluster.gpus_per_worker
    if gpus is None:
        has_gpus = any(machine.get("GPU") for machine in machines)
        gpus = 1.0 if has_gpus and device.partition(":")[0] in ("auto", "cuda") else 0.0
    elif gpus > 1 and gpus != int(gpus):
        raise UserError(f"--gpus-per-worker {gpus:g}: a worker has a part of one GPU, or a whole number of them")
    room = room_for(gpus, machines)
    if not room:
        most = int(max((machine.get("GPU", 0.0) for machine in machines), default=0.0))
        if gpus > most:
            there = counted(most, "GPU")
            raise UserError(f"--gpus-per-worker {gpus:g}: no machine of the cluster has more than {there}")
        raise UserError(f"{_no_room(gpus)}: see `ray status`")
    return Shares(gpus, cluster.workers or room)


def room_for(gpus: float, machines: Sequence[Mapping[str, float]]) -> int:
    """How many workers of a CPU and ``gpus`` the machines have room for, none of which spans two of them."""
    by_cpus = [int(machine.get("CPU", 0.0)) for machine in machines]
    if not gpus:
        return sum(by_cpus)
    there = [machine.get("GPU", 0.0) for machine in machines]
    # A part of a GPU is a part of one, never of two.
    by_gpus = [int(count) * int(1 / gpus + ROUNDING) if gpus < 1 else int(count / gpus) for count in there]
    return sum(map(min, by_cpus, by_gpus))


def machines_there() -> list[dict[str, float]]:
    """'CPU' and 'GPU' of each machine of the cluster that is alive, whether they are in use or not."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def told_while_waiting(gpus: float, started: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
    """Say every now and then what a run waits for: a machine that has room, or one that nobody else uses.

    Args:
        gpus: of each worker.
        started: whether any worker has started yet.
        say: prints a line.
    """
    ended = threading.Event()

    def watch() -> None:
        import ray

        told, has_started = "", False
        while not ended.wait(WAITING):
            line = ""
            with suppress(Exception):  # the cluster may have gone, which the run itself tells
                if not room_for(gpus, machines_there()):
                    line = f"waiting: {_no_room(gpus)}"
                elif not (has_started := has_started or started()):
                    free, there = ray.available_resources(), ray.cluster_resources()
                    kinds = ("CPU", "GPU") if gpus else ("CPU",)
                    parts = (f"{free.get(kind, 0.0):g} of {there.get(kind, 0.0):g} {kind}s" for kind in kinds)
                    line = f"waiting for the first worker; free in the cluster: {', '.join(parts)}"
            if line and line != told and not ended.is_set():
                say(line)
            told = line

    thread = threading.Thread(target=watch, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1.0)


def _no_room(gpus: float) -> str:
    return f"no machine of the cluster has a CPU{f' and {gpus:g} GPUs' if gpus else ''} for a worker"
