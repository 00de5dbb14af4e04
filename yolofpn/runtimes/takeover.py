"""A graph that is made beside PyTorch, and takes over when it is ready: no image waits for it."""

from __future__ import annotations

import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

from yolofpn.runtimes.backend import Backend, Batch, Wait

PATIENCE = 2.0  # seconds of PyTorch's own work from which on a run is long enough for a graph to be worth its while


class Preparation:
    """Makes a backend in a thread of its own, and can be given up at any time.

    Args:
        make: called once in that thread; what it raises becomes ``failure``.
    """

    def __init__(self, make: Callable[[Preparation], Backend]) -> None:
        self._make = make
        self._thread = threading.Thread(target=self._run, name="graph", daemon=True)
        self._started = False
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.stopped = False
        self.result: Backend | None = None
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin, if that has not happened yet."""
        with self._lock:
            if self._started or self.stopped:
                return
            self._started = True
        self._thread.start()

    def wait(self) -> None:
        """Start building if necessary, and wait for it."""
        self.start()
        if self._started:
            self._thread.join()

    def stop(self) -> None:
        """Cancel building, and wait until it has stopped."""
        with self._lock:
            self.stopped = True
            if self._process is not None:
                self._process.kill()
        if self._started and threading.current_thread() is not self._thread:
            self._thread.join()

    def run_process(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a program of this thread's and wait for it; ``stop`` ends it.

        Raises:
            RuntimeError: it failed, with the last line that it printed, or was stopped.
        """
        with self._lock:
            if self.stopped:
                raise RuntimeError("stopped")
            self._process = process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        output, _ = process.communicate()
        if process.returncode:
            lines = output.strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit code {process.returncode}")

    def _run(self) -> None:
        try:
            result = self._make(self)
        except Exception as error:  # converters, and the disks that graphs are kept on, fail in many ways
            self.failure = error
        else:
            self.result = result


class Takeover:
    """A ``Backend`` that is ``first`` until the preparation has made the other one.

    Args:
        first: runs at once.
        preparation: begins once ``first`` has worked for ``PATIENCE``.
    """

    def __init__(self, first: Backend, preparation: Preparation) -> None:
        self._current = first
        self._preparation = preparation
        self._busy = 0.0
        self._then: list[Callable[[], object]] = []
        # At the latest when this is forgotten, or the program ends.
        self.close = weakref.finalize(self, preparation.stop)

    @property
    def name(self) -> str:
        """See the current backend."""
        return self._current.name

    @property
    def precision(self) -> str:
        """See the current backend."""
        return self._current.precision

    @property
    def slots(self) -> int:
        """See the current backend."""
        return self._current.slots

    def when_taken_over(self, then: Callable[[], object]) -> None:
        """Call ``then`` at the takeover, in the thread that hands over batches."""
        self._then.append(then)

    def settle(self) -> Backend:
        """Wait for the takeover, for measurements; return the final backend."""
        self._preparation.wait()
        self._take_over()
        return self._current

    def start(self, batch: Batch) -> Wait:
        """See the current backend."""
        self._take_over()
        before = time.perf_counter()
        wait = self._current.start(batch)
        self._busy += time.perf_counter() - before
        if self._busy > PATIENCE:
            self._preparation.start()
        return wait

    def _take_over(self) -> None:
        result = self._preparation.result
        if result is None or self._current is result:
            return
        self._current = result
        while self._then:
            self._then.pop()()
