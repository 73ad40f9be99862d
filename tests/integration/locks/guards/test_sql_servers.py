"""Guarded rows and tables on PostgreSQL and MariaDB: the same promises, and those that need two transactions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from backstay.locks.guards import StaleFence
from backstay.locks.guards.sqlalchemy import AsyncSqlFences, AsyncTableGuard, SqlFences, TableGuard, fenced
from unit.locks.guards.rows import Base, Order, SqlGuards, orders, token


class OnServers(SqlGuards):
    @pytest.mark.parametrize("write", ["flush", "statement", "table", "upsert"])
    def test_F6_a_late_write_that_waited_for_the_later_one_is_refused(self, engine: Engine, write: str) -> None:
        guard = TableGuard(orders)
        outcome: list[BaseException | None] = []

        def late() -> None:
            try:
                with Session(engine) as session, fenced(session, token(11)):
                    if write == "flush":
                        session.get_one(Order, 1).state = "late"
                    elif write == "statement":
                        session.execute(update(Order).where(Order.id == 1).values(state="late"))
                    elif write == "table":
                        guard.update(session, token(11), orders.c.id == 1, values={"state": "late"})
                    else:
                        guard.upsert(session, token(11), key={"id": 1}, values={"state": "late", "cents": 0})
                    session.commit()
            except Exception as error:
                outcome.append(error)
            else:
                outcome.append(None)

        with Session(engine) as later, fenced(later, token(12)):
            later.get_one(Order, 1).state = "paid"
            later.flush()
            thread = threading.Thread(target=late)
            thread.start()
            _until(lambda: _waits(engine))
            assert outcome == []
            later.commit()
        thread.join()
        (error,) = outcome
        assert isinstance(error, StaleFence)
        assert error.highest == 12
        assert self.rows(engine)[0] == (1, "paid", 12)

    def test_F6_a_snapshot_from_before_the_later_write_does_not_help_the_late_one(self, engine: Engine) -> None:
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
        for write in ("flush", "statement", "table"):
            with Session(snapshot) as session:
                order = session.get_one(Order, 1)  # the snapshot is taken here
                self.pay(engine, 12, "paid", 1)
                with pytest.raises((StaleFence, OperationalError)) as refused, fenced(session, token(11)):
                    if write == "flush":
                        order.state = "late"
                    elif write == "statement":
                        session.execute(update(Order).where(Order.id == 1).values(state="late"))
                    else:
                        TableGuard(orders).update(session, token(11), orders.c.id < 3, values={"state": "late"})
                if not isinstance(refused.value, StaleFence):
                    # PostgreSQL refuses the write itself: the row has changed since the snapshot
                    assert engine.dialect.name == "postgresql" and "serialize" in str(refused.value)
            assert self.rows(engine)[0] == (1, "paid", 12)

    def test_F6_many_writers_at_once_leave_the_highest(self, engine: Engine) -> None:
        fences, guard = SqlFences(engine), TableGuard(orders)
        fences.create()
        landed: list[int] = []
        refused: list[int] = []

        def write(numbers: range) -> None:
            for fence in numbers:
                try:
                    with engine.begin() as connection:
                        fences.admit_within(connection, token(fence))
                        guard.update(connection, token(fence), orders.c.id == 1, values={"cents": fence})
                except StaleFence:
                    refused.append(fence)
                else:
                    landed.append(fence)

        threads = [threading.Thread(target=write, args=(range(20 + n, 180, 4),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(landed) + len(refused) == 160
        assert max(landed) == 179
        with engine.connect() as connection:
            assert connection.execute(select(orders.c.cents, orders.c.fence).where(orders.c.id == 1)).one() == (
                179,
                179,
            )

    def test_a_refusal_inside_a_savepoint_takes_back_the_savepoint_only(self, engine: Engine) -> None:
        guard = TableGuard(orders)
        self.pay(engine, 12, "paid", 2)
        with engine.begin() as connection:
            guard.update(connection, token(13), orders.c.id == 1, values={"state": "kept"})
            with pytest.raises(StaleFence), connection.begin_nested():
                guard.update(connection, token(11), orders.c.id == 3, values={"state": "late"})
                guard.update(connection, token(11), orders.c.id == 2, values={"state": "late"})
        assert self.rows(engine) == [(1, "kept", 13), (2, "paid", 12), (3, "new", 10)]


class TestPostgres(OnServers):
    @pytest.fixture
    def engine(self, postgres_url: str) -> Iterator[Engine]:
        engine = create_engine(postgres_url)
        yield engine
        engine.dispose()


class TestMariadb(OnServers):
    @pytest.fixture
    def engine(self, mariadb_url: str) -> Iterator[Engine]:
        engine = create_engine(mariadb_url)
        yield engine
        engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asyncio_on_postgresql(postgres_url: str, driver: str) -> None:
    async def main() -> None:
        engine = create_async_engine(make_url(postgres_url).set(drivername=f"postgresql+{driver}"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        guard, fences = AsyncTableGuard(Order), AsyncSqlFences(engine)
        async with AsyncSession(engine) as session, fenced(session, token(2**53 + 7)):
            session.add_all([Order(id=number, state="new") for number in (1, 2)])
            await session.commit()

        async def late(write: Callable[[AsyncSession], Any]) -> None:
            with pytest.raises(StaleFence) as stale:
                async with AsyncSession(engine) as session, fenced(session, token(2**53 + 6)):
                    await write(session)
                    await session.commit()
            assert stale.value.highest == 2**53 + 7

        async def flush(session: AsyncSession) -> None:
            (await session.get_one(Order, 1)).state = "late"

        await late(flush)
        await late(lambda session: session.execute(update(Order).values(state="late")))
        await late(lambda session: session.execute(update(Order), [{"id": n, "state": "late"} for n in (1, 2)]))
        await late(lambda session: guard.update(session, token(2**53 + 6), orders.c.id == 1, values={"state": "late"}))
        await late(lambda session: guard.delete(session, token(2**53 + 6), orders.c.id > 0))
        await late(
            lambda session: guard.upsert(session, token(2**53 + 6), key={"id": 1}, values={"state": "late", "cents": 0})
        )
        await fences.admit(token(5))
        await fences.admit(token(7))
        with pytest.raises(StaleFence):
            await fences.admit(token(6))
        async with engine.connect() as connection:
            rows = await connection.execute(select(orders.c.state, orders.c.fence))
            assert rows.all() == [("new", 2**53 + 7)] * 2
        await engine.dispose()

    asyncio.run(main())


def _waits(engine: Engine) -> bool:
    """Whether a transaction waits for a row lock."""
    if engine.dialect.name == "postgresql":
        question = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    else:
        # innodb_trx answers from a cache that is renewed only when nobody has asked for 0.1 s
        question = (
            "SELECT count(*) FROM information_schema.processlist "
            "WHERE db = database() AND id <> connection_id() AND command = 'Query' AND time_ms > 200"
        )
    with engine.connect() as connection:
        return bool(connection.execute(text(question)).scalar())


def _until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not come to pass")
