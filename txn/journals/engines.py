"""Engines for the journal: from a URL, or from an engine that the application already has.

On SQLite the journal always makes an engine of its own, because it needs settings that an application's engine
would not want: WAL, a full sync at each commit, transactions that begin as writers, and time to wait for other
processes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from backstay.errors import Misuse
from backstay.url import mask, require

from .schema import supported

__all__ = ["READ", "async_engine", "engine"]

READ = "backstay_read"
"""Execution option of a connection that only reads; on SQLite it begins without the write lock."""

_BUSY_MS = 15_000
_LOCK_MS = 10_000
_SYNC = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_ASYNC = {
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg2": "postgresql+psycopg",
}
_PACKAGES = {
    "psycopg": ("psycopg", "postgresql"),
    "pymysql": ("pymysql", "mysql"),
}


def _url(given: str | URL, drivers: dict[str, str]) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise Misuse(
            f"{mask(str(given))!r} is no database URL; expected something like 'sqlite:///journal.db' "
            "or 'postgresql+psycopg://user@host/database'"
        ) from None
    url = url.set(drivername=drivers.get(url.drivername, url.drivername))
    if url.get_backend_name() not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise Misuse(f"no journal on {url.get_backend_name()!r}; use SQLite, PostgreSQL, MariaDB or MySQL")
    if url.get_backend_name() == "sqlite" and (url.database in (None, "", ":memory:") or "mode" in url.query):
        raise Misuse("a journal in memory forgets what it promised; name a file, such as 'sqlite:///journal.db'")
    module, extra = _PACKAGES.get(url.drivername.partition("+")[2], (None, None))
    if module is not None and extra is not None:
        require(module, extra)
    return url


def _backend(given: str | URL) -> str:
    """Return the name of the database that a URL is for, or an empty text for no URL."""
    return str(given).partition(":")[0].partition("+")[0]


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        # One connection writes, the other reads; more writers would only wait for each other inside SQLite,
        # which waits by sleeping.
        return {"pool_size": 2, "max_overflow": 0, "pool_timeout": 30}
    # MariaDB's default, REPEATABLE READ, would let a decision be read from an old snapshot.
    return {"pool_size": 10, "max_overflow": 20, "pool_pre_ping": True, "isolation_level": "READ COMMITTED"}


def _set_up(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        _durable(engine)
    else:
        _patient(engine)


def _patient(engine: Engine) -> None:
    """Bound the wait for row locks: a coordinator that was stopped inside its transaction must not stop all others."""
    statement = {
        "postgresql": f"SET lock_timeout = {_LOCK_MS}",
        "mysql": f"SET SESSION innodb_lock_wait_timeout = {_LOCK_MS // 1000}",
        "mariadb": f"SET SESSION innodb_lock_wait_timeout = {_LOCK_MS // 1000}",
    }[engine.dialect.name]

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        connection.commit()  # PostgreSQL takes a SET back with its transaction

    del connect  # kept by the engine


def _durable(engine: Engine) -> None:
    """Set up SQLite: every commit reaches the disk, and writers queue instead of failing."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is deferred and would deadlock two writers
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READ, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    del connect, begin  # kept by the engine


def engine(given: str | URL | Engine) -> Engine:
    """Return a blocking engine for a URL or engine.

    Raises:
        Misuse: no database URL, a database that is not supported, SQLite in memory, or an AsyncEngine.
        MissingExtra: the driver is not installed.
    """
    if isinstance(given, AsyncEngine):
        raise Misuse("TransactionManager needs an Engine; for an AsyncEngine use AsyncTransactionManager")
    if isinstance(given, Engine):
        supported(given.dialect)
        if given.dialect.name != "sqlite":
            return given
        given = given.url
    url = _url(given, _SYNC)
    made = create_engine(url, **_options(url))
    _set_up(made)
    return made


def async_engine(given: str | URL | AsyncEngine) -> AsyncEngine | Engine:
    """Return an asyncio engine for a URL or engine; `postgresql://` gets an asyncio driver.

    For SQLite it is a blocking engine, to be used in threads: an asyncio driver would do the same, with a
    change of threads for every statement.

    Raises:
        Misuse: no database URL, a database that is not supported, SQLite in memory, or a blocking Engine.
        MissingExtra: the driver is not installed.
    """
    if isinstance(given, Engine):
        raise Misuse("AsyncTransactionManager needs an AsyncEngine; for an Engine use TransactionManager")
    if isinstance(given, AsyncEngine):
        supported(given.dialect)
        if given.dialect.name != "sqlite":
            return given
        given = given.url
    if _backend(given) == "sqlite":
        return engine(given)
    url = _url(given, _ASYNC)
    try:
        made = create_async_engine(url, **_options(url))
    except InvalidRequestError:
        raise Misuse(f"{url.drivername!r} is no asyncio driver; name one in the journal's URL") from None
    _set_up(made.sync_engine)
    return made
