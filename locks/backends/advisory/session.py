"""The one connection that holds the advisory locks of a process or event loop, outside any pool."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, select

from backstay.errors import Misuse, Unavailable
from backstay.locks.backends.sql.clock import DatabaseMicroseconds
from backstay.locks.backends.sql.pool import Pool, inherit
from backstay.locks.backends.sql.wires import Trouble, Wire

from .lookout import lookout

__all__ = ["SEQUENCE", "SILENCE", "Broken", "Session"]

logger = logging.getLogger("backstay.locks")

SILENCE = 30.0
"""Seconds that the server keeps a session of which it hears nothing, at the least."""

SEQUENCE = "backstay_lock_fences"
"""Where fences come from: `CREATE SEQUENCE backstay_lock_fences`."""

# A connection whose other end is gone is found out after SILENCE and two questions more, 40 s together.
_SETTINGS = (
    "tcp_keepalives_idle = 30",
    "tcp_keepalives_interval = 5",
    "tcp_keepalives_count = 2",
    "tcp_user_timeout = 40000",
)


class Broken(Exception):
    """The session ended in the midst of a statement, and all its locks with it."""


class Session:
    """A connection that is made when it is needed; one statement at a time.

    Args:
        pool: where connections come from.
        dialect: PostgreSQL's.
        ended: called when the connection is lost, before another one is made.
    """

    def __init__(self, pool: Pool, dialect: Dialect, ended: Callable[[], None]) -> None:
        self._pool, self._ended = pool, ended
        self._clock = str(select(DatabaseMicroseconds()).compile(dialect=dialect))
        self.label = pool.label
        self._begin()

    def _begin(self) -> None:
        self.turn = threading.RLock()
        self._wire: Wire | None = None
        self._pid = self._socket = 0

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._wire is not None

    def start(self, until: float) -> None:
        """Connect unless there is a connection. Called with the turn.

        Raises:
            Unavailable: there was no answer until then.
            Misuse: a pooler stands between, or the sequence is missing and could not be made.
        """
        if self._wire is not None:
            return
        wire = self._pool.take(until)
        try:
            wire.within(until)
            self._pid = self._examine(wire)
        except BaseException as error:
            trouble = wire.diagnose(error) if isinstance(error, Exception) else None
            self._pool.drop(wire)
            if trouble is None:
                raise
            if trouble is Trouble.REFUSED:
                raise Misuse(f"{self.label} refused to begin a session of locks: {error}") from error
            raise Unavailable(f"{self.label} did not begin a session of locks: {error}") from error
        wire.connection.prepare_threshold = 5  # the driver's own; no pooler is there to lose what was prepared
        self._wire, self._socket = wire, wire.connection.fileno()
        lookout.watch(self._socket, lambda: self._closed(wire))

    def ask(self, text: str, values: tuple[Any, ...], until: float) -> Any:
        """Return the first value that a statement finds. Called with the turn, on an open session.

        Raises:
            Broken: it was not answered, and the session was given up.
        """
        wire = self._wire
        if wire is None:
            raise Broken
        try:
            wire.within(until)
            cursor = wire.send(text, values)
            row = cursor.fetchone()
            cursor.close()
            return row[0]
        except BaseException as error:
            # Whether it was done nobody knows, and a lock of which nobody knows would stay as long as the session.
            logger.warning("the session of locks at %s is given up: %s", self.label, error)
            self.end()
            if isinstance(error, Exception) and wire.diagnose(error) is not None:
                raise Broken from error
            raise

    def still_there(self, until: float) -> bool:
        """Return whether the session goes on: asked by a statement, so that the answer is the server's."""
        try:
            pid = self.ask("SELECT pg_backend_pid()", (), until)
        except Broken:
            return False
        if pid != self._pid:
            logger.error("%s: a pooler has put another server process behind this session", self.label)
            self.end()
            return False
        return True

    def end(self) -> None:
        """Give the session up: everybody is told, then the connection is closed. Called with the turn."""
        wire, self._wire = self._wire, None
        if wire is not None:
            lookout.forget(self._socket)
            self._ended()
            self._pool.drop(wire)

    def forked(self) -> None:
        """In a forked child: leave the parent's connection alone."""
        if self._wire is not None:
            inherit(self._wire)
        self._begin()

    def _closed(self, wire: Wire) -> None:
        """The server closed the connection; runs in the lookout's thread."""
        with self.turn:
            if self._wire is wire:
                logger.warning("the session of locks at %s was closed by the server", self.label)
                self.end()

    def _examine(self, wire: Wire) -> int:
        """Refuse a pooler, see to the sequence and the settings; return the pid of the server's process."""
        pid = self._value(wire, "SELECT pg_backend_pid()")
        if pid != wire.connection.info.backend_pid or pid != self._value(wire, "SELECT pg_backend_pid()"):
            raise Misuse(
                f"{self.label}: there is a connection pooler between, which may give the next statement to another "
                "session and leave locks behind in this one; connect to PostgreSQL itself, or use the row leases of "
                "'postgresql+psycopg://', which any pooler may carry"
            )
        if self._value(wire, f"SELECT to_regclass('{SEQUENCE}')::text") is None:
            start = int(self._value(wire, self._clock))  # above the fences of a sequence that was lost
            try:
                wire.send(f"CREATE SEQUENCE IF NOT EXISTS {SEQUENCE} START WITH {start}").close()
            except Exception as error:
                if wire.broken:
                    raise
                if self._value(wire, f"SELECT to_regclass('{SEQUENCE}')::text") is None:  # nobody else made it
                    raise Misuse(
                        f"{self.label}: fences need a sequence that could not be made ({error}); "
                        f"run: CREATE SEQUENCE {SEQUENCE} START WITH {start}"
                    ) from error
        for setting in _SETTINGS:
            wire.send(f"SET {setting}").close()
        return int(pid)

    @staticmethod
    def _value(wire: Wire, text: str) -> Any:
        cursor = wire.send(text)
        try:
            return cursor.fetchone()[0]
        finally:
            cursor.close()
