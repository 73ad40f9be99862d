"""One connection of a driver, bounded in time: what the drivers do not agree on, and nothing else.

A wire commits every statement by itself and belongs to one exchange at a time. `within` says when the exchange must
have ended; a wire that was cut off by that is `broken`, as one that the server closed, and is not used again.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Generator
from enum import Enum
from typing import Any

from backstay.clock import monotonic

from .statements import Statement

__all__ = ["Late", "Trouble", "Wire", "dressed"]


class Late(Exception):
    """The time of an exchange was over before the server had answered."""


class Trouble(Enum):
    """What an error of a driver means for the statement that met it."""

    CONFLICT = "conflict"
    """Not done, for the sake of another; again at once."""
    NO_TABLE = "no table"
    REFUSED = "refused"
    """Not done; it needs a person: a right, a read-only server, another schema."""
    FAILED = "failed"
    """The server answered that it was not done."""
    BROKEN = "broken"
    """No answer: it may have been done."""


class Wire(ABC):
    """A connection that commits every statement by itself."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._until = 0.0

    def within(self, until: float) -> None:
        """Begin an exchange that must end at `until`, by the monotonic clock."""
        self._until = until

    def ask(self, statement: Statement, **values: Any) -> tuple[Any, ...] | None:
        """Return the first row that a statement finds."""
        cursor = self.send(statement.text, statement.bind(**values))
        try:
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row
        finally:
            cursor.close()

    def ask_all(self, statement: Statement, **values: Any) -> list[tuple[Any, ...]]:
        """Return all rows that a statement finds."""
        cursor = self.send(statement.text, statement.bind(**values))
        try:
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def tell(self, statement: Statement, **values: Any) -> bool:
        """Return whether a statement changed anything."""
        cursor = self.send(statement.text, statement.bind(**values))
        try:
            return int(cursor.rowcount) > 0
        finally:
            cursor.close()

    def send(self, text: str, values: Any = ()) -> Any:
        """Run a statement and return its cursor."""
        cursor = self.connection.cursor()
        try:
            cursor.execute(text, values)
        except BaseException:
            cursor.close()
            raise
        return cursor

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        try:
            self.connection.close()
        except Exception:  # it is of no use any more, and the server closes its end by itself
            return

    @property
    @abstractmethod
    def broken(self) -> bool:
        """Whether the connection cannot be used again."""

    @abstractmethod
    def diagnose(self, error: Exception) -> Trouble | None:
        """Return what an error means; None where it is none of the driver's."""


class PostgresWire(Wire):
    """psycopg."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        connection.rollback()  # what a listener of the engine may have begun
        connection.autocommit = True
        connection.prepare_threshold = None  # a prepared statement is lost behind a pooler
        self._wait = connection.wait
        connection.wait = self._bounded

    def _bounded(self, work: Any, *positional: Any, **named: Any) -> Any:
        """Stand in for the driver's own wait, which knows no deadline in all versions that we serve."""
        named["interval"] = max(0.0, min(0.1, self._until - monotonic()))
        return self._wait(self._until_late(work), **named)

    def _until_late(self, work: Any) -> Generator[Any, Any, Any]:
        try:
            state = next(work)
            while True:
                ready = yield state
                if not ready and monotonic() >= self._until:
                    raise Late
                state = work.send(ready)
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        if not self.connection.closed and self.connection.pgconn.transaction_status == 1:  # ACTIVE: not answered
            self.connection.pgconn.finish()
        super().close()

    @property
    def broken(self) -> bool:
        return bool(self.connection.closed or self.connection.pgconn.transaction_status in (1, 4))  # ACTIVE, UNKNOWN

    def diagnose(self, error: Exception) -> Trouble | None:
        from psycopg import Error, errors

        if isinstance(error, Late):
            return Trouble.BROKEN
        if not isinstance(error, Error):
            return None
        if self.broken:
            return Trouble.BROKEN
        code = error.sqlstate or ""
        if code in ("40001", "40P01", "55P03", "57014"):
            return Trouble.CONFLICT
        if isinstance(error, errors.UndefinedTable):
            return Trouble.NO_TABLE
        if code == "25006" or code.startswith(("22", "42", "3F", "0A")):
            return Trouble.REFUSED
        return Trouble.FAILED


_MYSQL_CONFLICTS = frozenset({1205, 1213})
_MYSQL_REFUSALS = frozenset({1044, 1142, 1143, 1227, 1290, 1792, 1836})  # rights, and servers that only read
_MYSQL_ENDINGS = frozenset({1053, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927})  # said by a server that goes


class MySqlWire(Wire):
    """PyMySQL, for MariaDB and MySQL."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        connection.rollback()
        connection.autocommit(True)

    def send(self, text: str, values: Any = ()) -> Any:
        left = self._until - monotonic()
        if left <= 0.0:
            raise Late
        # The driver sets these on its socket before each read and write.
        self.connection._read_timeout = self.connection._write_timeout = left
        return super().send(text, values)

    def close(self) -> None:
        # close() would say goodbye first, to a server that may not listen.
        self.connection._force_close()

    @property
    def broken(self) -> bool:
        return not self.connection.open

    def diagnose(self, error: Exception) -> Trouble | None:
        from pymysql import err

        if isinstance(error, Late):
            return Trouble.BROKEN
        if not isinstance(error, (err.Error, OSError)):
            return None
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        if code in _MYSQL_CONFLICTS:
            return Trouble.CONFLICT
        if code == 1146:
            return Trouble.NO_TABLE
        if code in _MYSQL_REFUSALS or (code and isinstance(error, err.ProgrammingError)):
            return Trouble.REFUSED
        answered = 1000 <= code < 2000 and code not in _MYSQL_ENDINGS and not self.broken
        return Trouble.FAILED if answered else Trouble.BROKEN


class SqliteWire(Wire):
    """The sqlite3 of the standard library."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        connection.isolation_level = None
        self._broken = False
        self._patience = -1
        self.within(monotonic() + 5.0)
        for setting in ("journal_mode=WAL", "synchronous=NORMAL"):
            # Not FULL: what a power cut takes with it are locks of processes that it ended as well.
            self.send(f"PRAGMA {setting}").close()

    def send(self, text: str, values: Any = ()) -> Any:
        patience = max(1, int((self._until - monotonic()) * 1000.0))
        if abs(patience - self._patience) * 10 > patience:
            self._patience = patience
            self.connection.execute(f"PRAGMA busy_timeout={patience}")
        return super().send(text, values)

    @property
    def broken(self) -> bool:
        return self._broken

    def diagnose(self, error: Exception) -> Trouble | None:
        if isinstance(error, Late):
            return Trouble.BROKEN
        if not isinstance(error, sqlite3.Error):
            return None
        text = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Trouble.CONFLICT
        if "no such table" in text:
            return Trouble.NO_TABLE
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_PERM):
            return Trouble.REFUSED
        self._broken = True
        return Trouble.FAILED if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN) else Trouble.BROKEN


WIRES: dict[str, type[Wire]] = {
    "sqlite": SqliteWire,
    "postgresql": PostgresWire,
    "mysql": MySqlWire,
    "mariadb": MySqlWire,
}


def dressed(dialect: str, connection: Any) -> Wire:
    """Return a connection of a driver as a wire."""
    return WIRES[dialect](connection)
