"""The database: SQLite for one host, PostgreSQL for several replicas."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask

from .schema import migrate

__all__ = ["Database"]

_WRITES = "backstay_writes"


class Database:
    """Transactions on one engine, which may be used by any number of threads.

    Args:
        url: `sqlite:///switches.db`, `postgresql+psycopg://...`, or an `Engine` of one of the two.

    Raises:
        Misuse: it is neither, or was written by a newer Backstay.
        Unavailable: the database does not answer.
    """

    def __init__(self, url: str | Engine) -> None:
        engine = url if isinstance(url, Engine) else _engine(url)
        if engine.dialect.name not in ("sqlite", "postgresql"):
            raise Misuse(f"no switch service on {engine.dialect.name!r}; use sqlite:///... or postgresql+psycopg://...")
        self.engine = engine
        self._owned = not isinstance(url, Engine)
        self._writing = engine.execution_options(**{_WRITES: True})
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _connected)
            event.listen(engine, "begin", _begun)
        with self.write() as connection:
            migrate(connection, signing_key=secrets.token_hex(32))

    @contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """Give a connection that sees one moment.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _not_done(error) from error

    @contextmanager
    def write(self) -> Generator[Connection, None, None]:
        """Give a connection whose work is committed at the end of the block.

        Raises:
            Unavailable: the database did not answer, and nothing was written.
            OutcomeUnknown: it did not answer the commit.
        """
        try:
            with self._writing.connect() as connection:
                transaction = connection.begin()
                try:
                    yield connection
                except BaseException:
                    transaction.rollback()
                    raise
                try:
                    transaction.commit()
                except SQLAlchemyError as error:
                    raise OutcomeUnknown(
                        "the database did not answer a commit: look at the version before you repeat it"
                    ) from error
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise _not_done(error) from error

    def close(self) -> None:
        """Close idle connections, unless the engine was handed over."""
        if self._owned:
            self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        found = make_url(url)
        if found.get_backend_name() == "sqlite":
            if found.database in (None, "", ":memory:"):
                raise Misuse("switches must outlive the process: name a file, as in sqlite:///switches.db")
            return create_engine(found, connect_args={"timeout": 10.0}, hide_parameters=True)
        return create_engine(found, pool_pre_ping=True, pool_size=5, max_overflow=10, hide_parameters=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise Misuse(
            f"{mask(url)!r} is no database of switches: {error}; use sqlite:///switches.db or postgresql+psycopg://..."
        ) from error


def _connected(connection: Any, record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=10000")


def _begun(connection: Connection) -> None:
    # A transaction that reads first and then writes would fail where another wrote in between.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _not_done(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(f"the switch service's database did not answer, nothing was written: {mask(str(error))[:500]}")
