"""Locks that live with the caller's transaction, and the number that a name is locked by, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from backstay.errors import Misuse, NotAcquired
from backstay.locks import Locks
from backstay.locks.advisory import advisory_xact_lock, async_advisory_xact_lock
from backstay.locks.backends.advisory import key_of
from backstay.locks.claims import Resource


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_url)
    yield made
    made.dispose()


def test_E5_the_number_of_a_name_can_be_told_by_the_database(engine: Engine) -> None:
    assert key_of("shop", Resource("order:42")) == 2768332182979680555
    formula = text("SELECT ('x' || left(encode(sha256(convert_to(:name, 'UTF8')), 'hex'), 16))::bit(64)::bigint")
    with engine.connect() as connection:
        for resource, name in (
            (Resource("order:42"), "backstay:shop:lock:order:42"),
            (Resource("größe", "read-write lock"), "backstay:shop:read-write-lock:größe"),
        ):
            assert connection.scalar(formula, {"name": name}) == key_of("shop", resource)


def test_E7_the_lock_lives_and_dies_with_the_transaction(engine: Engine) -> None:
    with engine.connect() as mine, engine.connect() as other:
        for end in (mine.commit, mine.rollback):
            advisory_xact_lock(mine, "x", wait=0)
            advisory_xact_lock(mine, "x", wait=1)  # again: it is ours
            with pytest.raises(NotAcquired, match="'x' is held by another transaction"):
                advisory_xact_lock(other, "x", wait=0)
            end()
            advisory_xact_lock(other, "x", wait=0)
            other.rollback()
        advisory_xact_lock(mine, "x", wait=0)
        mine.invalidate()  # the connection dies, and the lock with it
        advisory_xact_lock(other, "x", wait=5)


def test_E7_a_wait_in_vain_leaves_the_transaction_as_it_was(engine: Engine) -> None:
    with engine.begin() as setup:
        setup.execute(text("CREATE TABLE t (n int)"))
    with engine.connect() as other, Session(engine) as session:
        advisory_xact_lock(other, "x")
        session.execute(text("SET LOCAL lock_timeout = '7s'"))
        session.execute(text("INSERT INTO t VALUES (1)"))
        start = time.monotonic()
        with pytest.raises(NotAcquired, match=r"did not come free in 0\.2 s"):
            advisory_xact_lock(session, "x", wait=0.2)
        assert 0.2 <= time.monotonic() - start < 3.0
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
        advisory_xact_lock(session, "y", wait=1.0)
        assert session.scalar(text("SHOW lock_timeout")) == "7s"
        session.commit()
        assert session.scalar(text("SELECT count(*) FROM t")) == 1


def test_E7_a_waiter_is_served_when_the_holder_commits(engine: Engine) -> None:
    got: list[float] = []

    def wait() -> None:
        with engine.begin() as connection:
            advisory_xact_lock(connection, "x", wait=10.0)
            got.append(time.monotonic())

    with engine.connect() as mine:
        advisory_xact_lock(mine, "x")
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        assert got == []
        released = time.monotonic()
        mine.commit()
        thread.join()
    assert got[0] - released < 1.0


def test_shared_ones_are_held_together(engine: Engine) -> None:
    with engine.connect() as one, engine.connect() as two, engine.connect() as three:
        advisory_xact_lock(one, "x", shared=True, wait=0)
        advisory_xact_lock(two, "x", shared=True, wait=0.5)
        with pytest.raises(NotAcquired):
            advisory_xact_lock(three, "x", wait=0)


def test_it_is_the_lock_of_the_same_name_in_a_session(engine: Engine, postgres_url: str) -> None:
    with Locks.connect(f"advisory+{postgres_url}", namespace="shop") as locks, engine.connect() as connection:
        with locks.mutex("x"):
            with pytest.raises(NotAcquired):
                advisory_xact_lock(connection, "x", namespace="shop", wait=0)
            advisory_xact_lock(connection, "x", namespace="other", wait=0)
        advisory_xact_lock(connection, "x", namespace="shop", wait=1)
        with pytest.raises(NotAcquired):
            locks.mutex("x", wait=0).acquire()


def test_asyncio_sessions_and_connections(postgres_url: str) -> None:
    async def main() -> None:
        for url in (postgres_url, postgres_url.replace("+psycopg", "+asyncpg")):
            engine = create_async_engine(url)
            async with engine.connect() as one, AsyncSession(engine) as two:
                await async_advisory_xact_lock(one, "x")
                with pytest.raises(NotAcquired):
                    await async_advisory_xact_lock(two, "x", wait=0.1)
                assert await two.scalar(text("SELECT 1")) == 1
                await one.rollback()
                await async_advisory_xact_lock(two, "x", wait=5)
            await engine.dispose()

    asyncio.run(main())


def test_what_cannot_be_is_refused(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(Misuse, match="commits each statement by itself"):
            advisory_xact_lock(connection, "x")
    sqlite = create_engine("sqlite://")
    with sqlite.connect() as connection, pytest.raises(Misuse, match="connection to sqlite"):
        advisory_xact_lock(connection, "x")
    sqlite.dispose()
    with engine.connect() as connection:
        with pytest.raises(Misuse, match="name of a lock"):
            advisory_xact_lock(connection, "")
        with pytest.raises(Misuse, match="wait must be >= 0"):
            advisory_xact_lock(connection, "x", wait=-1)
        with pytest.raises(Misuse, match="namespace"):
            advisory_xact_lock(connection, "x", namespace="a b")
