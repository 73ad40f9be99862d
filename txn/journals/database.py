"""One database transaction at a time, in two makes: threads and asyncio.

An operation is a plain function over a SQLAlchemy `Connection`. What fails before COMMIT was sent certainly did
not happen (`Unavailable`); what fails at COMMIT may have happened (`JournalUnanswered`).

SQLite has one writer and pays one disk flush a commit, so there the operations that wait while another commits
are run in one transaction together (group commit): the price of a flush is shared by everybody in the queue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from backstay.errors import Unavailable
from backstay.url import mask

from ..errors import JournalUnanswered
from .engines import READ

__all__ = ["GROUP", "AsyncDatabase", "BlockingDatabase", "Database", "Operation", "Waiting", "conflicting"]

T = TypeVar("T")
Operation = Callable[[Connection], Any]

GROUP = 64
_TRIES = 4
_CONFLICTS = frozenset({"40001", "40P01", "55P03", "1213", "1205"})


class Database(Protocol):
    """Runs operations, each in a transaction."""

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the dialect."""
        ...

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run and commit."""
        ...

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run without committing anything."""
        ...

    async def close(self) -> None:
        """Close idle connections."""
        ...


def conflicting(error: BaseException) -> bool:
    """Return whether a database gave up a transaction for the sake of another, so that it can be repeated at once."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    original = error.orig
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if code is None and original.args:
        code = original.args[0]
    return str(code) in _CONFLICTS or "database is locked" in str(original)


def _not_done(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(f"the journal's database did not answer, and nothing was written: {mask(str(error))[:500]}")


def _unknown(error: SQLAlchemyError) -> JournalUnanswered:
    return JournalUnanswered(f"the journal's database did not answer a COMMIT: {mask(str(error))[:500]}")


def _together(operations: Sequence[Operation]) -> Operation:
    return lambda connection: [operation(connection) for operation in operations]


class BlockingDatabase:
    """Over an `Engine`, for any number of threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self._reading = engine.execution_options(**{READ: True})
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._queue: list[Waiting] = []
        self._closed = False

    def reborn(self) -> None:
        """Forget, in a forked child, connections and locks that belong to the parent."""
        self.engine.dispose(close=False)
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._queue = []

    async def write(self, operation: Callable[[Connection], T]) -> T:
        if self.dialect != "sqlite":
            return self._alone(operation)
        waiting = Waiting(operation)
        with self._guard:
            self._queue.append(waiting)
        with self._turn:  # whoever gets the turn runs everything that is in the queue by then
            if not waiting.ended:
                with self._guard:
                    group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
                while waiting not in group:
                    self.run_group(group)
                    with self._guard:
                        group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
                self.run_group(group)
        return cast("T", waiting.outcome())

    def run_group(self, group: list[Waiting]) -> None:
        """Run and commit operations together, or each alone if one of them fails.

        Every operation has ended when this returns or is interrupted: nobody may wait for ever because the
        thread that ran a group for others got a KeyboardInterrupt.
        """
        try:
            self._run_group(group)
        finally:
            for waiting in group:
                if not waiting.ended:
                    waiting.fail(JournalUnanswered("the write was interrupted"))

    def _run_group(self, group: list[Waiting]) -> None:
        if len(group) > 1:
            try:
                results = self._once(_together([waiting.operation for waiting in group]))
            except JournalUnanswered as error:
                for waiting in group:
                    waiting.fail(error)
                return
            except Exception:
                results = None  # one of them failed: nothing was written, so each has its own turn
            if results is not None:
                for waiting, result in zip(group, results, strict=True):
                    waiting.end(result)
                return
        for waiting in group:
            try:
                waiting.end(self._alone(waiting.operation))
            except Exception as error:
                waiting.fail(error)

    def _alone(self, operation: Callable[[Connection], T]) -> T:
        for left in reversed(range(_TRIES)):
            try:
                return self._once(operation)
            except Unavailable as error:
                if not left or not conflicting(error.__cause__ or error):
                    raise
        raise AssertionError("unreachable")

    def _once(self, operation: Callable[[Connection], T]) -> T:
        try:
            connection = self.engine.connect()
        except SQLAlchemyError as error:
            raise _not_done(error) from error
        with self._lent(connection):
            try:
                transaction = connection.begin()
                result = operation(connection)
            except SQLAlchemyError as error:
                raise _not_done(error) from error
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                raise _unknown(error) from error
            return result

    @contextmanager
    def _lent(self, connection: Connection) -> Generator[Connection]:
        """Give a connection back to the pool, or close it once that was closed: nobody else would do it."""
        with connection:
            try:
                yield connection
            finally:
                if self._closed and not connection.invalidated:
                    connection.detach()

    def read_group(self, group: list[Waiting]) -> None:
        """Run operations that only read on one connection; never raises."""
        try:
            with self._lent(self._reading.connect()) as connection:
                for waiting in group:
                    waiting.end(waiting.operation(connection))
        except SQLAlchemyError as error:
            self._fail(group, _not_done(error), error)
        except BaseException as error:
            self._fail(group, error, error)

    @staticmethod
    def _fail(group: list[Waiting], told: BaseException, cause: BaseException) -> None:
        if told is not cause:
            told.__cause__ = cause
        for waiting in group:
            if not waiting.ended:
                waiting.fail(told)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        try:
            with self._lent(self._reading.connect()) as connection:
                return operation(connection)
        except SQLAlchemyError as error:
            raise _not_done(error) from error

    async def close(self) -> None:
        self._closed = True
        self.engine.dispose()


class Waiting:
    """An operation in a queue, and later what it came to."""

    __slots__ = ("_error", "_result", "ended", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.ended = False
        self._result: Any = None
        self._error: BaseException | None = None

    def end(self, result: Any) -> None:
        """Note a result."""
        self._result, self.ended = result, True

    def fail(self, error: BaseException) -> None:
        """Note an error."""
        self._error, self.ended = error, True

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._result


class AsyncDatabase:
    """Over an `AsyncEngine`, for one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self._reading = engine.execution_options(**{READ: True})

    def reborn(self) -> None:
        """Forget, in a forked child, connections that belong to the parent."""
        self.engine.sync_engine.dispose(close=False)

    async def write(self, operation: Callable[[Connection], T]) -> T:
        for left in reversed(range(_TRIES)):
            try:
                return await self._once(operation)
            except Unavailable as error:
                if not left or not conflicting(error.__cause__ or error):
                    raise
        raise AssertionError("unreachable")

    async def _once(self, operation: Callable[[Connection], T]) -> T:
        connection = self.engine.connect()
        try:
            await connection.start()
        except SQLAlchemyError as error:
            raise _not_done(error) from error
        try:
            try:
                transaction = await connection.begin()
                result = await connection.run_sync(operation)
            except SQLAlchemyError as error:
                raise _not_done(error) from error
            try:
                await transaction.commit()
            except SQLAlchemyError as error:
                raise _unknown(error) from error
            return result
        finally:
            await connection.close()

    async def read(self, operation: Callable[[Connection], T]) -> T:
        try:
            async with self._reading.connect() as connection:
                return await connection.run_sync(operation)
        except SQLAlchemyError as error:
            raise _not_done(error) from error

    async def close(self) -> None:
        await self.engine.dispose()
