"""The contracts of locks over SQLite, PostgreSQL and MariaDB, on both faces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backstay.clock import monotonic
from backstay.locks import AsyncLocks, Locks
from backstay.locks.backends.sql.exchange import Database
from backstay.locks.source import checked_source
from backstay.testing.locks import (
    BarrierContract,
    DocumentsContract,
    HandOverContract,
    LatchContract,
    MultiContract,
    MutexContract,
    ReadWriteContract,
    ReentrantContract,
    SegmentedContract,
    SemaphoreContract,
)
from servers import External
from servers.databases import PostgresPool, mariadb_databases

WARM = 3
number = itertools.count(1)


@pytest.fixture(scope="module")
def postgres_once(postgres_pool: PostgresPool) -> Iterator[str]:
    """One database for all suites, which take a namespace each."""
    with postgres_pool.take(1) as (url,):
        yield begun(url)


@pytest.fixture(scope="module")
def mariadb_once(mariadb_server: External) -> Iterator[str]:
    with mariadb_databases(mariadb_server.url, 1) as (url,):
        yield begun(url)


@pytest.fixture(scope="module")
def sqlite_once(tmp_path_factory: pytest.TempPathFactory) -> str:
    return begun(f"sqlite:///{tmp_path_factory.mktemp('locks')}/locks.db")


def begun(url: str) -> str:
    """Make the tables: the suites measure times in which nobody expects that."""
    with Locks.connect(url) as locks, locks.mutex("begin"):
        return url


class _OnUrl:
    """One database by its URL."""

    def begin(self, url: str) -> None:
        self.url, self.space = url, f"contract-{next(number)}"

    def connect(self) -> Locks:
        source, space = checked_source(self.url, self.space, None, None)
        warmed(source)
        return Locks(source, space)

    def connect_async(self) -> AsyncLocks:
        source, space = checked_source(self.url, self.space, None, None)
        warmed(source)
        return AsyncLocks(source, space)


def warmed(source: Any) -> None:
    """Open some connections at once: the suites give a waiter 60 ms to join its queue, which is short for a login."""
    database: Database = source._database
    pool, until = database.pool, monotonic() + 5.0
    with ThreadPoolExecutor(WARM) as threads:
        for wire in list(threads.map(lambda _: pool.take(until), range(min(WARM, source._size)))):
            pool.give(wire)


class OnSqlite(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, sqlite_once: str) -> None:
        self.begin(sqlite_once)


class OnPostgres(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, postgres_once: str) -> None:
        self.begin(postgres_once)


class OnMariadb(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, mariadb_once: str) -> None:
        self.begin(mariadb_once)


class TestMutexOnSqlite(OnSqlite, MutexContract):
    pass


class TestMutexOnPostgres(OnPostgres, MutexContract):
    pass


class TestMutexOnMariadb(OnMariadb, MutexContract):
    pass


class TestReadWriteOnSqlite(OnSqlite, ReadWriteContract):
    pass


class TestReadWriteOnPostgres(OnPostgres, ReadWriteContract):
    pass


class TestReadWriteOnMariadb(OnMariadb, ReadWriteContract):
    pass


class TestSemaphoreOnSqlite(OnSqlite, SemaphoreContract):
    pass


class TestSemaphoreOnPostgres(OnPostgres, SemaphoreContract):
    pass


class TestSemaphoreOnMariadb(OnMariadb, SemaphoreContract):
    pass


class TestDocumentsOnSqlite(OnSqlite, DocumentsContract):
    pass


class TestDocumentsOnPostgres(OnPostgres, DocumentsContract):
    pass


class TestDocumentsOnMariadb(OnMariadb, DocumentsContract):
    pass


class TestLatchOnSqlite(OnSqlite, LatchContract):
    pass


class TestLatchOnPostgres(OnPostgres, LatchContract):
    pass


class TestLatchOnMariadb(OnMariadb, LatchContract):
    pass


class TestBarrierOnSqlite(OnSqlite, BarrierContract):
    pass


class TestBarrierOnPostgres(OnPostgres, BarrierContract):
    pass


class TestBarrierOnMariadb(OnMariadb, BarrierContract):
    pass


class TestSegmentedOnSqlite(OnSqlite, SegmentedContract):
    pass


class TestSegmentedOnPostgres(OnPostgres, SegmentedContract):
    pass


class TestSegmentedOnMariadb(OnMariadb, SegmentedContract):
    pass


class TestMultiOnPostgres(OnPostgres, MultiContract):
    pass


class TestReentrantOnSqlite(OnSqlite, ReentrantContract):
    pass


class TestMultiOnSqlite(OnSqlite, MultiContract):
    pass


class TestMultiOnMariadb(OnMariadb, MultiContract):
    pass


class TestReentrantOnPostgres(OnPostgres, ReentrantContract):
    pass


class TestReentrantOnMariadb(OnMariadb, ReentrantContract):
    pass


class TestHandOverOnSqlite(OnSqlite, HandOverContract):
    pass


class TestHandOverOnPostgres(OnPostgres, HandOverContract):
    pass


class TestHandOverOnMariadb(OnMariadb, HandOverContract):
    pass
