"""One database transaction at a time, in two makes: threads and asyncio.

An operation is a plain function over a SQLAlchemy `Connection`. What fails before COMMIT was sent certainly did
not happen (`Unavailable`); what fails at COMMIT may have happened (`JournalUnanswered`).

SQLite has one writer and pays one disk flush a commit, so there the operations that wait while another commits
are run in one transaction together (group commit): the price of a flush is shared by everybody in the queue.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from backstay.errors import Unavailable
from backstay.url import mask

from ..errors import JournalUnanswered
from .engines import READ

__all__ = ["AsyncDatabase", "BlockingDatabase", "Database", "Operation", "conflicting"]

T = TypeVar("T")
Operation = Callable[[Connection], Any]

_GROUP = 64
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
        self._queue: list[_Waiting] = []

    def reborn(self) -> None:
        """Forget, in a forked child, connections and locks that belong to the parent."""
        self.engine.dispose(close=False)
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._queue = []

    async def write(self, operation: Callable[[Connection], T]) -> T:
        if self.dialect != "sqlite":
            return self._alone(operation)
        waiting = _Waiting(operation)
        with self._guard:
            self._queue.append(waiting)
        with self._turn:  # whoever gets the turn runs everything that is in the queue by then
            if not waiting.ended:
                with self._guard:
                    group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
                while waiting not in group:
                    self._run(group)
                    with self._guard:
                        group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
                self._run(group)
        return cast("T", waiting.outcome())

    def _run(self, group: list[_Waiting]) -> None:
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
            except BaseException as error:
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
        with connection:
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

    async def read(self, operation: Callable[[Connection], T]) -> T:
        try:
            with self._reading.connect() as connection:
                return operation(connection)
        except SQLAlchemyError as error:
            raise _not_done(error) from error

    async def close(self) -> None:
        self.engine.dispose()


class _Waiting:
    """An operation in the queue of the group commit, and later what it came to."""

    __slots__ = ("_error", "_result", "ended", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.ended = False
        self._result: Any = None
        self._error: BaseException | None = None

    def end(self, result: Any) -> None:
        self._result, self.ended = result, True

    def fail(self, error: BaseException) -> None:
        self._error, self.ended = error, True

    def outcome(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class AsyncDatabase:
    """Over an `AsyncEngine`, for one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self._reading = engine.execution_options(**{READ: True})
        self._queue: list[tuple[Operation, asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    def reborn(self) -> None:
        """Forget, in a forked child, connections that belong to the parent."""
        self.engine.sync_engine.dispose(close=False)
        self._queue, self._writer = [], None

    async def write(self, operation: Callable[[Connection], T]) -> T:
        if self.dialect != "sqlite":
            return await self._alone(operation)
        promise: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((operation, promise))
        if self._writer is None or self._writer.done():
            # A task of its own: the cancellation of one caller must not tear the commit of the others.
            self._writer = asyncio.get_running_loop().create_task(self._write(), name="backstay-txn-journal")
        return await promise

    async def _write(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
            try:
                await self._run(group)
            except BaseException as error:
                for _, promise in group:
                    if not promise.done():
                        promise.set_exception(JournalUnanswered(f"the journal's writer was stopped: {error!r}"))
                raise

    async def _run(self, group: list[tuple[Operation, asyncio.Future[Any]]]) -> None:
        if len(group) > 1:
            results: list[Any] | None
            try:
                results = await self._once(_together([operation for operation, _ in group]))
            except JournalUnanswered as error:
                for _, promise in group:
                    _fail(promise, error)
                return
            except Exception:
                results = None  # one of them failed: nothing was written, so each has its own turn
            if results is not None:
                for (_, promise), result in zip(group, results, strict=True):
                    if not promise.done():
                        promise.set_result(result)
                return
        for operation, promise in group:
            try:
                result = await self._alone(operation)
            except Exception as error:
                _fail(promise, error)
            else:
                if not promise.done():
                    promise.set_result(result)

    async def _alone(self, operation: Callable[[Connection], T]) -> T:
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
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            await asyncio.wait({writer})
        await self.engine.dispose()


def _fail(promise: asyncio.Future[Any], error: BaseException) -> None:
    if not promise.done():
        promise.set_exception(error)
