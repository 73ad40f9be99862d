"""Locks as rows of a database: SQLite for one host, PostgreSQL, MariaDB or MySQL for many."""

from __future__ import annotations

from .backend import SqlBackend
from .source import SqlSource

__all__ = ["SqlBackend", "SqlSource"]
