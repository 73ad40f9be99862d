"""The master oracle and the writes on PostgreSQL and MariaDB: four databases, and a fifth with all rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Numeric, cast, collate, create_engine, event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload, selectinload

from backstay.sharding import AsyncShardedSession, ShardedSession, ShardMap, UnitPoisoned
from backstay.testing.sharding import MasterOracle
from unit.sharding.market import Base, Line, Order, baskets, fill, layout_of, order
from unit.sharding.statements import ACCEPTED

Market = tuple[ShardMap, Engine]
T: Any = Order.__table__
NOTE_C: Any = collate(T.c.note, "C")


def market(urls: list[str]) -> Iterator[Market]:
    layout = layout_of({f"s{at}": url for at, url in enumerate(urls[:4])})
    whole = create_engine(urls[4])
    for engine in [*layout.engines.values(), whole]:
        Base.metadata.create_all(engine)
    fill(layout, whole, *baskets())
    yield layout, whole
    layout.dispose()
    whole.dispose()


@pytest.fixture
def postgres(postgres_urls: Callable[[int], list[str]]) -> Iterator[Market]:
    yield from market(postgres_urls(5))


@pytest.fixture
def mariadb(mariadb_urls: Callable[[int], list[str]]) -> Iterator[Market]:
    yield from market(mariadb_urls(5))


#: What is accepted on SQLite and cannot be there: texts have another order, or the function has another name.
POSTGRES_REFUSES = {"order by text", "min and max of date and text", "aggregates of no rows"}
SQLITE_ONLY = {"group by the key, any aggregate", "one key, any clause"}
MARIADB_REFUSES = {*POSTGRES_REFUSES, "order by UUID"}
MARIADB_HAS_NOT = {"order by, nulls first", "order by, nulls last"}


def check_all(made: Market, refused: set[str], left_out: set[str]) -> None:
    oracle = MasterOracle(*made)
    found = set()
    for name, statement in ACCEPTED.items():
        if name not in left_out and oracle.check(statement).refused is not None:
            found.add(name)
    assert found == refused


def test_master_oracle_on_postgresql(postgres: Market) -> None:
    check_all(postgres, POSTGRES_REFUSES, SQLITE_ONLY)
    oracle = MasterOracle(*postgres)
    for statement in (
        select(Order).order_by(NOTE_C, Order.id.desc()).limit(9),
        select(func.sum(Order.price), func.avg(Order.price), func.avg(Order.cents), func.min(Order.price)),
        select(func.avg(Order.cents)).where(Order.id < 7),
        select(func.avg(Order.price * 3 + cast(Order.cents, Numeric(12, 5)))),
        select(func.min(NOTE_C), func.max(Order.placed_at)),
        select(Order.id).order_by(Order.id).fetch(4),
        select(T.c.id).order_by(T.c.price.desc().nulls_last(), T.c.id).limit(8).offset(3),
    ):
        verdict = oracle.check(statement)
        assert verdict.refused is None and verdict.rows, str(statement)


def test_master_oracle_on_mariadb(mariadb: Market) -> None:
    check_all(mariadb, MARIADB_REFUSES, SQLITE_ONLY | MARIADB_HAS_NOT)
    oracle = MasterOracle(*mariadb)
    for statement in (
        select(func.sum(Order.price), func.avg(Order.price), func.avg(Order.cents), func.sum(Order.cents)),
        select(T.c.id).order_by(T.c.price.desc(), T.c.id).limit(8).offset(3),
    ):
        verdict = oracle.check(statement)
        assert verdict.refused is None and verdict.rows, str(statement)


def test_a_shard_with_another_order_is_noticed(postgres: Market) -> None:
    """The guard on a real server: a column that claims the C collation and has another one in the database."""
    layout, _ = postgres
    for engine in layout.engines.values():
        with engine.begin() as connection:
            connection.execute(text('CREATE TABLE words (k INTEGER, w TEXT COLLATE "en-x-icu")'))
            connection.execute(text("INSERT INTO words VALUES (1, 'a'), (1, 'B'), (1, 'c')"))
    from sqlalchemy import Column, Integer, MetaData, String, Table

    from backstay.sharding import MergeOrderError, Rule

    words = Table("words", MetaData(), Column("k", Integer, primary_key=True), Column("w", String(collation="C")))
    lying = ShardMap.slots(dict(layout.engines), rules=[Rule(words, key="k")])
    with ShardedSession(lying) as session, pytest.raises(MergeOrderError, match="collation"):
        session.execute(select(words.c.w).order_by(words.c.w))


@pytest.mark.parametrize("at_once", [True, False])
def test_threads_and_turns_give_the_same(postgres: Market, at_once: bool) -> None:
    layout, _ = postgres
    with ShardedSession(layout, at_once=at_once) as session:
        statement = (
            select(Order).options(selectinload(Order.lines), joinedload(Order.lines, Line.product)).order_by(Order.id)
        )
        orders = session.scalars(statement).unique().all()
        assert [(one.id, len(one.lines)) for one in orders] == [(at, at % 4) for at in range(60)]
        assert session.execute(select(T.c.id).order_by(T.c.id).limit(3)).scalars().all() == [0, 1, 2]


def test_E1_slow_shards_are_asked_at_the_same_time(postgres: Market) -> None:
    import backstay.locks.guards.sqlalchemy  # noqa: F401  # its hook on all sessions is about writes only
    from backstay.clock import monotonic

    layout, _ = postgres
    one_each = {layout.shard_of(Order, at * 5 % 24): at for at in range(60)}
    assert len(one_each) == 4
    statement = (
        select(Order.id).where(Order.id.in_(one_each.values()), text("pg_sleep(1) IS NOT NULL")).order_by(Order.id)
    )
    layout.pace.record(1.0)
    with ShardedSession(layout) as session:
        began = monotonic()
        assert session.scalars(statement).all() == sorted(one_each.values())
        assert monotonic() - began < 3  # in turn it takes 4 s


def test_E1_a_thread_that_fails_is_reported_and_poisons(postgres: Market) -> None:
    layout, _ = postgres
    with layout.engine("s2").begin() as connection:
        connection.execute(text("ALTER TABLE orders RENAME COLUMN cents TO pence"))
    with ShardedSession(layout, at_once=True) as session:
        with pytest.raises(Exception, match="cents") as failed:
            session.execute(select(Order.cents).order_by(Order.id))
        assert "on shard 's2'" in failed.value.__notes__
        with pytest.raises(UnitPoisoned):
            session.commit()


def test_E5_many_sessions_at_once_with_cold_pools(postgres: Market) -> None:
    from concurrent.futures import ThreadPoolExecutor

    layout, _ = postgres
    for engine in layout.engines.values():
        engine.dispose()

    def request(at: int) -> bool:
        with ShardedSession(layout, at_once=True) as session:
            ids = session.scalars(select(Order.id).order_by(Order.id.desc()).limit(3)).all()
            mine = session.scalars(select(Order).where(Order.household_id == at % 24)).all()
            return (
                ids == [59, 58, 57]
                and {one.household_id for one in mine} == {at % 24}
                and all(len(one.lines) == one.id % 4 for one in mine)
            )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(request, range(60)))


def test_E4_an_error_on_one_shard_rolls_back_all(postgres: Market) -> None:
    layout, _ = postgres
    with ShardedSession(layout, commit="best_effort") as session:
        session.execute(insert(Order), [order(100 + at, at) for at in range(8)])
        with pytest.raises(IntegrityError):
            session.execute(insert(Order), [order(107, 7)])
        with pytest.raises(UnitPoisoned):
            session.commit()
        assert session.scalar(select(func.count()).select_from(Order)) == 60


def test_E4_an_error_on_a_connection_that_was_handed_out_rolls_back_all(postgres: Market) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with a rollback and no error."""
    layout, _ = postgres
    with ShardedSession(layout, commit="best_effort") as session:
        session.execute(insert(Order), [order(100 + at, at) for at in range(8)])
        with pytest.raises(IntegrityError):
            session.connection_of(Order, 7).execute(insert(T), order(107, 7))
        with pytest.raises(UnitPoisoned):
            session.commit()
        assert session.scalar(select(func.count()).select_from(Order)) == 60


