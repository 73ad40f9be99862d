"""Which connection the barrier writes through: the one of the business transaction, and no other."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from backstay.errors import Misuse

__all__ = ["AsyncHandle", "Handle", "connection_of", "sync_of"]

Handle: TypeAlias = "Session | Connection"
AsyncHandle: TypeAlias = "AsyncSession | AsyncConnection"


def connection_of(handle: Handle, engine: Engine | None = None) -> Connection:
    """Return the connection that carries the transaction of `handle`.

    Args:
        handle: a Session or Connection; a Connection must have begun.
        engine: the engine that the barrier is bound to, if it is.

    Raises:
        Misuse: the handle belongs to another engine, a Session has several engines and none is named, or the
            connection commits every statement by itself.
    """
    if isinstance(handle, Connection):
        connection = handle
    elif engine is not None and not _single(handle):
        connection = handle.connection(bind_arguments={"bind": engine})
    elif _single(handle):
        connection = handle.connection()
    else:
        raise Misuse(
            "this Session spreads over several engines; hand the barrier the Connection of the one that holds the "
            "business rows, or bind the barrier to its engine"
        )
    if engine is not None and connection.engine.pool is not engine.pool:
        raise Misuse(
            f"the barrier is bound to {engine.url!r}, the business transaction runs on {connection.engine.url!r}; "
            "the barrier must be in the database of the business rows"
        )
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise Misuse("the barrier needs a transaction; this connection is in AUTOCOMMIT mode")
    if not connection.in_transaction():
        raise Misuse("the barrier needs a transaction; begin one first: `with engine.begin() as connection:`")
    return connection


def _single(session: Session) -> bool:
    """Return whether every statement of the session goes to one engine."""
    plain = type(session).get_bind is Session.get_bind
    # The name is private and the same since SQLAlchemy 0.5; a contract test pins it.
    return plain and session.bind is not None and not getattr(session, "_Session__binds", None)


def sync_of(handle: AsyncHandle) -> Handle:
    """Return the blocking object inside an asyncio one, for use within `run_sync`."""
    if isinstance(handle, AsyncSession):
        return handle.sync_session
    if handle.sync_connection is None:
        raise Misuse("the barrier needs a transaction; this AsyncConnection was not started")
    return handle.sync_connection
