"""The database's clock as an SQL expression: microseconds since 1970, the same meaning on every engine."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["DatabaseMicroseconds"]


class DatabaseMicroseconds(FunctionElement[int]):
    """Microseconds since 1970 by the clock of the database server (of the host, for SQLite, in milliseconds)."""

    inherit_cache = True
    type = BigInteger()


@compiles(DatabaseMicroseconds, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "(CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(DatabaseMicroseconds, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


@compiles(DatabaseMicroseconds, "mysql")
@compiles(DatabaseMicroseconds, "mariadb")
def _mysql(element: Any, compiler: Any, **kw: Any) -> str:
    # In UTC: UNIX_TIMESTAMP(NOW()) is ambiguous for an hour when the session's zone leaves summer time.
    return "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
