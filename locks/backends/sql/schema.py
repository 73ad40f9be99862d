"""The tables of locks on SQL: one row a resource, one row a document; made at first use, or by your own migration.

    from backstay.locks.backends.sql.schema import metadata    # for Alembic, or metadata.create_all(engine)

A row is found by a hash of namespace, kind and name, so that no collation decides which lock is meant. `state` is what
counts; `owner` and `expires_at` say the same of the first holder, for people. Rows stay when a lock comes free, since
they keep its fence; those of locks that are never used again may be deleted once `busy_until` is long past.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from backstay.errors import Misuse
from backstay.locks.claims import Resource

__all__ = ["VERSION", "documents", "key_of", "locks", "metadata", "supported", "versions"]

VERSION = 1

_Json = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
_INNODB: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_charset": "utf8mb4",
}

metadata = MetaData()

versions = Table(
    "backstay_locks_schema",
    metadata,
    Column("component", String(40), primary_key=True),
    Column("version", Integer, nullable=False),
    **_INNODB,
)

locks = Table(
    "backstay_locks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("namespace", String(64), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("name", String(512), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", String(200), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("busy_until", BigInteger, nullable=False),  # microseconds since 1970, by the database's clock
    Column("version", BigInteger, nullable=False),
    Column("state", _Json, nullable=False),
    postgresql_with={"fillfactor": 50},  # rows change often; with room beside them no index has to
    **_INNODB,
)

documents = Table(
    "backstay_lock_documents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("namespace", String(64), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("name", String(512), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),  # as busy_until; 0 for never
    Column("text", _Json, nullable=False),
    **_INNODB,
)


def key_of(space: str, resource: Resource) -> str:
    """Return the primary key of a resource's row."""
    return hashlib.sha256(f"{space}\0{resource.kind}\0{resource.name}".encode()).hexdigest()


def supported(dialect: Dialect) -> None:
    """Refuse a database that the locks were never run on."""
    if dialect.name not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise Misuse(f"no locks on {dialect.name!r}; use SQLite, PostgreSQL, MariaDB or MySQL")
