"""The one pool of threads that decodes, draws and encodes, for all users and all of their videos."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Runs functions in a fixed number of threads, and bounds how many pixels are in memory meanwhile.

    Args:
        threads: of the pool.
        pixels: of decoded images at once; one that is larger than this has to wait until it is alone.
    """

    def __init__(self, threads: int, pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._most = pixels
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``function``, which runs in the pool to its end, even if nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))

    @asynccontextmanager
    async def room(self, pixels: int) -> AsyncIterator[None]:
        """Reserve memory for this many pixels, in order of request."""
        pixels = min(pixels, self._most)
        if self._waiting or self._used + pixels > self._most:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((pixels, turn))
            try:
                await turn
            except BaseException:
                if not turn.cancelled():  # the turn came at the same moment
                    self._used -= pixels
                self._let_in()
                raise
        else:
            self._used += pixels
        try:
            yield
        finally:
            self._used -= pixels
            self._let_in()

    def close(self) -> None:
        """Wait for running tasks and cancel pending ones."""
        self._pool.shutdown(cancel_futures=True)

    def _let_in(self) -> None:
        while self._waiting:
            pixels, turn = self._waiting[0]
            if not turn.cancelled():
                if self._used + pixels > self._most:
                    return
                self._used += pixels
                turn.set_result(None)
            self._waiting.popleft()
