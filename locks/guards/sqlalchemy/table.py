"""Guarded writes of SQLAlchemy Core: one statement that compares, writes and remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from backstay.errors import Misuse
from backstay.locks.guards.errors import StaleFence
from backstay.locks.guards.token import Fenced, FencingToken, token_of

from .statements import Statements

__all__ = ["AsyncTableGuard", "TableGuard"]

T = TypeVar("T")
Handle: TypeAlias = "Connection | Session"
AsyncHandle: TypeAlias = "AsyncConnection | AsyncSession"


class TableGuard:
    """Writes to a table whose rows refuse the late writes of earlier holders of their lock.

        guard = TableGuard(orders)                                          # a Table or a mapped class
        with locks.mutex("order:42") as lease, engine.begin() as connection:
            guard.update(connection, lease, orders.c.id == 42, values={"state": "paid"})

    What is guaranteed: a row that a later holder has written stays as it is, and the transaction of the late
    write is rolled back as a whole with `StaleFence`. The comparison, the write and the raising of the fence are
    one statement. What is not: as for `FencedRow`, rows must always be written under the same lock (F7), and a
    deleted row remembers nothing.

    Args:
        table: a `Table`, or a class that is mapped to one.
        column: the name of its fence column: BIGINT, NOT NULL or NULL for "never".

    Raises:
        Misuse: no table, or it has no such column.
    """

    def __init__(self, table: Any, *, column: str = "fence") -> None:
        found: Any = getattr(table, "__table__", table)
        kind: Any = Table  # pyright would narrow to a table of unknown columns
        if not isinstance(found, kind):
            raise Misuse(f"TableGuard takes a Table or a mapped class, got {type(table).__name__}")
        self._statements = Statements(found, column)

    def __repr__(self) -> str:
        return f"TableGuard({self._statements.table.name!r})"

    def update(self, handle: Handle, lease: Fenced, *where: Any, values: Mapping[str, Any]) -> int:
        """Update rows and return how many there were.

        Args:
            handle: a Session, or a Connection inside a transaction.
            lease: a lease or a `FencingToken`.
            where: which rows; at least one condition.
            values: by column name.

        Raises:
            StaleFence: a later holder has written one of them; the transaction is rolled back.
            Misuse: no condition, an unknown column, or a connection that commits every statement.
        """
        token = token_of(lease)
        connection = self._connection(handle)
        count = connection.execute(self._statements.update(token, where, values)).rowcount
        return self._judge(handle, connection, token, where, count)

    def claim(self, handle: Handle, lease: Fenced, *where: Any) -> int:
        """Raise the fence of rows and change nothing else; return how many there were.

        Before a read whose result decides a write: from then on no earlier holder can change what was read.

        Raises:
            StaleFence, Misuse: as for `update`.
        """
        return self.update(handle, lease, *where, values={})

    def delete(self, handle: Handle, lease: Fenced, *where: Any) -> int:
        """Delete rows and return how many there were; who inserts them anew meets no fence.

        Raises:
            StaleFence, Misuse: as for `update`.
        """
        token = token_of(lease)
        connection = self._connection(handle)
        count = connection.execute(self._statements.delete(token, where)).rowcount
        return self._judge(handle, connection, token, where, count)

    def upsert(self, handle: Handle, lease: Fenced, *, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Write one row, whether it is there or not.

        Args:
            handle, lease: as for `update`.
            key: the columns of the primary key or of a unique one, with their values.
            values: the other columns.

        Raises:
            StaleFence: a later holder has written the row; the transaction is rolled back.
            Misuse: as for `update`; or, on MariaDB and MySQL, the values collide with another row's unique key.
        """
        token = token_of(lease)
        connection = self._connection(handle)
        statement, where = self._statements.upsert(connection.dialect.name, token, key, values)
        statement = statement.execution_options(preserve_rowcount=True)
        count = connection.execute(statement).rowcount
        if connection.dialect.name in ("postgresql", "sqlite"):
            if count == 0:
                self._judge(handle, connection, token, where, count)
            return
        # MariaDB counts neither what was refused nor what was: whose fence stands there says it, and the row is ours
        # to read until the transaction ends.
        fence = self._statements.fence
        stands = connection.execute(fence.table.select().with_only_columns(fence).where(*where).with_for_update())
        highest = stands.scalar()
        if highest == token.fence:
            return
        _roll_back(handle, connection)
        if highest is None:
            raise Misuse(f"{self!r}.upsert() met another row with the same unique key; nothing was written")
        raise self._stale(token, highest)

    def _connection(self, handle: Handle) -> Connection:
        given: Any = handle
        if isinstance(given, Session):
            given = given.connection(bind_arguments={"clause": self._statements.table})
        if not isinstance(given, Connection):
            raise Misuse(f"a guarded write needs a Session or a Connection, got {type(given).__name__}")
        if given.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            raise Misuse("a guarded write needs a transaction to roll back; this connection is in AUTOCOMMIT mode")
        return given

    def _judge(self, handle: Handle, connection: Connection, token: FencingToken, where: Any, count: int) -> int:
        if count == 1 and self._statements.names_one_row(where):
            return count
        highest: Any = connection.execute(self._statements.later(token, where)).scalar()
        if highest is None:
            return count
        _roll_back(handle, connection)
        raise self._stale(token, highest)

    def _stale(self, token: FencingToken, highest: int) -> StaleFence:
        what = f"a row of {self._statements.table.name!r}"
        return StaleFence.at(what, lock=token.name, fence=token.fence, highest=highest)


def _roll_back(handle: Handle, connection: Connection) -> None:
    """End the transaction, or the savepoint, of a late write: what else it wrote is as late as this."""
    if isinstance(handle, Session):
        handle.rollback()
        return
    transaction = connection.get_nested_transaction() or connection.get_transaction()
    if transaction is not None:
        transaction.rollback()


class AsyncTableGuard:
    """The asyncio twin of `TableGuard`: handles are an AsyncSession or an AsyncConnection."""

    def __init__(self, table: Any, *, column: str = "fence") -> None:
        self._guard = TableGuard(table, column=column)

    def __repr__(self) -> str:
        return f"Async{self._guard!r}"

    async def update(self, handle: AsyncHandle, lease: Fenced, *where: Any, values: Mapping[str, Any]) -> int:
        """Update rows and return how many there were; see `TableGuard.update`."""
        return await _run(handle, lambda sync: self._guard.update(sync, lease, *where, values=values))

    async def claim(self, handle: AsyncHandle, lease: Fenced, *where: Any) -> int:
        """Raise the fence of rows and change nothing else; see `TableGuard.claim`."""
        return await _run(handle, lambda sync: self._guard.claim(sync, lease, *where))

    async def delete(self, handle: AsyncHandle, lease: Fenced, *where: Any) -> int:
        """Delete rows and return how many there were; see `TableGuard.delete`."""
        return await _run(handle, lambda sync: self._guard.delete(sync, lease, *where))

    async def upsert(
        self, handle: AsyncHandle, lease: Fenced, *, key: Mapping[str, Any], values: Mapping[str, Any]
    ) -> None:
        """Write one row, whether it is there or not; see `TableGuard.upsert`."""
        await _run(handle, lambda sync: self._guard.upsert(sync, lease, key=key, values=values))


async def _run(handle: AsyncHandle, work: Callable[[Any], T]) -> T:
    given: Any = handle
    if not isinstance(given, (AsyncSession, AsyncConnection)):
        raise Misuse(f"a guarded write needs an AsyncSession or an AsyncConnection, got {type(given).__name__}")
    result: T = await given.run_sync(work)
    return result
