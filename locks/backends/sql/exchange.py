"""One exchange with the database: some statements within a time, tried again where that is safe, in two makes.

Theory of operation. An exchange reads a row, decides, and writes it back on condition that its version is still the one
that was read. So until the write has left nothing was changed; a write that was answered was done or was refused for
its version; and a write that was not answered may have been done. In each case the exchange as a whole can be run
again while there is time, since what it does is named by a token that is used once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from sqlalchemy import Dialect

from backstay.clock import monotonic
from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

from .migration import prepare
from .pool import Pool
from .statements import Statement, Statements
from .wires import Trouble, Wire

__all__ = ["AsyncioExchanges", "BlockingExchanges", "Database", "Desk", "Exchanges"]

T = TypeVar("T")

PAUSE, PAUSE_CAP = 0.005, 0.2  # s, before an exchange is run again


class Desk:
    """What an exchange works with: the statements of its dialect, and a connection that notes what was written."""

    __slots__ = ("_wire", "again", "statements", "until", "writing")

    def __init__(self, wire: Wire, statements: Statements, until: float, again: bool) -> None:
        self._wire, self.statements, self.until = wire, statements, until
        self.again = again
        """Whether an earlier run of this exchange may have written."""
        self.writing = False

    def read(self, statement: Statement, **values: object) -> tuple[object, ...] | None:
        """Return the first row."""
        return self._wire.ask(statement, **values)

    def read_all(self, statement: Statement, **values: object) -> list[tuple[object, ...]]:
        """Return all rows."""
        return self._wire.ask_all(statement, **values)

    def write(self, statement: Statement, **values: object) -> bool:
        """Return whether it changed a row."""
        self.writing = True
        changed = self._wire.tell(statement, **values)
        self.writing = False
        return changed


class Database:
    """A database with tables for locks, for any number of threads."""

    def __init__(self, pool: Pool, dialect: Dialect) -> None:
        self.pool, self._dialect = pool, dialect
        self.statements = Statements(dialect)

    def run(self, work: Callable[[Desk], T], timeout: float) -> T:
        """Run an exchange.

        Raises:
            Unavailable: nothing was changed.
            OutcomeUnknown: it was not answered in time, and may have been done.
            Misuse: the database refused in a way that only a person can mend.
        """
        until = monotonic() + timeout
        again, failures = False, 0
        while True:
            try:
                wire = self.pool.take(until)
            except Unavailable as error:
                self._pause(error, again, failures, until)
                failures += 1
                continue
            desk = Desk(wire, self.statements, until, again)
            try:
                wire.within(until)
                if not self.pool.prepared:
                    prepare(wire, self.statements, self._dialect, again=failures > 0)
                    self.pool.prepared = True
                answer = work(desk)
            except BaseException as error:
                trouble = wire.diagnose(error) if isinstance(error, Exception) else None
                if trouble is None:  # our own error, or an interruption in the midst of anything
                    self._part(wire, isinstance(error, (Misuse, Unavailable)))
                    raise
                again = again or (desk.writing and trouble is Trouble.BROKEN)
                self._part(wire, trouble is not Trouble.BROKEN)
                self._judge(error, trouble, again, failures, until)
                failures += 1
            else:
                self.pool.give(wire)
                return answer

    def _part(self, wire: Wire, sound: bool) -> None:
        if sound:
            self.pool.give(wire)
        else:
            self.pool.drop(wire)

    def _judge(self, error: BaseException, trouble: Trouble, again: bool, failures: int, until: float) -> None:
        """Pause before the exchange is run again, or raise what it came to."""
        if trouble is Trouble.NO_TABLE and failures < 3:
            self.pool.prepared = False  # somebody dropped them: they are made again
            return
        if trouble in (Trouble.REFUSED, Trouble.NO_TABLE):
            raise Misuse(f"{self.pool.label} refused a statement of locks: {mask(str(error))[:500]}") from error
        self._pause(error, again, failures, until)

    def _pause(self, error: BaseException, again: bool, failures: int, until: float) -> None:
        pause = random.uniform(0.0, min(PAUSE * 2.0 ** min(failures, 10), PAUSE_CAP))
        if monotonic() + pause < until:
            time.sleep(pause)
            return
        if again:
            raise OutcomeUnknown(f"{self.pool.label} did not answer whether it wrote: {_told(error)}") from error
        if isinstance(error, Unavailable):
            raise error
        raise Unavailable(f"{self.pool.label} did not answer, and nothing was changed: {_told(error)}") from error


def _told(error: BaseException) -> str:
    return mask(str(error))[:500] or "the time was over"


class Exchanges(Protocol):
    """Runs exchanges in one of two makes."""

    async def run(self, work: Callable[[Desk], T], timeout: float) -> T:
        """See `Database.run`."""
        ...

    async def close(self) -> None:
        """Close idle connections and threads."""
        ...


class BlockingExchanges:
    """In the calling thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Callable[[Desk], T], timeout: float) -> T:
        return self._database.run(work, timeout)

    async def close(self) -> None:
        self._database.pool.close()


class AsyncioExchanges:
    """In threads beside an event loop.

    An exchange is two messages. A driver of asyncio would change greenlets for each of them, and the drivers for
    SQLite change threads for each; here an exchange as a whole costs one change, and there is one code for both makes.
    """

    def __init__(self, database: Database, threads: int) -> None:
        self._database, self._size = database, threads
        self._begin()

    def _begin(self) -> None:
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="backstay-locks-sql")

    async def run(self, work: Callable[[Desk], T], timeout: float) -> T:
        until = monotonic() + timeout

        def job() -> T:
            return self._database.run(work, max(0.0, until - monotonic()))

        label = self._database.pool.label
        try:
            running: Future[T] = self._threads.submit(job)
        except RuntimeError as error:  # an interpreter that ends, or one without threads to spare
            raise Unavailable(f"{label}: no thread to ask in: {error}") from error
        waiting = asyncio.wrap_future(running)  # its cancellation drops work that has not begun
        done, _ = await asyncio.wait({waiting}, timeout=timeout + 0.1)
        if done:
            return waiting.result()
        begun = not running.cancel()
        waiting.cancel()
        if begun:
            raise OutcomeUnknown(f"{label} did not answer in time")
        raise Unavailable(f"{label}: all threads were busy all the time, and nothing was sent")

    async def close(self) -> None:
        self._database.pool.close()
        self._threads.shutdown(wait=False)
        self._begin()  # threads start when there is work: withdrawals that the keeper still insists on
