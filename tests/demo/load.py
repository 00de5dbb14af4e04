"""How a server serves many at once: ``python -m tests.demo.load IMAGE [--weights FILE] [--clients 8]``.

Every client has a connection of its own and sends its next image when the answer to the last one is there. The
server is a process of its own, so that its memory can be told apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.demo.serving import Client, look


@dataclass
class Load:
    """What one client saw: the milliseconds of each answer, and the errors."""

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.milliseconds, percent))


@contextmanager
def server_process(*words: object) -> Iterator[tuple[int, int]]:
    """Port and process id of ``demo.py``."""
    command = [sys.executable, "-m", "yolofpn", "demo", "--port", "0", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline().rpartition(":")[2].split()[0]), server.pid
            assert server.poll() is None, f"the server ended by itself with {server.returncode}"
        finally:
            server.terminate()
            server.wait()


def run_clients(port: int, image: bytes, *, clients: int, seconds: float, live: bool) -> list[Load]:
    """All clients at once for so long; webcams if ``live``, else uploads."""
    loads = [Load() for _ in range(clients)]
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=_run, args=(port, image, load, deadline, live)) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return loads


def resident_mib(pid: int) -> float:
    """Memory of a process, without what is swapped."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _run(port: int, image: bytes, load: Load, deadline: float, live: bool) -> None:
    client = Client(port)
    client.request("/")
    if not live:
        while time.monotonic() < deadline:
            start = time.perf_counter()
            answer = client.upload(image)
            _note(load, start, answer.json.get("error"))
        return
    with client.live() as socket:
        while time.monotonic() < deadline:
            start = time.perf_counter()
            _note(load, start, look(socket, image)[0].get("error"))


def _note(load: Load, start: float, error: str | None) -> None:
    load.milliseconds.append((time.perf_counter() - start) * 1000)
    if error:
        load.errors.append(error)


def _print(title: str, loads: Sequence[Load], seconds: float) -> None:
    counts = [len(load.milliseconds) for load in loads]
    p50 = [load.percentile(50) for load in loads]
    p95 = [load.percentile(95) for load in loads]
    print(
        f"{title}: {sum(counts) / seconds:.1f} images/s in all, {min(counts)} to {max(counts)} per client; "
        f"p50 {min(p50):.0f} to {max(p50):.0f} ms, p95 {min(p95):.0f} to {max(p95):.0f} ms; "
        f"{sum(len(load.errors) for load in loads)} errors"
    )


def main() -> None:
    """Print the figures of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--requests", type=int, default=1000)
    arguments = parser.parse_args()
    image = arguments.image.read_bytes()
    with server_process("--weights", arguments.weights) as (port, pid):
        run_clients(port, image, clients=arguments.clients, seconds=3, live=False)
        for title, clients, live in [
            ("1 webcam", 1, True),
            (f"{arguments.clients} webcams", arguments.clients, True),
            (f"{arguments.clients} uploaders", arguments.clients, False),
        ]:
            loads = run_clients(port, image, clients=clients, seconds=arguments.seconds, live=live)
            _print(title, loads, arguments.seconds)
        client = Client(port)
        client.request("/")
        for count in range(arguments.requests + 1):
            if count % (arguments.requests // 5) == 0:
                print(f"after {count} more requests: {resident_mib(pid):.0f} MiB, {open_files(pid)} open files")
            client.upload(image if count % 10 else b"no image")


if __name__ == "__main__":
    main()
