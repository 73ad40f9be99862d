"""The asyncio twin: the same answers, over aiosqlite."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import selectinload

from backstay.sharding import (
    AsyncShardedSession,
    CrossShardWrite,
    NotMergeable,
    PartialCommit,
    ShardedSession,
    ShardMap,
)
from unit.sharding.market import Line, Order, baskets, fill, layout_of, order

Body = Callable[[ShardMap], Awaitable[None]]


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Callable[[Body], None]:
    """Run a coroutine on a layout of filled shards."""
    for database in template.iterdir():
        shutil.copy(database, tmp_path)
    blocking = layout_of({f"s{at}": f"sqlite:///{tmp_path}/s{at}.db" for at in range(4)})
    fill(blocking, None, *baskets())
    blocking.dispose()

    async def whole(body: Body) -> None:
        layout = layout_of({f"s{at}": f"sqlite+aiosqlite:///{tmp_path}/s{at}.db" for at in range(4)})
        try:
            await body(layout)
        finally:
            for engine in layout.async_engines.values():
                await engine.dispose()

    return lambda body: asyncio.run(whole(body))


@pytest.mark.parametrize("at_once", [True, False])
def test_scatter_and_loading(run: Callable[[Body], None], at_once: bool) -> None:
    async def body(layout: ShardMap) -> None:
        async with AsyncShardedSession(layout, at_once=at_once) as session:
            statement = select(Order).options(selectinload(Order.lines)).order_by(Order.id.desc()).limit(5)
            orders = (await session.scalars(statement)).all()
            assert [(one.id, len(one.lines)) for one in orders] == [(at, at % 4) for at in (59, 58, 57, 56, 55)]
            count, average = (await session.execute(select(func.count(), func.avg(Order.cents)))).one()
            assert (count, average) == (60, 21.2)
            await session.refresh(orders[0])
            assert (
                await session.scalar(select(Order.id).where(Order.household_id == 3).order_by(Order.id).limit(1)) == 15
            )
            with pytest.raises(NotMergeable):
                await session.execute(select(Order.cents).distinct())

    run(body)


def test_streaming(run: Callable[[Body], None]) -> None:
    async def body(layout: ShardMap) -> None:
        async with AsyncShardedSession(layout) as session:
            result = await session.stream_scalars(select(Order.id).order_by(Order.id).execution_options(yield_per=7))
            assert [at async for at in result] == list(range(60))

    run(body)


def test_writes_and_commit_modes(run: Callable[[Body], None]) -> None:
    async def body(layout: ShardMap) -> None:
        make = async_sessionmaker(class_=AsyncShardedSession, layout=layout)
        async with make() as session, session.begin():
            session.add(Order(id=100, household_id=7, lines=[Line(id=900, product_id=1, quantity=1)]))
            await session.flush()
            connection = await session.connection_of(Order, 7)
            assert await connection.scalar(text("SELECT count(*) FROM line WHERE id = 900")) == 1
            with pytest.raises(CrossShardWrite):
                await session.execute(insert(Order), [order(101, 5), order(102, 6)])
        async with make(commit="best_effort") as session:
            rows = [order(200 + at, at) for at in range(12)]
            returned = (await session.scalars(insert(Order).returning(Order.id), rows)).all()
            assert returned == [row["id"] for row in rows]
            await session.commit()
            assert await session.scalar(select(func.count()).select_from(Order)) == 73

    run(body)


def test_R16_a_thousand_interleaved_requests_do_not_mix(run: Callable[[Body], None]) -> None:
    request: ContextVar[int] = ContextVar("request")

    async def body(layout: ShardMap) -> None:
        gate = asyncio.Semaphore(8)

        async def one(at: int) -> bool:
            request.set(at)
            async with gate, AsyncShardedSession(layout) as session:
                households = (
                    await session.scalars(select(Order.household_id).where(Order.household_id == at % 24))
                ).all()
                return set(households) == {at % 24} and request.get() == at

        assert all(await asyncio.gather(*(one(at) for at in range(1000))))

    run(body)


def test_the_twins_have_the_same_surface() -> None:
    for name in ("shard_of", "connection_on", "connection_of"):
        blocking, twin = getattr(ShardedSession, name), getattr(AsyncShardedSession, name)
        assert list(inspect.signature(blocking).parameters) == list(inspect.signature(twin).parameters)
    ours = set(inspect.signature(AsyncShardedSession.__init__).parameters)
    assert ours <= set(inspect.signature(ShardedSession.__init__).parameters)
    assert PartialCommit.http_status == 500
