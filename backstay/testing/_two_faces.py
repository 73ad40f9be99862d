"""What suites of recipes stand on that have the same methods on both faces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from typing import Any, TypeVar

import pytest

from backstay.blocking import drive
from backstay.locks import AsyncLocks, Locks
from backstay.locks.leases.protocol import LeaseProtocol

__all__ = ["PATIENCE", "Store", "TwoFaces"]

T = TypeVar("T")

PATIENCE = 10.0  # s for what should come at once


class Store:
    """One face of a store: `locks`, and `do` which calls a method of what they gave.

    `await store.do(latch.wait, 5)` runs a plain method in a thread of its own and awaits a coroutine.
    """

    def __init__(self, locks: Any, pool: ThreadPoolExecutor | None) -> None:
        self.locks, self._pool = locks, pool

    @property
    def protocol(self) -> LeaseProtocol:
        """The steps below the face."""
        reach: Callable[[], LeaseProtocol] = self.locks._reached()
        return reach()

    async def core(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine from below the face."""
        if self._pool is None:
            return await work
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: drive(work))

    async def do(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method of either colour."""
        if self._pool is None:
            found: Any = method(*arguments, **options)
            return await found if isawaitable(found) else found
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: method(*arguments, **options))


class TwoFaces:
    """Subclass it, and give `connect` and `connect_async`: each returns fresh locks on the same empty store."""

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

    def run(self, face: str, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with one face of the store, and close it."""

        async def main() -> T:
            async with self.opened(face) as store:
                return await work(store)

        return asyncio.run(main())

    @contextlib.asynccontextmanager
    async def opened(self, face: str) -> AsyncGenerator[Store, None]:
        """Open one face."""
        if face == "asyncio":
            async with self.connect_async() as locks:
                yield Store(locks, None)
            return
        with ThreadPoolExecutor(max_workers=32) as pool:  # more than wait at once in any test
            plain = self.connect()
            try:
                yield Store(plain, pool)
            finally:
                await asyncio.to_thread(plain.close)
