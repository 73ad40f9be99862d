"""Fixtures for all tests: real servers in containers, started when the first test asks for one.

`redis_url`, `postgres_url`, `postgres_urls`, `mariadb_url`, `mariadb_urls` and `zookeeper_url` give a test an empty
place of its own on a server that the whole run shares. A test that breaks its server takes `own_redis` and the like.
A server that cannot be started is an error, never a skip.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backstay.telemetry import _registry
from backstay.telemetry.naming import Limit
from servers import PARTS, EngineMissing, External, Run, engine, external_url

if TYPE_CHECKING:
    from servers.databases import PostgresPool
    from servers.server import Server
    from servers.sets import Cluster, Ensemble, Sentinels

RUN = "BACKSTAY_TEST_RUN"
"""Names the run's directory to its xdist workers."""

_begun: Run | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _begun
    if not hasattr(config, "workerinput"):  # the controller, or the only process
        _begun = Run.begin()
        os.environ[RUN] = str(_begun.directory)


def pytest_unconfigure(config: pytest.Config) -> None:
    global _begun
    if _begun is not None:
        _begun.end()
        _begun = None


@pytest.fixture(autouse=True)
def _room_for_names() -> None:
    """Let each test name as many things as a process may: thousands of tests share one, and its caps are for life."""
    for metric in _registry.metrics():
        metric.limit = Limit(series=1_000_000)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build missing images before the first test: a cold build takes longer than a test's time limit."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    parts = [
        part.name
        for part in PARTS.values()
        if f"own_{part.name}" in wanted
        or (part.name == "redis" and wanted & {"own_sentinels", "own_cluster"})
        or (part.name == "zookeeper" and "own_ensemble" in wanted)
        or (f"{part.name}_server" in wanted and external_url(part) is None)
    ]
    if parts:
        with contextlib.suppress(EngineMissing):  # each fixture raises it again, beside the tests that need it
            engine.images(parts)


@pytest.fixture(scope="session")
def server_run() -> Run:
    """The run whose servers this process shares."""
    return _begun or Run(Path(os.environ[RUN]))


def _shared(run: Run, name: str) -> External:
    part = PARTS[name]
    url = external_url(part)
    if url is not None:
        return External(part, url, why=f"{part.variable} points at one that this run did not start; unset it")
    return External(part, run.url(part), why=f"every test of this run uses it; take the fixture own_{name}")


@pytest.fixture(scope="session")
def redis_server(server_run: Run) -> External:
    """The run's Redis."""
    return _shared(server_run, "redis")


@pytest.fixture(scope="session")
def postgres_server(server_run: Run) -> External:
    """The run's PostgreSQL."""
    return _shared(server_run, "postgres")


@pytest.fixture(scope="session")
def mariadb_server(server_run: Run) -> External:
    """The run's MariaDB."""
    return _shared(server_run, "mariadb")


@pytest.fixture(scope="session")
def zookeeper_server(server_run: Run) -> External:
    """The run's ZooKeeper (one server)."""
    return _shared(server_run, "zookeeper")


@pytest.fixture
def redis_url(redis_server: External) -> str:
    """An empty logical database, one per worker.

    Channels, scripts and CONFIG belong to the whole server: name channels uniquely, and take `own_redis` for the rest.
    """
    from servers.databases import redis_database  # the drivers cost 0.4 s that a run without servers need not pay

    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    return redis_database(redis_server.url, int(worker.removeprefix("gw")) + 1 if worker else 0)


@pytest.fixture(scope="session")
def postgres_pool(postgres_server: External) -> Iterator[PostgresPool]:
    """This worker's databases."""
    from servers.databases import PostgresPool

    pool = PostgresPool(postgres_server.url)
    yield pool
    if external_url(PARTS["postgres"]) is not None:  # ours goes as a whole
        pool.close()


@pytest.fixture
def postgres_urls(postgres_pool: PostgresPool) -> Iterator[Callable[[int], list[str]]]:
    """A function that gives so many empty databases; they are emptied after the test, whatever still uses them."""
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(postgres_pool.take(count))


@pytest.fixture
def mariadb_urls(mariadb_server: External) -> Iterator[Callable[[int], list[str]]]:
    """A function that creates so many empty databases; they are dropped after the test."""
    from servers.databases import mariadb_databases

    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(mariadb_databases(mariadb_server.url, count))


@pytest.fixture
def postgres_url(postgres_urls: Callable[[int], list[str]]) -> str:
    """An empty database, as a URL for SQLAlchemy."""
    return postgres_urls(1)[0]


@pytest.fixture
def mariadb_url(mariadb_urls: Callable[[int], list[str]]) -> str:
    """An empty database, as a URL for SQLAlchemy."""
    return mariadb_urls(1)[0]


@pytest.fixture
def zookeeper_url(zookeeper_server: External) -> Iterator[str]:
    """An empty chroot: `zookeeper://host:port/t_...`."""
    from servers.databases import zookeeper_chroot

    with zookeeper_chroot(zookeeper_server.url) as url:
        yield url


def _own(run: Run, name: str) -> Iterator[Callable[[], Server]]:
    with contextlib.ExitStack() as stack:

        def start() -> Server:
            server = run.own(PARTS[name])
            stack.callback(server.remove)
            return server

        yield start


@pytest.fixture
def own_redis(server_run: Run) -> Iterator[Callable[[], Server]]:
    """A function that starts a Redis for this test alone, to be killed, paused and started again."""
    yield from _own(server_run, "redis")


@pytest.fixture
def own_postgres(server_run: Run) -> Iterator[Callable[[], Server]]:
    """A function that starts a PostgreSQL for this test alone."""
    yield from _own(server_run, "postgres")


@pytest.fixture
def own_mariadb(server_run: Run) -> Iterator[Callable[[], Server]]:
    """A function that starts a MariaDB for this test alone."""
    yield from _own(server_run, "mariadb")


@pytest.fixture
def own_zookeeper(server_run: Run) -> Iterator[Callable[[], Server]]:
    """A function that starts a ZooKeeper for this test alone."""
    yield from _own(server_run, "zookeeper")


@pytest.fixture
def own_sentinels(server_run: Run) -> Iterator[Sentinels]:
    """A Redis master, two replicas and three Sentinels for this test alone; ready after about 3 s."""
    from servers.sets import sentinels

    with sentinels(server_run.images("redis"), server_run.labels) as started:
        yield started


@pytest.fixture
def own_cluster(server_run: Run) -> Iterator[Cluster]:
    """A Redis Cluster of three masters and three replicas for this test alone; ready after about 4 s."""
    from servers.sets import cluster

    with cluster(server_run.images("redis"), server_run.labels) as started:
        yield started


@pytest.fixture
def own_ensemble(server_run: Run) -> Iterator[Ensemble]:
    """Three ZooKeeper servers for this test alone; ready after about 3 s."""
    from servers.sets import ensemble

    with ensemble(server_run.images("zookeeper"), server_run.labels) as started:
        yield started
