"""PostgreSQL's advisory locks as a store, in both makes: `advisory+postgresql+psycopg://user@host/database`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime
from backstay.errors import Misuse
from backstay.locks.backends.sql.engines import connecting
from backstay.locks.backends.sql.pool import Pool
from backstay.locks.levels import Level

from .backend import AdvisoryBackend
from .session import Session
from .turns import AsyncioTurns, BlockingTurns, Turns

__all__ = ["AdvisorySource"]

PATIENCE = 2.0  # s for one statement; a session that takes longer to answer is given up

_BLOCKING, _ASYNCIO = BlockingRuntime(), AsyncioRuntime()


class AdvisorySource:
    """A PostgreSQL server; each backend has one connection of its own."""

    kind = AdvisoryBackend.kind
    guarantee: Level = "fenced"

    def __init__(self, given: str | URL | Engine | AsyncEngine, space: str, answer_within: float | None) -> None:
        self._space, self._patience = space, answer_within or PATIENCE
        self._dialect, self._label, self._connect = connecting(given, self._patience)
        if self._dialect.name != "postgresql":
            raise Misuse(f"{self._label}: only PostgreSQL has advisory locks; leave 'advisory+' out for row leases")

    def _session(self, ended: Callable[[], None]) -> Session:
        return Session(Pool(self._label, self._connect, 1), self._dialect, ended)

    def blocking(self) -> AdvisoryBackend:
        """Return a backend for threads."""

        def session(ended: Callable[[], None]) -> tuple[Session, Turns]:
            made = self._session(ended)
            return made, BlockingTurns(made, self._patience)

        return AdvisoryBackend(_BLOCKING, session, self._space, self._patience, _at_once)

    def asynchronous(self) -> AdvisoryBackend:
        """Return a backend for the running event loop."""
        loop = asyncio.get_running_loop()

        def session(ended: Callable[[], None]) -> tuple[Session, Turns]:
            made = self._session(ended)
            return made, AsyncioTurns(made, self._patience)

        def in_loop(told: Callable[[], None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(told)

        return AdvisoryBackend(_ASYNCIO, session, self._space, self._patience, in_loop)


def _at_once(told: Callable[[], None]) -> None:
    told()
