"""Attempts as tasks of an event loop; those that lose are cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Any

from backstay.telemetry import Counter

from ..policy import AsyncCall
from .race import Ended

__all__ = ["Tasks"]

_leaving: set[asyncio.Task[Any]] = set()  # a loop keeps weak references only


class Tasks:
    """The attempts of one call. What is let go is cancelled and not waited for: the answer would come later."""

    def __init__(self, call: AsyncCall, args: tuple[Any, ...], kwargs: dict[str, Any], abandoned: Counter) -> None:
        self._loop = asyncio.get_running_loop()
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._abandoned = abandoned
        self._started = 0
        self._running: dict[asyncio.Task[Any], int] = {}
        self._ended: deque[Ended] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Start the next attempt."""
        self._started += 1
        task = self._loop.create_task(self._attempt(), context=copy_context())
        self._running[task] = self._started
        task.add_done_callback(self._done)

    async def _attempt(self) -> Any:
        return await self._call(*self._args, **self._kwargs)

    def _done(self, task: asyncio.Task[Any]) -> None:
        number = self._running.pop(task, 0)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not number:  # let go
            _leaving.discard(task)
            self._abandoned.n -= 1
            return
        self._ended.append(Ended(number=number, value=None if error else task.result(), error=error))
        _ring(self._waiter)

    async def next(self, wait: float | None) -> Ended | None:
        """Return the next attempt that ends, or None when the time is over."""
        if not self._ended:
            self._waiter = waiter = self._loop.create_future()
            timer = None if wait is None else self._loop.call_later(wait, _ring, waiter)
            try:
                await waiter
            finally:
                if timer is not None:
                    timer.cancel()
        return self._ended.popleft() if self._ended else None

    def abandon(self) -> None:
        """Cancel all that still run."""
        running, self._running = self._running, {}
        if self._loop.is_closed():  # a coroutine that is thrown away after its loop has ended
            return
        for task in running:
            self._abandoned.n += 1
            _leaving.add(task)
            task.cancel()


def _ring(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
