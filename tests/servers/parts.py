"""The kinds of server: where each listens, how it says that it is ready, and what its address looks like."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of server."""

    name: str
    port: int
    """Where it listens inside its container."""
    ready: tuple[str, ...]
    """A command that succeeds inside the container once the server serves."""
    connect: Callable[[str], None]
    """Asks the server at this URL one question through the driver that the tests use; raises while it cannot."""
    url: str
    """The address with a place for the port."""

    @property
    def variable(self) -> str:
        """The environment variable that points the fixtures at a server that already runs."""
        return f"BACKSTAY_TEST_{self.name.upper()}_URL"


def external_url(part: Part, environment: Mapping[str, str] | None = None) -> str | None:
    """The address of a server that somebody else runs for us, if its variable is set."""
    return (os.environ if environment is None else environment).get(part.variable) or None


def _ask_redis(url: str) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Without this redis-py would repeat by itself and hide how long a server takes.
    with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()


def _ask_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=2) as connection:
        connection.execute("SELECT 1")


def _ask_mariadb(url: str) -> None:
    import pymysql
    from sqlalchemy import make_url

    address = make_url(url)
    connection = pymysql.connect(
        host=address.host or "127.0.0.1",
        port=address.port or 3306,
        user=address.username or "root",
        password=address.password or "",
        connect_timeout=2,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_zookeeper(url: str) -> None:
    from kazoo.client import KazooClient

    client = KazooClient(hosts=url.removeprefix("zookeeper://"), timeout=5.0)
    client.start(timeout=5)
    try:
        client.get_children("/")
    finally:
        client.stop()
        client.close()


PARTS: Mapping[str, Part] = {
    part.name: part
    for part in (
        Part(
            name="redis",
            port=6379,
            # redis-cli exits with 0 whatever the answer is.
            ready=("sh", "-c", '[ "$(redis-cli ping)" = PONG ]'),
            connect=_ask_redis,
            url="redis://127.0.0.1:{port}/0",
        ),
        Part(
            name="postgres",
            port=5432,
            ready=("pg_isready", "-q", "-h", "127.0.0.1"),
            connect=_ask_postgres,
            url="postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
        ),
        Part(
            name="mariadb",
            port=3306,
            ready=("mariadb", "--defaults-file=/etc/backstay/mariadb.cnf", "-e", "select 1"),
            connect=_ask_mariadb,
            url="mysql+pymysql://root@127.0.0.1:{port}/mysql",
        ),
        Part(
            name="zookeeper",
            port=2181,
            ready=("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2181 && echo srvr >&3 && grep -q ^Mode: <&3"),
            connect=_ask_zookeeper,
            url="zookeeper://127.0.0.1:{port}",
        ),
    )
}
