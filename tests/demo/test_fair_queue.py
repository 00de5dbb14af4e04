from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from yolofpn.demo.fair_queue import FairQueue


def test_results_and_errors_reach_who_asked() -> None:
    with FairQueue() as queue:
        good = queue.submit("a", lambda: 3)
        bad = queue.submit("a", lambda: 1 // 0)
        assert good.result(5) == 3
        with pytest.raises(ZeroDivisionError):
            bad.result(5)
        assert queue.submit("a", lambda: 4).result(5) == 4


def test_clients_take_turns_however_much_one_asks_for() -> None:
    order: list[str] = []
    gate = threading.Event()
    with FairQueue() as queue:
        queue.submit("first", gate.wait)  # the others line up meanwhile
        jobs = [queue.submit(name, lambda name=name: order.append(name)) for name in "aaaabbc"]  # type: ignore[misc]
        gate.set()
        for job in jobs:
            job.result(5)
    assert order == ["a", "b", "c", "a", "b", "a", "a"]


def test_a_cancelled_job_is_not_run() -> None:
    ran: list[str] = []
    gate = threading.Event()
    with FairQueue() as queue:
        queue.submit("a", gate.wait)
        unwanted = queue.submit("a", lambda: ran.append("unwanted"))
        last = queue.submit("a", lambda: ran.append("last"))
        assert unwanted.cancel()
        gate.set()
        last.result(5)
    assert ran == ["last"]


def test_the_end_cancels_what_waits() -> None:
    gate = threading.Event()
    queue = FairQueue()
    waiting: Future[None]
    with queue:
        queue.submit("a", gate.wait)
        waiting = queue.submit("b", lambda: None)
        threading.Timer(0.2, gate.set).start()
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        queue.submit("a", lambda: None)
