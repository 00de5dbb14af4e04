from __future__ import annotations

import asyncio
import threading

import pytest

from yolofpn.demo.workers import Workers


def test_no_more_threads_than_were_asked_for_run_anything() -> None:
    names: set[str] = set()
    together, most = 0, 0
    lock = threading.Lock()

    def job(number: int) -> int:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
            names.add(threading.current_thread().name)
        threading.Event().wait(0.005)
        with lock:
            together -= 1
        return number

    async def run() -> list[int]:
        workers = Workers(3, 100)
        try:
            return await asyncio.gather(*(workers.run(job, number) for number in range(50)))
        finally:
            workers.close()

    assert asyncio.run(run()) == list(range(50))
    assert len(names) <= 3 and most <= 3


def test_errors_reach_who_asked() -> None:
    async def run() -> None:
        await Workers(1, 1).run(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(run())


def test_pixels_in_memory_are_bounded_and_whoever_came_first_is_served_first() -> None:
    order: list[int] = []
    used = most = 0

    async def hold(workers: Workers, number: int, pixels: int) -> None:
        nonlocal used, most
        async with workers.room(pixels):
            order.append(number)
            used += min(pixels, 10)
            most = max(most, used)
            await asyncio.sleep(0.002)
            used -= min(pixels, 10)

    async def run() -> None:
        workers = Workers(1, 10)
        await asyncio.gather(*(hold(workers, number, pixels) for number, pixels in enumerate((4, 5, 8, 1, 99, 2, 2))))

    asyncio.run(run())
    assert order == list(range(7)) and most == 10


def test_who_gives_up_waiting_takes_no_room() -> None:
    async def hold(workers: Workers, seconds: float) -> None:
        async with workers.room(10):
            await asyncio.sleep(seconds)

    async def run() -> None:
        workers = Workers(1, 10)
        tasks = [asyncio.create_task(hold(workers, 0.01)) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks[1:5]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in done[1:5]] == [asyncio.CancelledError] * 4 and done[5] is None
        async with asyncio.timeout(60):
            await hold(workers, 0)

    asyncio.run(run())
