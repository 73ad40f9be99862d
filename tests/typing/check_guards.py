"""Checked by mypy and pyright in strict mode, never run: guards keep the types of what they guard."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from backstay.locks import AsyncLease, Lease
from backstay.locks.guards import AsyncFences, Fenced, Fences, FencingToken, MemoryFences, headers
from backstay.locks.guards.celery import require_fence as task_fence
from backstay.locks.guards.fastapi import require_fence as path_fence
from backstay.locks.guards.flask import require_fence as view_fence
from backstay.locks.guards.redis import AsyncFencedKeys, FencedKeys
from backstay.locks.guards.sqlalchemy import AsyncSqlFences, FencedRow, SqlFences, TableGuard, fenced


class Base(DeclarativeBase):
    pass


class Order(FencedRow, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@view_fence(MemoryFences(), "order:{order_id}")
def pay(order_id: int, *, tip: float = 0.0) -> str:
    return f"{order_id} {tip}"


@task_fence(MemoryFences(), "order:{order_id}")
def ship(order_id: int) -> int:
    return order_id


path_fence(MemoryFences(), "order:{order_id}")


def stores(sql: SqlFences, keys: FencedKeys, slow: AsyncSqlFences, slow_keys: AsyncFencedKeys) -> None:
    blocking: list[Fences] = [MemoryFences(), sql, keys]
    waiting: list[AsyncFences] = [slow, slow_keys]
    path_fence(blocking[0], "a")
    path_fence(waiting[0], "a")
    view_fence(slow, "a")  # type: ignore[arg-type]


def plain(session: Session, lease: Lease) -> None:
    assert_type(pay(1, tip=2.0), str)
    assert_type(ship(1), int)
    pay("1")  # type: ignore[arg-type]
    assert_type(headers(lease), dict[str, str])
    holder: Fenced = lease
    with fenced(session, holder) as token:
        assert_type(token, FencingToken)
        assert_type(session.get_one(Order, 1).fence, int)
    assert_type(TableGuard(Order).update(session, lease, Order.id == 1, values={}), int)


async def asynchronous(session: AsyncSession, lease: AsyncLease) -> None:
    async with fenced(session, lease) as token:
        assert_type(token, FencingToken)
    with fenced(session, lease):  # type: ignore[attr-defined]
        pass
