"""The barrier for a transaction that the application has begun itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from ..values import Branch
from . import steps
from .binding import AsyncHandle, Handle, connection_of, sync_of
from .schema import create

__all__ = ["AsyncBarrier", "Barrier"]

T = TypeVar("T")


class Barrier:
    """Makes a participant's functions safe against repeated, late and overtaking requests.

    Guarantees, for one database: the effect of each phase of a branch happens once however often the request
    comes; a cancel before its try is noted and the late try refused; confirm and cancel never both run. It
    covers what is written in the given transaction and nothing else: no e-mail, no other database.

    Args:
        engine: the engine of the business rows. With it, transactions of other engines are refused, and a
            Session over several engines can be used. Without it, any transaction's own database is taken.
        lock_timeout: seconds that the business transaction waits for a lock from then on, set on PostgreSQL
            (which waits for ever by default); SQLite and MariaDB have limits of their own.
    """

    def __init__(self, engine: Engine | None = None, *, lock_timeout: float | None = None) -> None:
        self._engine = engine
        self._lock_timeout = lock_timeout

    @staticmethod
    def create(engine: Engine) -> None:
        """Create the table `backstay_barrier` if it is not there."""
        with engine.begin() as connection:
            create(connection)

    def call(self, handle: Handle, branch: Branch, function: Callable[[Branch], T]) -> T:
        """Call `function` if this request must run, and return its result, or what it returned the first time.

        Args:
            handle: a Session or Connection inside the business transaction; call this first in it, and leave
                commit and rollback to whoever began it. Any exception must roll it back.
            branch: the request; `function` gets it with the try's result filled in.
            function: does the work through the same handle; returns JSON or None.

        Raises:
            TryRefused: this is a try that came after its cancel. Answer it as a refusal, never as success.
            BarrierAlarm: an impossible order or another payload; alert somebody.
            Misuse: the handle has no transaction, or is of another engine.
            OutcomeUnknown: roll back and repeat (a hidden row), or `function` rolled back by itself.
        """
        connection = connection_of(handle, self._engine)
        entry = steps.enter(connection, branch, self._lock_timeout)
        if not entry.run:
            return cast("T", entry.result)
        result = function(_with(branch, entry))
        steps.store(connection, branch, result)
        return result


class AsyncBarrier:
    """The asyncio twin of `Barrier`."""

    def __init__(self, engine: AsyncEngine | None = None, *, lock_timeout: float | None = None) -> None:
        self._engine = None if engine is None else engine.sync_engine
        self._lock_timeout = lock_timeout

    @staticmethod
    async def create(engine: AsyncEngine) -> None:
        """Create the table `backstay_barrier` if it is not there."""
        async with engine.begin() as connection:
            await connection.run_sync(create)

    async def call(self, handle: AsyncHandle, branch: Branch, function: Callable[[Branch], Awaitable[T]]) -> T:
        """Call `function` if this request must run, and return its result, or what it returned the first time."""

        def enter(_: Session | Connection) -> steps.Entry:
            return steps.enter(connection_of(sync_of(handle), self._engine), branch, self._lock_timeout)

        entry = await handle.run_sync(enter)
        if not entry.run:
            return cast("T", entry.result)
        result = await function(_with(branch, entry))

        def store(_: Session | Connection) -> None:
            steps.store(connection_of(sync_of(handle), self._engine), branch, result)

        await handle.run_sync(store)
        return result


def _with(branch: Branch, entry: steps.Entry) -> Branch:
    return Branch(gtrid=branch.gtrid, id=branch.id, phase=branch.phase, payload=branch.payload, result=entry.result)
