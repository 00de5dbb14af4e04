"""A backend that changes under way, and what makes the other one."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time

import pytest
import torch

from yolofpn.runtimes import takeover
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.runtimes.takeover import Preparation, Takeover

pytestmark = pytest.mark.slow

BATCH = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)


class Named:
    """A backend that says who it is."""

    precision, slots = "fp32", 1

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, batch: Batch) -> Wait:
        return lambda: {self.name: batch}


def graph_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "graph"]


def test_results_in_flight_come_from_what_they_were_given_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    may_end = threading.Event()

    def make(_running: Preparation) -> Named:
        may_end.wait(10)
        return Named("second")

    preparation = Preparation(make)
    backend = Takeover(Named("first"), preparation)
    waits = [backend.start(BATCH) for _ in range(3)]
    may_end.set()
    preparation.wait()
    assert list(backend.start(BATCH)()) == ["second"]
    assert [list(wait()) for wait in waits] == [["first"]] * 3


def test_a_failure_leaves_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_running: Preparation) -> Named:
        raise RuntimeError("no such operator")

    preparation = Preparation(fail)
    assert Takeover(Named("first"), preparation).settle().name == "first"
    assert str(preparation.failure) == "no such operator"


@pytest.mark.parametrize("by", ["close", "forgotten"])
def test_the_end_of_a_run_ends_process_and_thread(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]

    def make(running: Preparation) -> Named:
        running.run_process(command, os.environ)
        return Named("second")

    preparation = Preparation(make)
    backend = Takeover(Named("first"), preparation)
    backend.start(BATCH)
    deadline = time.monotonic() + 60
    while preparation._process is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process = preparation._process
    assert process is not None and process.poll() is None and graph_threads()
    if by == "close":
        backend.close()
        assert list(backend.start(BATCH)()) == ["first"]  # it stays usable
    else:
        del backend
        gc.collect()
    assert process.poll() is not None and not graph_threads()


def test_what_was_stopped_does_not_begin() -> None:
    preparation = Preparation(lambda _: Named("second"))
    preparation.stop()
    preparation.wait()
    assert preparation.result is None and not graph_threads()


def test_a_process_that_fails_says_why_in_its_last_line() -> None:
    preparation = Preparation(lambda _: Named("second"))
    with pytest.raises(RuntimeError, match=r"^no room$"):
        preparation.run_process([sys.executable, "-c", "print('begun'); print('no room'); exit(2)"], os.environ)
    with pytest.raises(RuntimeError, match="exit code 3"):
        preparation.run_process([sys.executable, "-c", "exit(3)"], os.environ)
