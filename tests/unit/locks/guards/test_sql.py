"""Guarded rows and tables on SQLite, in threads and in asyncio, and what is refused when a class is made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, declared_attr, mapped_column

from backstay.errors import Misuse
from backstay.locks import Locks
from backstay.locks.guards import FencingToken, StaleFence
from backstay.locks.guards.sqlalchemy import (
    AsyncSqlFences,
    AsyncTableGuard,
    FencedRow,
    FenceNumber,
    SqlFences,
    TableGuard,
    fenced,
)
from unit.locks.guards.rows import Base, Order, SqlGuards, orders, token


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/guarded.db")
    yield engine
    engine.dispose()


class TestSqlite(SqlGuards):
    def test_an_upsert_of_the_orm_is_sent_to_the_guard(self, engine: Engine) -> None:
        with Session(engine) as session, fenced(session, token(12)):
            with pytest.raises(Misuse, match="TableGuard"):
                session.execute(sqlite_insert(Order).values(id=1, state="x").on_conflict_do_nothing())


def test_F1_F6_the_lease_of_a_lock_is_the_fence(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Locks.connect("memory://guards", namespace="guards") as locks:
        first = locks.mutex("order:1", ttl=30).acquire()
        with Session(engine) as session, fenced(session, first):
            session.add(Order(id=1, state="new"))
            session.commit()
        first.release()
        with locks.mutex("order:1") as second, Session(engine) as session, fenced(session, second):
            session.get_one(Order, 1).state = "paid"
            session.commit()
        assert second.fence > first.fence
        with Session(engine) as session, pytest.raises(StaleFence) as stale, fenced(session, first):
            session.get_one(Order, 1).state = "late"
        assert stale.value.highest == second.fence


def test_asyncio_has_the_same_guards(tmp_path: Path) -> None:
    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/guarded.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        guard, fences = AsyncTableGuard(Order), AsyncSqlFences(engine)
        async with AsyncSession(engine) as session, fenced(session, token(5)):
            session.add_all([Order(id=1, state="new"), Order(id=2, state="new")])
            await session.commit()
        async with AsyncSession(engine) as session, fenced(session, token(7)):
            (await session.get_one(Order, 1)).state = "paid"
        async with AsyncSession(engine) as session:
            async with fenced(session, token(7)):
                (await session.get_one(Order, 1)).state = "paid"
                await session.execute(update(Order).where(Order.id == 2).values(state="paid"))
            await session.commit()
        for attempt in range(3):
            with pytest.raises(StaleFence):
                async with AsyncSession(engine) as session, fenced(session, token(6)):
                    if attempt == 0:
                        (await session.get_one(Order, 1)).state = "late"
                    elif attempt == 1:
                        await session.execute(update(Order).values(state="late"))
                    else:
                        await guard.update(session, token(6), orders.c.id == 2, values={"state": "late"})
        async with engine.begin() as connection:
            assert await guard.claim(connection, token(8), orders.c.id == 1) == 1
            await guard.upsert(connection, token(8), key={"id": 3}, values={"state": "new", "cents": 0})
            assert await guard.delete(connection, token(8), orders.c.id == 2) == 1
            rows = await connection.execute(select(orders.c.id, orders.c.state, orders.c.fence))
            assert rows.all() == [(1, "paid", 8), (3, "new", 8)]
        await fences.admit(token(5))
        async with AsyncSession(engine) as session:
            await fences.admit_within(session, token(6))
            await session.commit()
        with pytest.raises(StaleFence):
            await fences.admit(token(5))
        with pytest.raises(Misuse, match="AsyncSession"):
            await guard.claim(engine, token(9), orders.c.id == 1)  # type: ignore[arg-type]
        await engine.dispose()

    asyncio.run(main())


def test_an_asyncio_block_that_fails_writes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/guarded.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            with pytest.raises(LookupError):
                async with fenced(session, token(5)):
                    session.add(Order(id=1, state="new"))
                    raise LookupError
            assert session.sync_session.info == {}
            session.expunge_all()
            assert (await session.execute(select(orders))).all() == []
        await engine.dispose()

    asyncio.run(main())


def test_a_class_that_hides_its_fence_is_refused_when_it_is_mapped() -> None:
    class Other(DeclarativeBase):
        pass

    class Hidden(FencedRow, Other):
        __tablename__ = "hidden"
        id: Mapped[int] = mapped_column(primary_key=True)

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:
            return {}

    with pytest.raises(Misuse, match="hide the fence"):
        configure_mappers()
    Other.registry.dispose()


def test_a_class_whose_refused_deletes_would_go_unnoticed_is_refused() -> None:
    class Other(DeclarativeBase):
        pass

    class Careless(FencedRow, Other):
        __tablename__ = "careless"
        id: Mapped[int] = mapped_column(primary_key=True)
        __mapper_args__ = {"confirm_deleted_rows": False}

    with pytest.raises(Misuse, match="unnoticed"):
        configure_mappers()
    Other.registry.dispose()


def test_what_is_no_table_no_session_and_no_engine_is_refused() -> None:
    bare = Table("bare", MetaData(), Column("id", Integer, primary_key=True))
    for call in (
        lambda: TableGuard("orders"),
        lambda: TableGuard(bare),
        lambda: fenced("session", token(1)),  # type: ignore[call-overload]
        lambda: SqlFences("sqlite://"),  # type: ignore[arg-type]
        lambda: AsyncSqlFences("sqlite://"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Misuse):
            call()
    for fence in (0, -1, 2**63, True, "7", None):
        with pytest.raises(Misuse):
            FencingToken(name="x", fence=fence)  # type: ignore[arg-type]
    with pytest.raises(Misuse):
        FencingToken(name="", fence=1)


def test_the_highest_fence_that_a_bigint_holds_is_kept_exactly(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    for fence in (2**53 + 1, 2**63 - 1):
        with engine.begin() as connection:
            TableGuard(Order).upsert(connection, token(fence), key={"id": 1}, values={"state": "x", "cents": 0})
    with engine.connect() as connection:
        assert connection.execute(select(orders.c.fence)).scalar_one() == 2**63 - 1
    assert isinstance(orders.c.fence.type, FenceNumber)


def test_an_error_in_the_block_is_the_one_that_comes_out(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        with pytest.raises(LookupError), fenced(session, token(5)):
            session.add(Order(id=1, state="new"))
            raise LookupError
        assert session.info == {}
        session.expunge_all()
        with fenced(session, token(5)):
            session.execute(insert(Order).values(id=1, state="new"))
        session.rollback()
        assert session.execute(select(orders)).all() == []
