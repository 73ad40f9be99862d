"""Waiting for answers that kazoo's threads bring: the port, and its two makes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from backstay.clock import monotonic

from .client import Answer

__all__ = ["AsyncioWire", "BlockingWire", "Wire"]


class Wire(Protocol):
    """How one make waits, and where it hears of the session."""

    async def all(self, answers: Sequence[Answer], timeout: float) -> bool:
        """Wait until all answers are there; false when the time is up first."""
        ...

    def relay(self, tell: Callable[[], None]) -> None:
        """Call `tell`, which returns at once, where this make's callbacks belong; from any thread."""
        ...

    async def aside(self, work: Callable[[], None]) -> None:
        """Run what may block for a while and ends by itself."""
        ...


class BlockingWire:
    """Threads wait on the answers themselves: no other thread stands between."""

    async def all(self, answers: Sequence[Answer], timeout: float) -> bool:
        until = monotonic() + timeout
        # The last first: a server answers in order, so this thread is woken once and finds the others there.
        return all(answer.wait(max(until - monotonic(), 0.0)) for answer in reversed(answers))

    def relay(self, tell: Callable[[], None]) -> None:
        tell()

    async def aside(self, work: Callable[[], None]) -> None:
        work()


class AsyncioWire:
    """Tasks of one loop; the client's thread that completes requests wakes the loop once for all answers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def all(self, answers: Sequence[Answer], timeout: float) -> bool:
        loop = self._loop
        future: asyncio.Future[bool] = loop.create_future()
        arrived: list[None] = []

        def settle(value: bool) -> None:
            if not future.done():
                future.set_result(value)

        def one(_: Answer) -> None:
            arrived.append(None)
            if len(arrived) == len(answers):
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(settle, True)

        for answer in answers:
            answer.rawlink(one)
        timer = loop.call_later(timeout, settle, False)
        try:
            return await future
        finally:
            timer.cancel()

    def relay(self, tell: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nothing of it is left to be told
            self._loop.call_soon_threadsafe(tell)

    async def aside(self, work: Callable[[], None]) -> None:
        await self._loop.run_in_executor(None, work)
