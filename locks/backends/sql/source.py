"""A database as a store of locks, in both makes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.locks.levels import Level

from .backend import SqlBackend
from .engines import connecting
from .exchange import AsyncioExchanges, BlockingExchanges, Database
from .pool import Pool

__all__ = ["SqlSource"]

PATIENCE = 2.0  # s for one exchange, unless the application says otherwise
CONNECTIONS = 5  # at most, for each store that a process connects to; a row changes in one at a time anyway

_BLOCKING, _ASYNCIO = BlockingRuntime(), AsyncioRuntime()


class SqlSource:
    """A database; both makes share its connections."""

    guarantee: Level = "fenced"

    def __init__(self, given: str | URL | Engine | AsyncEngine, space: str, answer_within: float | None) -> None:
        self._space, self._patience = space, answer_within or PATIENCE
        dialect, self._label, connect = connecting(given, self._patience)
        self.kind = dialect.name
        # SQLite has one writer, and those who come second wait there by sleeping: here they wait for the connection.
        self._size = 1 if dialect.name == "sqlite" else CONNECTIONS
        self._database = Database(Pool(self._label, connect, self._size), dialect)

    def blocking(self) -> SqlBackend:
        """Return a backend for threads."""
        return self._backend(_BLOCKING, BlockingExchanges(self._database))

    def asynchronous(self) -> SqlBackend:
        """Return a backend for the running event loop."""
        return self._backend(_ASYNCIO, AsyncioExchanges(self._database, self._size))

    def _backend(self, runtime: Any, exchanges: Any) -> SqlBackend:
        return SqlBackend(runtime, exchanges, self._space, self.kind, self._label, self._patience)
