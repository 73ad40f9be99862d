"""A catalogue on SQLAlchemy that goes away and comes back, read by threads and tasks through a real Redis (DG-6)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from backstay.errors import Rejected, Unavailable
from backstay.resilience import protect
from backstay.resilience.read_chain import LocalTier, ReadChain, RedisTier
from backstay.testing import measured

PRODUCTS = 40
products = sa.Table(
    "products", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("price", sa.Integer)
)


class Database:
    """One engine, and how to take the server behind it away."""

    def __init__(self, url: str, outage: Callable[[], Any], **options: Any) -> None:
        self.url = url
        self.engine = sa.create_engine(url, **options)
        self.outage = outage
        products.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(sa.insert(products), [{"id": each, "price": each} for each in range(PRODUCTS)])

    def price(self, product_id: int) -> int | None:
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(products.c.price).where(products.c.id == product_id))

    def set_prices(self, factor: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.update(products).values(price=products.c.id * factor))


@contextlib.contextmanager
def sqlite(path: Path) -> Generator[Database]:
    url = f"sqlite:///{path}"
    locker = sa.create_engine(url)

    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        with locker.connect() as connection:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                connection.exec_driver_sql("ROLLBACK")

    database = Database(url, locked, connect_args={"timeout": 0.01})
    yield database
    database.engine.dispose()
    locker.dispose()


@contextlib.contextmanager
def postgres(server: Any) -> Generator[Database]:
    @contextlib.contextmanager
    def killed() -> Iterator[None]:
        server.kill()
        try:
            yield
        finally:
            server.start()

    database = Database(server.url, killed, pool_pre_ping=True, connect_args={"connect_timeout": 2})
    yield database
    database.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        with sqlite(tmp_path / "shop.db") as made:
            yield made
    else:
        with postgres(request.getfixturevalue("own_postgres")()) as made:
            yield made


def test_DG6_a_catalogue_is_read_through_an_outage_of_its_database(database: Database, redis_url: str) -> None:
    name = f"catalogue-{database.engine.dialect.name}"
    chain = ReadChain(
        name, key="product:{product_id}",
        redis=RedisTier(store=redis_url, fresh=0.3, max_stale=600, namespace="databases", budget=1.0, refill_lease=0.1),
        local=LocalTier(fresh=0.1, max_stale=600), on=(Rejected, Unavailable, OperationalError), refills=2,
    )  # fmt: skip
    asked: list[int] = []

    @chain.answers
    @protect(f"{name}-database", breaker={"consecutive": 3, "open_for": 0.2})
    def price(product_id: int) -> int | None:
        asked.append(product_id)
        return database.price(product_id)

    def all_of(ids: list[int]) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(price, ids))

    ids = list(range(PRODUCTS))
    before = all_of(ids * 4)
    assert [answer.value for answer in before] == ids * 4
    assert len(asked) == PRODUCTS, "each product was read once, by 8 threads"
    assert price(10_000).absent

    with database.outage(), measured() as counts:
        time.sleep(0.5)
        asked.clear()
        during = all_of(ids * 4)
        assert [answer.value for answer in during] == ids * 4, "nothing was lost"
        assert all(answer.stale and answer.source in ("distributed_cache", "local_cache") for answer in during)
        assert all(answer.age is not None and answer.age >= 0.3 for answer in during)
        assert len(asked) <= 12, "and hardly anybody asked the database"
        assert counts.count("read.results", resource=name, source="miss") == 0

    database.set_prices(7)
    _until(lambda: all(not answer.stale and answer.value == 7 * each
                       for each, answer in zip(ids, all_of(ids), strict=True)))  # fmt: skip
    chain.close()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not recover"
        time.sleep(0.1)


def test_DG6_an_async_engine_is_read_by_many_tasks_at_once(postgres_url: str, redis_url: str) -> None:
    chain = ReadChain(
        "async-catalogue", key="product:{product_id}", budget=5.0,
        redis=RedisTier(store=redis_url, fresh=30, max_stale=600, namespace="databases", budget=1.0),
    )  # fmt: skip
    asked: list[int] = []

    async def main() -> None:
        engine = create_async_engine(postgres_url, pool_size=4)
        async with engine.begin() as connection:
            await connection.run_sync(products.metadata.create_all)
            await connection.execute(sa.insert(products), [{"id": each, "price": each} for each in range(PRODUCTS)])

        @chain.answers
        async def price(product_id: int) -> int | None:
            asked.append(product_id)
            async with engine.connect() as connection:
                found: int | None = await connection.scalar(
                    sa.select(products.c.price).where(products.c.id == product_id)
                )
                return found

        answers = await asyncio.gather(*(price(each % PRODUCTS) for each in range(400)))
        assert [answer.value for answer in answers] == [each % PRODUCTS for each in range(400)]
        assert len(asked) == PRODUCTS
        assert {answer.source for answer in await asyncio.gather(*(price(each) for each in range(PRODUCTS)))} == {
            "distributed_cache"
        }
        await chain.aclose()
        await engine.dispose()

    asyncio.run(main())
