from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.demo.load import open_files, resident_mib, run_clients, server_process
from tests.demo.serving import Client, png
from tests.tiny_detector import GREEN, RED, quarters

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]
PICTURE = png(quarters(RED, GREEN, height=256, width=384))


def test_eight_webcams_are_served_fairly_beside_uploads(tiny: Path) -> None:
    with server_process("--weights", tiny) as (port, _):
        loads = run_clients(port, PICTURE, clients=8, seconds=3, live=True)
    counts = [len(load.milliseconds) for load in loads]
    assert [error for load in loads for error in load.errors] == []
    assert min(counts) >= 5
    # Turns are equal; who is late with his next picture now and then misses one.
    assert min(counts) >= 0.6 * max(counts)


def test_memory_and_files_stay_as_they_are(tiny: Path) -> None:
    with server_process("--weights", tiny) as (port, pid):
        client = Client(port)
        client.request("/")

        def use(times: int) -> tuple[float, int]:
            for count in range(times):
                client.upload(PICTURE if count % 10 else b"no picture")
            return resident_mib(pid), open_files(pid)

        before, files_before = use(150)
        after, files_after = use(300)
    assert after - before < 30  # MiB; one decoded picture kept of each request would be 84
    assert files_after <= files_before + 2