@pytest.mark.parametrize("dialect", ["postgres", "mariadb"])
def test_R11_writes(dialect: str, request: pytest.FixtureRequest) -> None:
    layout, _ = request.getfixturevalue(dialect)
    rows = [order(100 + at, at * 5 % 17) for at in range(40)]
    with ShardedSession(layout, commit="best_effort") as session:
        returned = session.scalars(insert(Order).returning(Order), rows).all()
        assert [(one.id, one.household_id) for one in returned] == [(row["id"], row["household_id"]) for row in rows]
        changed: Any = session.execute(update(Order).where(Order.household_id.in_([1, 2, 16])).values(cents=-5))
        session.commit()
        assert changed.rowcount == session.scalar(select(func.count()).where(Order.cents == -5))


def test_streaming_over_server_side_cursors(postgres: Market) -> None:
    layout, _ = postgres
    with ShardedSession(layout) as session:
        result = session.execute(select(Order).order_by(Order.id).execution_options(yield_per=4, stream_results=True))
        assert [row.Order.id for row in result.fetchmany(6)] == [0, 1, 2, 3, 4, 5]
        assert [row.Order.id for row in result] == list(range(6, 60))


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asyncio(postgres: Market, driver: str) -> None:
    layout, _ = postgres
    urls = {
        name: engine.url.set(drivername=f"postgresql+{driver}")
        .render_as_string(hide_password=False)
        .replace("postgresql+psycopg:", "postgresql+psycopg_async:")
        for name, engine in layout.engines.items()
    }

    async def body() -> None:
        twin = layout_of(urls)
        sent: list[str] = []
        event.listen(twin.engine("s0"), "before_cursor_execute", lambda *args: sent.append(args[2]))
        for at_once in (True, False):
            async with AsyncShardedSession(twin, at_once=at_once, commit="best_effort") as session:
                statement = select(Order).options(selectinload(Order.lines)).order_by(Order.id.desc()).limit(5)
                orders = (await session.scalars(statement)).all()
                assert [(one.id, len(one.lines)) for one in orders] == [(at, at % 4) for at in (59, 58, 57, 56, 55)]
                average = (await session.execute(select(func.count(), func.avg(Order.price)))).one()
                assert average[0] == 60 and await session.get(Order, 7) is not None
                stream = await session.stream_scalars(
                    select(Order.id).order_by(Order.id).execution_options(yield_per=9)
                )
                assert [at async for at in stream] == list(range(60))
                await session.execute(insert(Order), [order(100 + at, at) for at in range(8)])
                await session.rollback()
        assert sent
        for engine in twin.async_engines.values():
            await engine.dispose()

    asyncio.run(body())
