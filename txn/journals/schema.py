"""The journal's tables, their version, and how one version becomes the next.

Times are milliseconds by the database's clock. Texts that are compared are ASCII ids made here, so the
engine's collation does not matter, except for idempotency keys: those are stored as given and compared exactly.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT, VARCHAR

from backstay.errors import Misuse

__all__ = ["VERSION", "branches", "coordinators", "metadata", "migrate", "supported", "transactions"]

VERSION = 1

_Json = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
_INNODB: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_charset": "utf8mb4",
}


def _id(length: int) -> String:
    """Return a type for texts that are compared byte by byte, on MariaDB too."""
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


metadata = MetaData()

versions = Table(
    "backstay_txn_schema",
    metadata,
    Column("component", String(40), primary_key=True),
    Column("version", Integer, nullable=False),
    **_INNODB,
)

coordinators = Table(
    "backstay_txn_coordinator",
    metadata,
    Column("owner", _id(200), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    **_INNODB,
)

transactions = Table(
    "backstay_txn_transaction",
    metadata,
    Column("gtrid", _id(64), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("idempotency_key", _id(200), nullable=True, unique=True),
    Column("state", String(20), nullable=False),
    Column("owner", _id(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("branches", Integer, nullable=False),
    Column("begun_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
    Column("reason", String(1000), nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("result", _Json, nullable=True),
    Index("backstay_txn_transaction_state", "state", "begun_ms"),
    **_INNODB,
)

branches = Table(
    "backstay_txn_branch",
    metadata,
    Column("gtrid", _id(64), ForeignKey(transactions.c.gtrid, ondelete="CASCADE"), primary_key=True),
    Column("branch", _id(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("address", String(1000), nullable=False),
    Column("payload", _Json, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", String(1000), nullable=True),
    **_INNODB,
)


def migrate(connection: Connection) -> None:
    """Bring the tables to `VERSION`; any number of processes may do this at the same time.

    Raises:
        Misuse: the journal was written by a newer Backstay.
    """
    if connection.dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS is not safe against itself on PostgreSQL.
        connection.execute(text("SELECT pg_advisory_xact_lock(7310578201)"))
    versions.create(connection, checkfirst=True)
    found = connection.scalar(select(versions.c.version).where(versions.c.component == "journal"))
    if found is None:
        metadata.create_all(connection, checkfirst=True)
        connection.execute(insert(versions).values(component="journal", version=VERSION))
    elif found > VERSION:
        raise Misuse(
            f"the journal has schema version {found}, this Backstay knows {VERSION}; "
            "upgrade Backstay before it writes to this journal"
        )


def supported(dialect: Dialect) -> None:
    """Refuse a database that the journal was never run on."""
    if dialect.name not in ("sqlite", "postgresql", "mysql", "mariadb"):
        raise Misuse(f"no journal on {dialect.name!r}; use SQLite, PostgreSQL, MariaDB or MySQL")
