"""Bulkheads beside a pass-through and the semaphores of the standard library."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from backstay.errors import BulkheadFull
from backstay.resilience.bulkhead import Bulkhead

from .harness import Case


def cases() -> Iterator[Case]:
    yield from _semaphore()


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
