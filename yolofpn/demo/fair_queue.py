"""Shares one detector between clients, in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
_Job: TypeAlias = tuple["Future[Any]", Callable[[], Any]]


class FairQueue:
    """Runs jobs one after the other in a thread of its own; a context manager that begins and ends with it.

    The clients that wait stand in a circle, and each one in turn has its oldest job done. Of n clients each gets
    every n-th turn, so none waits longer than one job of each of the others.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="detector", daemon=True)

    def submit(self, client: str, job: Callable[[], T]) -> Future[T]:
        """The future result of ``job``, done when it is ``client``'s turn; a future cancelled before that is omitted.

        Raises:
            RuntimeError: if the queue is closed.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise RuntimeError("the queue is closed")
            self._waiting.setdefault(client, deque()).append((future, job))
            self._changed.notify()
        return future

    def __enter__(self) -> FairQueue:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Jobs that still wait are cancelled."""
        with self._changed:
            self._closing = True
            for jobs in self._waiting.values():
                for future, _job in jobs:
                    future.cancel()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            future, job = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # belongs to whoever waits for the result
                future.set_exception(error)
            del future, job, taken  # else the last image stays in memory until the next one comes

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if self._closing:
                return None
            client, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # at the end of the circle
            return job
