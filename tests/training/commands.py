"""Runs ``train.py`` in processes of their own, which can be killed at an exact moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any


class _Process(ForkServerProcess):
    """Has the environment of the test that makes it; the server has that of whichever test was the first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._environment = dict(os.environ)

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class _Processes(ForkServerContext):
    Process = _Process


PROCESSES = _Processes()
# Imported once for all runs, with what a run imports when it begins to need it.
PROCESSES.set_forkserver_preload(
    [
        "yolofpn.cli.train",
        "yolofpn.training.training_run",
        "yolofpn.training.training_plots",
        "yolofpn.evaluation.evaluation_plots",
        "yolofpn.yaml_text",
        "torch._dynamo",  # with the first optimiser
        "torch.utils.tensorboard",
        "tests.plots",
    ]
)


@dataclass(frozen=True)
class Fault:
    """A signal that a process sends itself when a function is called for the n-th time.

    Attributes:
        place: module and dotted name of the function.
        call: which call, from 1.
        after: once the function has done its work, not before.
        signal: SIGKILL leaves no time for anything.
    """

    place: tuple[str, str]
    call: int
    after: bool = False
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Outcome:
    """How a run ended; the exit code is negative if a signal ended it."""

    code: int
    output: str


def train(arguments: Sequence[str], folder: Path, fault: Fault | None = None, *, ranks: int = 1) -> Outcome:
    """``python train.py ARGUMENTS`` in ``folder``, or ``torchrun`` with as many ``ranks``; rank 0's outcome."""
    return run_ranks(_train, folder, ranks, list(arguments), fault)


def run_ranks(function: Callable[..., int], folder: Path, ranks: int, *arguments: Any) -> Outcome:
    """Call ``function(*arguments)`` in ``folder`` in a process, or in several that find each other as by torchrun."""
    return run_nodes(function, [folder] * ranks, folder, *arguments)


def train_on_nodes(arguments: Sequence[str], folders: Sequence[Path], outputs: Path) -> Outcome:
    """``torchrun --nnodes N train.py ARGUMENTS``: a process in each of ``folders``; rank 0's outcome."""
    return run_nodes(_train, folders, outputs, list(arguments), None)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def run_nodes(function: Callable[..., int], folders: Sequence[Path], where: Path, *arguments: Any) -> Outcome:
    """Call ``function(*arguments)`` in a process in each of ``folders``; what they print is in ``where``."""
    port, ranks = free_port(), len(folders)
    outputs = [where / f"output{rank}.txt" for rank in range(ranks)]
    processes = []
    for rank, (folder, output) in enumerate(zip(folders, outputs, strict=True)):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank}
        environment = {name: str(value) for name, value in place.items()} if ranks > 1 else {}
        processes.append(PROCESSES.Process(target=_run, args=(function, arguments, folder, output, environment)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)  # of a loaded machine
    texts = [output.read_text() for output in outputs]
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes[0] is not None, texts
    assert set(codes) == {codes[0]}, texts
    return Outcome(codes[0], texts[0])


def _run(
    function: Callable[..., int], arguments: tuple[Any, ...], folder: Path, output: Path, environment: dict[str, str]
) -> None:
    import torch
    from matplotlib.figure import Figure

    from tests.plots import BLANK

    os.chdir(folder)
    os.environ.update(environment)
    with output.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        torch.set_num_threads(1)
        for name, blank in BLANK.items():
            setattr(Figure, name, blank)
        multiprocessing.set_start_method("fork", force=True)  # the system's own, for workers that load images
        raise SystemExit(function(*arguments))


def _train(arguments: list[str], fault: Fault | None) -> int:
    from yolofpn.cli.train import main

    if fault is not None:
        _install(fault)
    sys.argv = ["train.py", *arguments]
    return main(arguments)


def _install(fault: Fault) -> None:
    module, name = fault.place
    *owners, function_name = name.split(".")
    owner: Any = sys.modules[module]
    for part in owners:
        owner = getattr(owner, part)
    original = getattr(owner, function_name)
    calls = 0

    def faulty(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fault.call and not fault.after:
            os.kill(os.getpid(), fault.signal)
        result = original(*args, **kwargs)
        if calls == fault.call and fault.after:
            os.kill(os.getpid(), fault.signal)
        return result

    setattr(owner, function_name, faulty)
