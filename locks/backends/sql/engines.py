"""From a URL or an engine of the application to a way of making connections of our own.

Of an `Engine` its way of connecting is used (its URL, `connect_args`, `creator` and listeners), never its pool. Of an
`AsyncEngine`, and of an engine on a driver that knows no deadline, only the URL is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Dialect, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from backstay.errors import Misuse
from backstay.url import mask, require

from .schema import supported
from .wires import Wire, dressed

__all__ = ["Connecting", "connecting"]

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_PACKAGES = {"psycopg": ("psycopg", "postgresql"), "pymysql": ("pymysql", "mysql")}

Connecting = tuple[Dialect, str, Callable[[], Wire]]
"""The dialect, what errors call the database, and what makes a connection."""


def connecting(given: str | URL | Engine | AsyncEngine, patience: float) -> Connecting:
    """Return how to connect.

    Raises:
        Misuse: no database URL, a database that is not supported, or SQLite in memory.
        MissingExtra: the driver is not installed.
    """
    if isinstance(given, Engine):
        supported(given.dialect)
        if given.dialect.driver == _DRIVERS[given.dialect.name]:
            _kept(given.url)
            # Its connections would be taken from the application; a pool like it makes others.
            return _of(given, given.pool.recreate())
        given = given.url
    elif isinstance(given, AsyncEngine):
        given = given.url
    url = _url(given)
    plain: dict[str, Any] = {"use_native_hstore": False} if url.get_backend_name() == "postgresql" else {}
    engine = create_engine(url, poolclass=NullPool, connect_args=_limits(url, patience), **plain)
    return _of(engine, engine.pool)


def _of(engine: Engine, pool: Any) -> Connecting:
    name = engine.dialect.name

    def connect() -> Wire:
        lent = pool.connect()
        connection = lent.dbapi_connection
        lent.detach()  # ours from now on
        try:
            return dressed(name, connection)
        except BaseException:
            connection.close()
            raise

    return engine.dialect, mask(engine.url.render_as_string()), connect


def _url(given: str | URL) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise Misuse(
            f"{mask(str(given))!r} is no database URL; expected something like 'sqlite:///locks.db' "
            "or 'postgresql+psycopg://user@host/database'"
        ) from None
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise Misuse(f"no locks on {backend!r}; use SQLite, PostgreSQL, MariaDB or MySQL")
    driver = _DRIVERS[backend]
    if driver in _PACKAGES:
        require(*_PACKAGES[driver])
    _kept(url)
    return url.set(drivername=f"{backend}+{driver}")


def _kept(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and (url.database in (None, "", ":memory:") or "mode" in url.query):
        raise Misuse(
            "SQLite in memory is seen by nobody else; name a file as in 'sqlite:///locks.db', or use memory://"
        )


def _limits(url: URL, patience: float) -> dict[str, Any]:
    """Return what ends an attempt to connect that nobody waits for any more."""
    if url.get_backend_name() == "sqlite" or "connect_timeout" in url.query:
        return {}
    return {"connect_timeout": max(2, math.ceil(patience))}
