"""Guards in SQL databases by SQLAlchemy: fenced rows of the ORM, fenced tables of Core, fences in a table."""

from __future__ import annotations

from backstay.url import require

require("sqlalchemy", "sql")

from .column import FenceNumber, Unfenced  # noqa: E402
from .fences import AsyncSqlFences, SqlFences, metadata  # noqa: E402
from .row import FencedRow  # noqa: E402
from .session import fenced  # noqa: E402
from .table import AsyncTableGuard, TableGuard  # noqa: E402

__all__ = [
    "AsyncSqlFences",
    "AsyncTableGuard",
    "FenceNumber",
    "FencedRow",
    "SqlFences",
    "TableGuard",
    "Unfenced",
    "fenced",
    "metadata",
]
