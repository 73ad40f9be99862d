"""The ledger as a port of the protocol, in both makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["Database", "at_once", "beside_the_loop"]

T = TypeVar("T")


class Database(Protocol):
    """Runs blocking work of the ledger."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run it to its end and return its result."""
        ...


async def at_once(work: Callable[[], T]) -> T:
    """Run it in this thread, for blocking code."""
    return work()


async def beside_the_loop(work: Callable[[], T]) -> T:
    """Run it in a thread; cancelled, the caller leaves and the work goes on: repeat it with the same id."""
    return await asyncio.to_thread(work)
