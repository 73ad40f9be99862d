"""Each server answers, and each test finds an empty place on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from kazoo.client import KazooClient
from sqlalchemy import create_engine, inspect, text

from servers import External, NotOurs

if TYPE_CHECKING:
    from servers.databases import PostgresPool


@pytest.mark.parametrize("attempt", [1, 2])
def test_redis_url_is_an_empty_database_each_time(redis_url: str, attempt: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left-over", attempt)
        assert client.get("left-over") == str(attempt).encode()


@pytest.mark.parametrize("attempt", [1, 2])
def test_postgres_url_is_an_empty_database_each_time(postgres_url: str, attempt: int) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE left_over (n integer)"))
        connection.execute(text("INSERT INTO left_over VALUES (:n)"), {"n": attempt})
        assert connection.execute(text("SELECT n FROM left_over")).scalar_one() == attempt
    engine.dispose()


@pytest.mark.parametrize("attempt", [1, 2])
def test_mariadb_url_is_an_empty_database_each_time(mariadb_url: str, attempt: int) -> None:
    engine = create_engine(mariadb_url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE left_over (n integer)"))
        connection.execute(text("INSERT INTO left_over VALUES (:n)"), {"n": attempt})
        assert connection.execute(text("SELECT n FROM left_over")).scalar_one() == attempt
    engine.dispose()


@pytest.mark.parametrize("attempt", [1, 2])
def test_zookeeper_url_is_an_empty_chroot_each_time(zookeeper_url: str, attempt: int) -> None:
    client = KazooClient(hosts=zookeeper_url.removeprefix("zookeeper://"))
    client.start(timeout=10)
    try:
        assert client.get_children("/") == []
        client.create("/left-over", str(attempt).encode())
        assert client.get("/left-over")[0] == str(attempt).encode()
    finally:
        client.stop()
        client.close()


def test_postgres_urls_are_as_many_different_databases_as_asked_for(
    postgres_urls: Callable[[int], list[str]], postgres_server: External
) -> None:
    urls = postgres_urls(3)
    assert len(set(urls)) == 3
    for url in urls:
        engine = create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar_one() == url.rpartition("/")[2]
        engine.dispose()


def test_a_shared_server_refuses_to_be_broken(redis_server: External) -> None:
    for control in (redis_server.kill, redis_server.start, redis_server.stop, redis_server.pause, redis_server.unpause):
        with pytest.raises(NotOurs, match=r"own_redis|BACKSTAY_TEST_REDIS_URL"):
            control()


@pytest.fixture
def left_in_a_mess(postgres_pool: PostgresPool) -> Iterator[list[str]]:
    """Two databases that the last user left with an open transaction, a prepared one, and more than tables."""
    connections: list[psycopg.Connection[tuple[object, ...]]] = []
    with postgres_pool.take(2) as urls:
        for url in urls:
            plain, name = url.replace("+psycopg", ""), url.rpartition("/")[2]
            with psycopg.connect(plain, autocommit=True) as done:
                done.execute("CREATE TABLE t (n integer PRIMARY KEY)")
                done.execute("CREATE SCHEMA other CREATE TABLE u (n integer)")
                done.execute("CREATE SEQUENCE s")
                done.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
            prepared = psycopg.connect(plain)
            prepared.execute("INSERT INTO t VALUES (1)")
            prepared.execute(f"PREPARE TRANSACTION 'left-{name}'")
            prepared.close()
            connections.append(psycopg.connect(plain))
            connections[-1].execute("LOCK TABLE other.u IN ACCESS EXCLUSIVE MODE")
    yield urls
    for connection in connections:
        connection.close()


def test_a_postgres_database_is_empty_again_whatever_its_last_user_left(
    left_in_a_mess: list[str], postgres_pool: PostgresPool
) -> None:
    with postgres_pool.take(2) as urls:
        assert set(urls) == set(left_in_a_mess)
        for url in urls:
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                tables = connection.execute(
                    "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                    " WHERE nspname !~ '^(pg_|information_schema)'"
                ).fetchall()
                assert tables == []
                prepared = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
                assert prepared.fetchall() == []
                assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
