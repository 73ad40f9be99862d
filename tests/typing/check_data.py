"""Checked by mypy and pyright in strict mode, never run: what users' checkers see of transactions and sharding."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from backstay.sharding import AsyncShardedSession, Rule, ShardedSession, ShardMap
from backstay.txn import AsyncTransactionManager, Branch, Outcome, Tcc, TransactionManager


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    household_id: Mapped[int]


def reserve(branch: Branch, *, sku: str) -> None: ...


layout = ShardMap.slots({"s0": "sqlite:///s0.db"}, rules=[Rule(Order, key="household_id")])
action = Tcc("reserve", try_=reserve, confirm=reserve, cancel=reserve)

with ShardedSession(layout) as session:
    assert_type(session.scalars(select(Order)).all(), Sequence[Order])
    assert_type(session.shard_of(Order, 7), str)

with TransactionManager.connect("sqlite:///journal.db", actions=[action]) as tm:
    with tm.tcc(key="basket:7") as tx:
        tx.call(action, sku="honey")
        tx.call("http://payments/charges", amount="12.90")
    assert_type(tm.outcome("9f2c"), Outcome)
    tm.tcc("basket:7")  # type: ignore[call-arg]


async def use() -> None:
    async with AsyncShardedSession(layout) as session:
        assert_type((await session.scalars(select(Order))).all(), Sequence[Order])
    async with AsyncTransactionManager.connect("sqlite:///journal.db") as tm, tm.tcc() as tx:
        await tx.call("http://payments/charges", amount="12.90")
