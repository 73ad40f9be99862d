"""A lock that lives and dies with the caller's own transaction (E7).

The one mode in which data and lock fail together: what was written under the lock is committed while it is still held,
or not at all, and both end with the same connection. So there is no lease that could end before the write, and no
fence is needed. The price is that the lock cannot be given back before the transaction ends.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, scoped_session

from backstay.errors import Misuse, NotAcquired, Unavailable
from backstay.locks.claims import Resource
from backstay.locks.options import Duration, checked_name, checked_namespace, seconds

from .keys import key_of

__all__ = ["advisory_xact_lock", "async_advisory_xact_lock"]

_TRY = {
    False: text("SELECT pg_try_advisory_xact_lock(:key)"),
    True: text("SELECT pg_try_advisory_xact_lock_shared(:key)"),
}
_WAIT = {False: text("SELECT pg_advisory_xact_lock(:key)"), True: text("SELECT pg_advisory_xact_lock_shared(:key)")}
_BEFORE = text("SELECT current_setting('lock_timeout')")
_LIMIT = text("SELECT set_config('lock_timeout', :limit, true)").bindparams(bindparam("limit"))


def advisory_xact_lock(
    within: Connection | Session | scoped_session[Session],
    name: str,
    *,
    namespace: str = "default",
    wait: Duration | None = 5.0,
    shared: bool = False,
) -> None:
    """Lock a name until the transaction of this connection or session ends; PostgreSQL only.

    What is guaranteed: between this call and the end of the transaction nobody else has the lock, whatever dies, and a
    pooler in transaction mode changes nothing. The name is the same lock as `mutex(name)` of a store connected by
    `advisory+postgresql+psycopg://` with this namespace. What is not: a fence, or any word of the wait in telemetry.
    PostgreSQL serves in order of arrival. Where the time is up the transaction goes on as if nothing had been asked.

    Args:
        within: a connection or session of SQLAlchemy, in a transaction or about to begin one.
        name: 1 to 512 characters.
        namespace: as for `Locks.connect`.
        wait: seconds to wait for it; 0 tries once, None waits for ever.
        shared: lock it for reading: together with others who do so.

    Raises:
        NotAcquired: others held it all the time.
        Unavailable: the connection was lost, and the transaction with it.
        Misuse: another database, a connection that commits by itself, or an argument out of range.

    Source: criteria E5 and E7.
    """
    key, limit = key_of(checked_namespace(namespace), Resource(checked_name(name))), _checked_wait(wait)
    connection = within if isinstance(within, Connection) else within.connection()
    _lock(connection, name, key, limit, shared)


async def async_advisory_xact_lock(
    within: AsyncConnection | AsyncSession,
    name: str,
    *,
    namespace: str = "default",
    wait: Duration | None = 5.0,
    shared: bool = False,
) -> None:
    """Lock a name until the transaction of this connection or session ends; PostgreSQL only.

    What is guaranteed and what is not, the arguments and the errors: as for `advisory_xact_lock`.
    """
    key, limit = key_of(checked_namespace(namespace), Resource(checked_name(name))), _checked_wait(wait)
    connection = within if isinstance(within, AsyncConnection) else await within.connection()
    await connection.run_sync(_lock, name, key, limit, shared)


def _checked_wait(wait: Duration | None) -> float:
    limit = math.inf if wait is None else seconds(wait, "wait")
    if not limit >= 0.0:
        raise Misuse(f"wait must be >= 0 s, got {limit:g}; 0 tries once, None waits for ever")
    return limit


def _lock(connection: Connection, name: str, key: int, limit: float, shared: bool) -> None:
    if connection.dialect.name != "postgresql":
        raise Misuse(f"only PostgreSQL has advisory locks, and this is a connection to {connection.dialect.name}")
    if getattr(connection.connection.dbapi_connection, "autocommit", False) is True:
        raise Misuse(
            "this connection commits each statement by itself, so the lock would end at once; begin a transaction"
        )
    try:
        if limit == 0.0:
            won = bool(connection.scalar(_TRY[shared], {"key": key}))
        else:
            won = _wait(connection, key, limit, shared)
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, OperationalError):
            raise Unavailable(f"lock {name!r}: the connection was lost, and its transaction with it") from error
        raise
    if not won:
        raise NotAcquired(f"lock {name!r} is held by another transaction and did not come free in {limit:g} s")


def _wait(connection: Connection, key: int, limit: float, shared: bool) -> bool:
    """Wait in PostgreSQL's own queue; in a savepoint, since a wait that ends in vain would end the transaction."""
    before = connection.scalar(_BEFORE)
    milliseconds = 0 if math.isinf(limit) else max(1, math.ceil(limit * 1000.0))  # 0 is for ever
    savepoint = connection.begin_nested()
    try:
        connection.execute(_LIMIT, {"limit": str(milliseconds)})
        connection.execute(_WAIT[shared], {"key": key})
        connection.execute(_LIMIT, {"limit": before})
    except DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        if code != "55P03":  # lock_not_available
            raise
        savepoint.rollback()
        return False
    savepoint.commit()  # the lock outlives its savepoint
    return True
