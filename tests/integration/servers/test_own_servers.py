"""A server of a test's own: it can be killed, frozen and started again, and keeps its port and what it acknowledged."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import redis
from kazoo.client import KazooClient
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from servers.server import Server


def redis_client(url: str, timeout: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout)


def put_redis(url: str) -> None:
    with redis_client(url) as client:
        client.set("kept", 42)


def get_redis(url: str) -> int:
    with redis_client(url) as client:
        return int(client.get("kept") or 0)


def put_sql(url: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE TABLE kept (n integer)"))
        connection.execute(text("INSERT INTO kept VALUES (42)"))


def get_sql(url: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return int(connection.execute(text("SELECT n FROM kept")).scalar_one())


def zookeeper_client(url: str) -> KazooClient:
    client = KazooClient(hosts=url.removeprefix("zookeeper://"))
    client.start(timeout=10)
    return client


def put_zookeeper(url: str) -> None:
    client = zookeeper_client(url)
    client.create("/kept", b"42")
    client.stop()
    client.close()


def get_zookeeper(url: str) -> int:
    client = zookeeper_client(url)
    value = int(client.get("/kept")[0])
    client.stop()
    client.close()
    return value


# Named here so that collection sees which images must be there; a cold build takes longer than a test may.
ALL_PARTS = pytest.mark.usefixtures("own_redis", "own_postgres", "own_mariadb", "own_zookeeper")


@ALL_PARTS
@pytest.mark.parametrize(
    ("part", "put", "get"),
    [
        ("redis", put_redis, get_redis),
        ("postgres", put_sql, get_sql),
        ("mariadb", put_sql, get_sql),
        ("zookeeper", put_zookeeper, get_zookeeper),
    ],
)
def test_kill_and_start_keep_the_port_and_the_data(
    request: pytest.FixtureRequest, part: str, put: Callable[[str], None], get: Callable[[str], int]
) -> None:
    server: Server = request.getfixturevalue(f"own_{part}")()
    put(server.url)
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=2)
    server.start()
    assert get(server.url) == 42
    server.stop()
    server.start()
    assert get(server.url) == 42


def test_pause_is_silence_and_unpause_goes_on(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    with redis_client(server.url, timeout=1.0) as client:
        client.set("n", 1)
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.get("n")
        server.unpause()
        assert client.get("n") == b"1"


def test_own_servers_are_apart_from_each_other_and_from_the_shared_one(
    own_redis: Callable[[], Server], redis_url: str
) -> None:
    one, two = own_redis(), own_redis()
    for number, url in enumerate((one.url, two.url, redis_url)):
        with redis_client(url) as client:
            assert client.dbsize() == 0
            client.set("who", number)
    assert one.run("redis-cli", "get", "who").strip() == "0"
    assert two.run("redis-cli", "get", "who").strip() == "1"


def test_a_container_is_gone_after_its_removal(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    server.remove()
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"id={server.id}"], capture_output=True, text=True, check=True
    )
    assert left.stdout == ""
    server.remove()


def test_a_server_that_ends_while_starting_is_reported_at_once_with_its_last_words(
    own_redis: Callable[[], Server],
) -> None:
    server = own_redis()
    server.run("sh", "-c", "echo nonsense > /data/appendonlydir/appendonly.aof.manifest")
    server.kill()
    with pytest.raises(RuntimeError, match=r"redis server ended while starting:[\s\S]*manifest"):
        server.start()


def test_ports_are_published_on_this_machine_only(own_redis: Callable[[], Server]) -> None:
    server = own_redis()
    shown = subprocess.run(["docker", "port", server.id], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"6379/tcp -> 127.0.0.1:{server.port}"
