"""The database's clock as an SQL expression: milliseconds since 1970, the same meaning on every engine."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["NEVER", "DatabaseNow", "milliseconds"]

NEVER = 2**53
"""Milliseconds: a due time that does not come."""


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, `NEVER` for an infinite time."""
    return NEVER if math.isinf(seconds) else round(seconds * 1000)


class DatabaseNow(FunctionElement[int]):
    """Milliseconds since 1970 by the clock of the database server (of the host, for SQLite)."""

    inherit_cache = True
    type = BigInteger()


@compiles(DatabaseNow, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(DatabaseNow, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # Not now(): that is the start of the transaction, which may have waited for a row lock since.
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(DatabaseNow, "mysql")
@compiles(DatabaseNow, "mariadb")
def _mysql(element: Any, compiler: Any, **kw: Any) -> str:
    # In UTC: UNIX_TIMESTAMP(NOW()) is ambiguous for an hour when the session's zone leaves summer time.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000)"
