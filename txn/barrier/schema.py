"""The barrier's table, one in each database that holds business rows of a branch."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, Text, inspect
from sqlalchemy.dialects.mysql import MEDIUMTEXT, VARCHAR
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["barrier", "create", "metadata"]

_ID = String(64).with_variant(VARCHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")

metadata = MetaData()
"""For applications that make their tables by `create_all` or Alembic: add this metadata to theirs."""

barrier = Table(
    "backstay_barrier",
    metadata,
    # Two rows a branch: phase "try", by whoever came first (try, or a cancel that must keep a late try out),
    # and phase "end", by confirm or cancel. The natural key is the clustered one: with a surrogate key InnoDB
    # deadlocks on its unique index.
    Column("gtrid", _ID, primary_key=True),
    Column("branch", _ID, primary_key=True),
    Column("phase", String(8), primary_key=True),
    Column("entered_by", String(8), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("result", Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=True),
    Column("created_ms", BigInteger, nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


def create(connection: Connection) -> None:
    """Create the table if it is not there; safe from any number of processes."""
    if inspect(connection).has_table(barrier.name):
        return
    try:
        with connection.begin_nested():
            metadata.create_all(connection, checkfirst=False)
    except SQLAlchemyError:
        if not inspect(connection).has_table(barrier.name):  # else another process was quicker
            raise
