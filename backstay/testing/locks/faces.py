"""Both faces of locks behind one set of calls, and what all contracts of locks share."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from backstay.blocking import drive
from backstay.locks import AsyncLocks, Locks

__all__ = ["LONG", "PATIENCE", "SHORT", "AsyncFace", "BlockingFace", "Face", "LocksContract", "OneThread"]

T = TypeVar("T")

SHORT = 0.15  # s, a ttl that ends within a test
LONG = 30.0  # s, a ttl that does not
THREADS = 128  # more than any test has calls under way
PATIENCE = 5.0  # s for what should come at once


class Face:
    """One set of calls for both faces, so that every test runs on both."""

    locks: Any
    """The face itself: what it makes is alike in both, only calls that wait differ."""

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what waits in one face and is awaited in the other: `call(lease.release)`."""
        raise NotImplementedError

    async def inside(self, section: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work(lease)` in the block of a section: `inside(locks.mutex("x"), work)`."""
        raise NotImplementedError

    async def alone(self, work: Callable[[Face], Coroutine[Any, Any, T]]) -> T:
        """Run `work(face)` from its first line to its last in one thread or task, where blocks can nest."""
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        """Let real time pass."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the locks."""
        await self.call(self.locks.close)

    async def acquire(self, name: str, **terms: Any) -> Any:
        """Acquire a mutex and return the lease."""
        return await self.call(self.locks.mutex(name, **terms).acquire)

    async def release(self, lease: Any) -> None:
        """Release a lease."""
        await self.call(lease.release)

    async def extend(self, lease: Any, ttl: float) -> None:
        """Extend a lease."""
        await self.call(lease.extend, ttl)

    async def lost(self, lease: Any, timeout: float) -> bool:
        """Wait for the loss."""
        return bool(await self.call(lease.lost.wait, timeout))

    async def block(self, name: str, work: Callable[[Any], Awaitable[T]], **terms: Any) -> T:
        """Run `work(lease)` in the block of a mutex."""
        return await self.inside(self.locks.mutex(name, **terms), work)


class BlockingFace(Face):
    """`Locks`, each call in a thread of its own: those that wait must not keep those that release from a thread."""

    def __init__(self, locks: Locks) -> None:
        self.locks = locks
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="backstay-contract")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, contextvars.copy_context().run, work)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self._in_thread(lambda: function(*args, **kwargs))

    async def inside(self, section: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        async def body(lease: Any) -> T:
            return await work(lease)

        def run() -> T:
            with section as lease:
                return asyncio.run(body(lease))

        return await self._in_thread(run)

    async def alone(self, work: Callable[[Face], Coroutine[Any, Any, T]]) -> T:
        return await self._in_thread(lambda: drive(work(OneThread(self.locks))))


class OneThread(Face):
    """`Locks`, every call in the calling thread: its coroutines never suspend."""

    def __init__(self, locks: Locks) -> None:
        self.locks = locks

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    async def inside(self, section: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        with section as lease:
            return await work(lease)

    async def alone(self, work: Callable[[Face], Coroutine[Any, Any, T]]) -> T:
        return await work(self)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # it is a thread that this coroutine runs in


class AsyncFace(Face):
    """`AsyncLocks`."""

    def __init__(self, locks: AsyncLocks) -> None:
        self.locks = locks

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    async def inside(self, section: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        async with section as lease:
            return await work(lease)

    async def alone(self, work: Callable[[Face], Coroutine[Any, Any, T]]) -> T:
        return await asyncio.create_task(work(self))


class LocksContract:
    """What the contracts of all recipes share: give `connect` and `connect_async`, fresh locks on one empty store."""

    def connect(self) -> Locks:
        """Return blocking locks."""
        raise NotImplementedError

    def connect_async(self) -> AsyncLocks:
        """Return asyncio locks on the same store and namespace."""
        raise NotImplementedError

    @pytest.fixture(params=["threads", "asyncio"])
    def face(self, request: pytest.FixtureRequest) -> str:
        """Which face a test runs on."""
        return str(request.param)

    def run(self, face: str, work: Callable[[Face], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with one face of the store, and close it."""

        async def main() -> T:
            async with self.opened(face) as locks:
                return await work(locks)

        return asyncio.run(main())

    @contextlib.asynccontextmanager
    async def opened(self, face: str) -> AsyncGenerator[Face, None]:
        """Open one face."""
        locks: Face = BlockingFace(self.connect()) if face == "threads" else AsyncFace(self.connect_async())
        try:
            yield locks
        finally:
            await locks.close()


async def soon(task: asyncio.Task[Any]) -> Any:
    """Return what a task that should end at once returns."""
    return await asyncio.wait_for(task, PATIENCE)


async def queued(task: asyncio.Task[Any]) -> None:
    """Let a task that acquires come as far as the queue."""
    await asyncio.sleep(0.06)
    assert not task.done()
