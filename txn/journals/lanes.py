"""SQLite for one event loop: a thread that writes and a thread that reads.

An asyncio driver for SQLite changes threads for every statement. Here everything that waits while a commit is on
its way to the disk changes threads once, and is committed together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from backstay.errors import Unavailable

from ..errors import JournalUnanswered
from .database import GROUP, BlockingDatabase, Waiting

__all__ = ["LaneDatabase"]

T = TypeVar("T")


class _Lane:
    """A queue of operations, and one thread that runs all that wait in it, again and again."""

    def __init__(self, name: str, run: Callable[[list[Waiting]], None]) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._queue: list[tuple[Waiting, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def do(self, operation: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the journal is closed, and nothing was written")
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[T] = loop.create_future()
        self._queue.append((Waiting(operation), promise))
        if self._task is None or self._task.done():
            # A task of its own: the cancellation of one caller must not leave the others without an answer.
            self._task = loop.create_task(self._work(loop))
        return await promise

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._queue:
            group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
            try:
                await loop.run_in_executor(self._thread, self._run, [waiting for waiting, _ in group])
            finally:
                for waiting, promise in group:
                    _settle(waiting, promise)

    async def close(self) -> None:
        self._closed = True
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        self._thread.shutdown(wait=False)


def _settle(waiting: Waiting, promise: asyncio.Future[Any]) -> None:
    if promise.done():  # its caller was cancelled
        return
    if not waiting.ended:
        promise.set_exception(JournalUnanswered("the journal was closed while it wrote"))
        return
    try:
        promise.set_result(waiting.outcome())
    except BaseException as error:
        promise.set_exception(error)


class LaneDatabase:
    """Over a blocking SQLite `Engine`, for one event loop."""

    dialect = "sqlite"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._open()

    def _open(self) -> None:
        blocking = BlockingDatabase(self.engine)
        self._writes = _Lane("backstay-txn-write", blocking.run_group)
        self._reads = _Lane("backstay-txn-read", blocking.read_group)

    def reborn(self) -> None:
        """Forget, in a forked child, connections and threads that belong to the parent."""
        self.engine.dispose(close=False)
        self._open()

    async def write(self, operation: Callable[[Connection], T]) -> T:
        return await self._writes.do(operation)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        return await self._reads.do(operation)

    async def close(self) -> None:
        await self._writes.close()
        await self._reads.close()
        self.engine.dispose()
