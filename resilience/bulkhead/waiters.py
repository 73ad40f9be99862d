"""Who waits for a permit: a thread on a lock, or a task on a future of its own loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

__all__ = ["TaskWaiter", "ThreadWaiter", "Waiter"]


class Waiter(Protocol):
    """Somebody in the line of a bulkhead."""

    def grant(self) -> bool:
        """Wake it with a permit, from any thread; False if nobody is there any more to take it."""
        ...


class ThreadWaiter:
    """A thread that blocks."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()

    def grant(self) -> bool:
        self._gate.release()
        return True

    def wait(self, timeout: float) -> None:
        """Return when a permit was granted, or after `timeout` seconds."""
        self._gate.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))


class TaskWaiter:
    """A task of the loop in which it was made (AS-4: tasks of any number of loops may stand in one line)."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def grant(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(_wake, self._future)
        except RuntimeError:  # the loop was closed under its task
            return False
        return True

    async def wait(self, timeout: float) -> None:
        """Return when a permit was granted, or after `timeout` seconds."""
        timer = self._loop.call_later(timeout, _wake, self._future)
        try:
            await self._future
        finally:
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
