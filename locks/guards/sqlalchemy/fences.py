"""The highest fences in a table, one row a lock: for what has no row of its own to compare with."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, String, Table, Text, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from backstay.errors import Misuse
from backstay.locks.guards.token import Fenced, FencingToken, token_of

from .table import AsyncHandle, AsyncTableGuard, Handle, TableGuard

__all__ = ["AsyncSqlFences", "SqlFences", "fences", "metadata"]

metadata = MetaData()
"""For applications that make their tables by `create_all` or Alembic: add this metadata to theirs."""

fences = Table(
    "backstay_fences",
    metadata,
    # Names of locks are long, and differ in case, in trailing blanks and in characters that a database may
    # not hold: the key is a digest of the name, and the name is there for people.
    Column("lock_digest", String(64), primary_key=True),
    Column("lock_name", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
)

_guard, _async_guard = TableGuard(fences), AsyncTableGuard(fences)


def _row(token: FencingToken) -> dict[str, Any]:
    digest = hashlib.sha256(token.name.encode()).hexdigest()
    return {"key": {"lock_digest": digest}, "values": {"lock_name": quote(token.name, safe=" :/@.-_+~")}}


def _create(connection: Connection) -> None:
    if inspect(connection).has_table(fences.name):
        return
    try:
        with connection.begin_nested():
            metadata.create_all(connection, checkfirst=False)
    except SQLAlchemyError:
        if not inspect(connection).has_table(fences.name):  # else another process was quicker
            raise


class SqlFences:
    """The highest fence seen of each lock, in the table `backstay_fences`.

        fences = SqlFences(engine)
        fences.create()                            # at start-up; `admit` would do it as well
        fences.admit(lease)                        # a transaction of its own, for checks of HTTP and Celery
        fences.admit_within(session, lease)        # part of yours: guards all that the transaction does

    What is guaranteed: comparing and remembering are one statement. With `admit_within` the lock's row stays
    locked until your transaction ends, so everything in it, inserts and deletes included, happens before any
    later holder's `admit_within` or not at all. With `admit` it only stands before what is done next, and a
    process that is stopped in between is late again. Rows are never deleted: about 150 bytes for each lock.

    Args:
        engine: where the table is; SQLite, PostgreSQL, MariaDB or MySQL.
    """

    def __init__(self, engine: Engine) -> None:
        given: Any = engine
        if not isinstance(given, Engine):
            raise Misuse(f"SqlFences takes an Engine, got {type(given).__name__}; for an AsyncEngine, AsyncSqlFences")
        self._engine, self._missing = engine, True

    def create(self) -> None:
        """Create the table if it is not there; `admit_within` needs it to be."""
        if self._missing:
            with self._engine.begin() as connection:
                _create(connection)
            self._missing = False

    def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
        """
        token = token_of(lease)
        self.create()
        with self._engine.begin() as connection:
            _guard.upsert(connection, token, **_row(token))

    def admit_within(self, handle: Handle, lease: Fenced) -> None:
        """Do the same as part of the caller's transaction, that of a Session or Connection.

        Raises:
            StaleFence: a higher one was seen before; the transaction is rolled back.
        """
        token = token_of(lease)
        _guard.upsert(handle, token, **_row(token))


class AsyncSqlFences:
    """The asyncio twin of `SqlFences`, on an AsyncEngine."""

    def __init__(self, engine: AsyncEngine) -> None:
        given: Any = engine
        if not isinstance(given, AsyncEngine):
            raise Misuse(f"AsyncSqlFences takes an AsyncEngine, got {type(given).__name__}; for an Engine, SqlFences")
        self._engine, self._missing = engine, True

    async def create(self) -> None:
        """Create the table if it is not there; `admit_within` needs it to be."""
        if self._missing:
            async with self._engine.begin() as connection:
                await connection.run_sync(_create)
            self._missing = False

    async def admit(self, lease: Fenced) -> None:
        """Let a fence pass that is at least the highest seen of its lock, and remember it.

        Raises:
            StaleFence: a higher one was seen before.
        """
        token = token_of(lease)
        await self.create()
        async with self._engine.begin() as connection:
            await _async_guard.upsert(connection, token, **_row(token))

    async def admit_within(self, handle: AsyncHandle, lease: Fenced) -> None:
        """Do the same as part of the caller's transaction, that of an AsyncSession or AsyncConnection.

        Raises:
            StaleFence: a higher one was seen before; the transaction is rolled back.
        """
        token = token_of(lease)
        await _async_guard.upsert(handle, token, **_row(token))
