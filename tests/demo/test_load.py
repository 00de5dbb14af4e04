from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.load import open_files, resident_mib, run_clients, server_process
from tests.demo.mixed import Files, send_mixed, thread_count
from tests.demo.serving import png
from tests.tiny_detector import GREEN, RED, quarters

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]
IMAGE = png(quarters(RED, GREEN))


@pytest.fixture(scope="module")
def server(tiny: Path) -> Iterator[tuple[int, int]]:
    """Port and process id."""
    with server_process("--weights", tiny) as port_and_pid:
        yield port_and_pid


def test_eight_webcams_are_served_fairly_beside_uploads(server: tuple[int, int]) -> None:
    counts, seconds = [0], 1.0
    while min(counts) < 10 and seconds < 60:  # a busy machine takes longer
        loads = run_clients(server[0], IMAGE, clients=8, seconds=seconds, live=True)
        assert [error for load in loads for error in load.errors] == []
        counts, seconds = [len(load.milliseconds) for load in loads], 3 * seconds
    assert min(counts) >= 10
    # Turns are equal; who is late with his next image now and then misses one.
    assert min(counts) >= 0.6 * max(counts)


def test_mixed_requests_leave_nothing_behind(server: tuple[int, int]) -> None:
    """``python -m tests.demo.mixed`` at a small size; docs/demo.md has the figures of 5,000 requests."""
    files, (port, pid) = Files.make(large=False), server

    def use(requests: int, seed: int) -> tuple[float, int, int]:
        done = send_mixed(port, files, requests, clients=6, seed=seed)
        assert done["image"] and done["bad"] and done["live"], done
        time.sleep(0.5)  # until the aborted ones are over
        return resident_mib(pid), thread_count(pid), open_files(pid)

    before, threads_before, files_before = use(60, seed=1)
    after, threads, files_after = use(80, seed=2)
    assert after - before < 40  # MiB; one decoded image kept of each request would be hundreds
    assert threads <= threads_before + 4
    assert files_after <= files_before + 4
