"""The service's tables and their version. Times are milliseconds since 1970 by the service's wall clock."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
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

from backstay.errors import Misuse

__all__ = [
    "VERSION",
    "audit",
    "instances",
    "level_changes",
    "metadata",
    "migrate",
    "scopes",
    "sessions",
    "state",
    "tokens",
    "versions",
]

VERSION = 1

metadata = MetaData()

schemas = Table(
    "backstay_switch_schema",
    metadata,
    Column("component", String(40), primary_key=True),
    Column("version", Integer, nullable=False),
)

state = Table(
    "backstay_switch_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("changes", BigInteger, nullable=False),
    Column("started", Integer, nullable=False),
    Column("signing_key", String(64), nullable=False),
)
"""One row. `changes` grows with each change of a document or a token: replicas look at nothing else."""

scopes = Table(
    "backstay_switch_scope",
    metadata,
    Column("scope", String(130), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

versions = Table(
    "backstay_switch_version",
    metadata,
    Column("scope", String(130), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(200), nullable=False),
    Column("why", String(500), nullable=False),
    Column("action", String(20), nullable=False),
    Column("changes", Text, nullable=False),
    Column("document", Text, nullable=False),
)

_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up INTEGER keys only

audit = Table(
    "backstay_switch_audit",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(200), nullable=False),
    Column("address", String(100), nullable=False),
    Column("action", String(40), nullable=False),
    Column("scope", String(130), nullable=False),
    Column("outcome", String(10), nullable=False),
    Column("why", String(500), nullable=False),
    Column("detail", Text, nullable=False),
    Index("backstay_switch_audit_outcome", "outcome", "id"),
)

tokens = Table(
    "backstay_switch_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("role", String(10), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_ms", BigInteger, nullable=True),
    Column("revoked_ms", BigInteger, nullable=True),
)

sessions = Table(
    "backstay_switch_session",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("token_id", String(16), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index("backstay_switch_session_expires", "expires_ms"),
)

instances = Table(
    "backstay_switch_instance",
    metadata,
    Column("scope", String(130), primary_key=True),
    Column("instance", String(200), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("applied_at", String(40), nullable=False),
    Column("state", String(20), nullable=False),
    Column("levels", Text, nullable=False),
    Column("signals", Text, nullable=False),
    Column("delay_s", Float, nullable=True),
    Column("seen_ms", BigInteger, nullable=False),
)

level_changes = Table(
    "backstay_switch_level",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("scope", String(130), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("instance", String(200), nullable=False),
    Column("resource", String(100), nullable=False),
    Column("level", String(20), nullable=False),
    Column("cause", String(500), nullable=False),
    Column("sample", Text, nullable=False),
    Index("backstay_switch_level_scope", "scope", "at_ms"),
)


def migrate(connection: Connection, *, signing_key: str) -> None:
    """Bring the tables to `VERSION`; any number of replicas may do this at the same time.

    Args:
        connection: in a transaction that may write.
        signing_key: what a new database signs with.

    Raises:
        Misuse: the database was written by a newer Backstay.
    """
    if connection.dialect.name == "postgresql":
        # CREATE TABLE IF NOT EXISTS is not safe against itself on PostgreSQL.
        connection.execute(text("SELECT pg_advisory_xact_lock(7310578202)"))
    schemas.create(connection, checkfirst=True)
    found = connection.scalar(select(schemas.c.version).where(schemas.c.component == "switches"))
    if found is None:
        metadata.create_all(connection, checkfirst=True)
        connection.execute(insert(schemas).values(component="switches", version=VERSION))
        connection.execute(insert(state).values(id=1, changes=0, started=0, signing_key=signing_key))
    elif found > VERSION:
        raise Misuse(
            f"the switch service's database has schema version {found}, this Backstay knows {VERSION}; "
            "upgrade Backstay before it writes there"
        )
