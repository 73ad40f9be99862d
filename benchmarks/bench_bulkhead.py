"""Bulkheads beside a pass-through and the semaphores of the standard library."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backstay.errors import BulkheadFull
from backstay.resilience.bulkhead import Bulkhead, ThreadPool
from backstay.resilience.concurrency_limit import ConcurrencyLimit
from backstay.resilience.system_guard import SystemGuard

from .harness import Case


def cases() -> Iterator[Case]:
    yield from _semaphore()
    yield from _adaptive()
    yield from _thread_pool()


def _work() -> int:
    return 1


async def _work_async() -> int:
    return 1


def _passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passing(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return passing


def _passing_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def passing(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return passing


def _refused(function: Callable[[], object]) -> Callable[[], None]:
    def refused() -> None:
        try:
            function()
        except (BulkheadFull, LookupError):
            return

    return refused


def _raising() -> None:
    raise LookupError


def _semaphore() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    gate, gate_async = threading.Semaphore(8), asyncio.Semaphore(8)

    def by_threading() -> int:
        if not gate.acquire(blocking=False):
            raise BulkheadFull
        try:
            return _work()
        finally:
            gate.release()

    async def by_asyncio() -> int:
        async with gate_async:
            return await _work_async()

    yield Case(
        name="bulkhead, sync", floor=floor, ours=Bulkhead("bench")(_work), target=2.0, clock="cpu",
        peer=by_threading, peer_name="threading.Semaphore", peer_target=0.15,
    )  # fmt: skip
    yield Case(
        name="bulkhead, async", floor=floor_async, ours=Bulkhead("bench-async")(_work_async), target=1.6, clock="cpu",
        peer=by_asyncio, peer_name="asyncio.Semaphore", peer_target=0.40,
    )  # fmt: skip
    full = Bulkhead("bench-full", max_concurrent=1)
    full.admission().__enter__()
    yield Case(
        name="bulkhead, refusal beside raise and catch", floor=_refused(_passing(_raising)), ours=_refused(full(_work)),
        clock="cpu",
    )  # fmt: skip


def _adaptive() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    yield Case(name="concurrency limit, sync", floor=floor, ours=ConcurrencyLimit("bench")(_work), clock="cpu")
    yield Case(
        name="concurrency limit, async", floor=floor_async, ours=ConcurrencyLimit("bench")(_work_async), clock="cpu"
    )
    yield Case(name="system guard, sync", floor=floor, ours=SystemGuard("bench", max_cpu=1.0)(_work), clock="cpu")
    yield Case(
        name="system guard, async", floor=floor_async, ours=SystemGuard("bench", max_cpu=1.0)(_work_async), clock="cpu"
    )


def _thread_pool() -> Iterator[Case]:
    there: queue.SimpleQueue[bool] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def answer() -> None:
        while there.get():
            back.put(_work())

    def ping_pong() -> int:
        there.put(True)
        return back.get()

    threading.Thread(target=answer, daemon=True).start()
    pool = ThreadPool("bench-pool", core=1, max=1, queue=BURST)
    with ThreadPoolExecutor(1) as executor:

        def by_executor() -> int:
            return executor.submit(_work).result()

        def burst() -> None:
            for pending in [pool.submit(_work) for _ in range(BURST)]:
                pending.result()

        def burst_by_executor() -> None:
            for future in [executor.submit(_work) for _ in range(BURST)]:
                future.result()

        yield Case(
            name="thread pool, one call", floor=ping_pong, ours=lambda: pool.call(_work), target=1.45, clock="cpu",
            peer=by_executor, peer_name="ThreadPoolExecutor", peer_target=1.05,
        )  # fmt: skip
        yield Case(
            name="thread pool, 100 calls beside ThreadPoolExecutor",
            floor=burst_by_executor,
            ours=burst,
            target=1.0,
            clock="cpu",
        )
    there.put(False)
    pool.close()


BURST = 100
