"""The three tables that stand beside the service's own, in its database."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, UniqueConstraint

__all__ = ["KEY", "OPERATION", "TURN", "metadata"]

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up in INTEGER only
_TEXT = String(200).with_variant(String(200, collation="utf8mb4_bin"), "mysql", "mariadb")  # 'A' is not 'a'

TURN = Table(
    "backstay_write_behind_turn",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("phase", String(20), nullable=False),
    Column("fence", BigInteger, nullable=False),
)
"""Who may change balances now: the database, or the cache of turn `fence`."""

KEY = Table(
    "backstay_write_behind_key",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("key", _TEXT, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
)
"""The last operation of each key that is applied, and the turn for which its balance was loaded."""

OPERATION = Table(
    "backstay_write_behind_operation",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("name", _TEXT, nullable=False),
    Column("op", _TEXT, nullable=False),
    Column("key", _TEXT, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("left_over", BigInteger, nullable=False),
    UniqueConstraint("name", "op", name="backstay_write_behind_operation_once"),
)
"""Operations that are applied: the unique id is written in the transaction that changes the balance."""
