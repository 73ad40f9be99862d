"""Locks in a SQLite file whose clock is the test's: the shipped backend, over an engine that was handed over.

SQLite lets a connection replace a function of its own, and `julianday('now')` is where the backend takes the time from.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event

from backstay.locks.backends.sql import SqlBackend, SqlSource

EPOCH = 2440587.5  # 1970 as a Julian day


class Clock:
    """The database's clock, seconds since 1970."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now


def engine(path: Path, clock: Clock) -> Engine:
    made = create_engine(f"sqlite:///{path}/locks.db")

    @event.listens_for(made, "connect")
    def connect(connection: sqlite3.Connection, record: Any) -> None:
        connection.create_function("julianday", 1, lambda _: EPOCH + clock.now / 86400.0)

    del connect
    return made


def backend(path: Path, clock: Clock, space: str = "unit") -> SqlBackend:
    return SqlSource(engine(path, clock), space, None).blocking()
