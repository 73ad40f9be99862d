"""The runtime of asyncio.

One instance serves any number of event loops: nothing here belongs to a loop until it is used in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from backstay.clock import monotonic
from backstay.runtime import Job
from backstay.telemetry import announce

__all__ = ["AsyncioRuntime"]

T = TypeVar("T")

_log = logging.getLogger("backstay.asynchronous")

_background: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references to tasks


class _Signal:
    """An event that belongs to no loop: waiters are futures of the loops they wait in."""

    __slots__ = ("_flag", "_waiters")

    def __init__(self) -> None:
        self._flag = False
        self._waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        self._flag = True
        for waiter in tuple(self._waiters):
            # From another thread `set_result` would not wake the loop; a closed loop has no waiter to wake.
            with contextlib.suppress(RuntimeError):
                waiter.get_loop().call_soon_threadsafe(_settle, waiter)

    def clear(self) -> None:
        self._flag = False

    def is_set(self) -> bool:
        return self._flag

    async def wait(self, timeout: float | None = None) -> bool:
        if self._flag or (timeout is not None and timeout <= 0):
            return self._flag
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            if not self._flag:  # raised by another thread between the test and the registration
                async with asyncio.timeout(timeout):
                    await waiter
            return True
        except TimeoutError:
            return self._flag
        finally:
            self._waiters.discard(waiter)


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _TaskJob:
    """An asyncio task that is kept alive until it ends, and listed as background work until it ends well."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        _background.add(task)
        task.add_done_callback(_background.discard)
        here = weakref.ref(task)
        entry = announce(task.get_name(), lambda: (found := here()) is not None and not found.done())

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or task.exception() is None:
                entry.close()
            else:  # asked for, so asyncio will not report it; and nobody has to join a background job
                _log.error("background work %s died", task.get_name(), exc_info=task.exception())

        task.add_done_callback(ended)

    def cancel(self) -> None:
        self._task.cancel()

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self, timeout: float | None = None) -> bool:
        if self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=timeout)
        return self.done


class AsyncioRuntime:
    """Tasks of the running event loop."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    now = staticmethod(monotonic)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def gather(self, *work: Callable[[], Coroutine[Any, Any, T]]) -> list[T | Exception]:
        if len(work) == 1:
            return [await _outcome(work[0])]
        tasks = [asyncio.ensure_future(_outcome(piece)) for piece in work]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            # Reached with unfinished tasks only when the caller is cancelled: none may outlive the call.
            pending = [task for task in tasks if not task.done()]
            for task in pending:
                task.cancel()
            if pending:
                await self.shield(_ended(pending))

    async def shield(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in a task of its own and wait for its end through any number of cancellations."""
        task = asyncio.ensure_future(work)
        cancelled: asyncio.CancelledError | None = None
        with _shelter():
            while not task.done():
                try:
                    await asyncio.shield(task)
                except asyncio.CancelledError as error:
                    if task.cancelled():
                        raise
                    cancelled = error
                except BaseException:
                    if not task.done():  # not the work's own error
                        raise
        if cancelled is not None:
            if not task.cancelled():
                task.exception()  # retrieved: the cancellation is what the caller must see
            raise cancelled
        return task.result()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> Job:
        return _TaskJob(asyncio.get_running_loop().create_task(work(), name=name))

    def signal(self) -> _Signal:
        return _Signal()

    def mutex(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()


def _shelter() -> AbstractContextManager[object]:
    """Return anyio's own shield where anyio is in use.

    anyio delivers a cancellation again at each turn of the loop until the task ends, so the loop in
    `shield` would spin at full speed until the work is done. FastAPI and Starlette run on anyio.
    """
    anyio = sys.modules.get("anyio")
    if anyio is None:
        return contextlib.nullcontext()
    scope: AbstractContextManager[object] = anyio.CancelScope(shield=True)
    return scope


async def _outcome(piece: Callable[[], Coroutine[Any, Any, T]]) -> T | Exception:
    try:
        return await piece()
    except Exception as error:
        return error


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)
