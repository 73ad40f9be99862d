"""The contracts of elections, jobs that run once, and stock over ZooKeeper and three databases, on both faces."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import ElectionContract, OnceContract, StockContract

number = itertools.count(1)


class _Store:
    url: str

    def begin(self, url: str) -> None:
        """Take a namespace of its own, once the tables are there: the suites expect nobody to make any."""
        self.url, self.space = url, f"recipes-{next(number)}"
        with Locks.connect(url) as locks, locks.mutex("begin"):
            return

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace=self.space)

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace=self.space)


class _ZooKeeper(_Store):
    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> None:
        self.begin(f"{zookeeper_url}?session=40")


class _Sqlite(_Store):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.begin(f"sqlite:///{tmp_path}/locks.db")


class _Postgres(_Store):
    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.begin(postgres_url)


class _MariaDB(_Store):
    @pytest.fixture(autouse=True)
    def _store(self, mariadb_url: str) -> None:
        self.begin(mariadb_url)


class TestElectionOnZooKeeper(_ZooKeeper, ElectionContract): ...


class TestOnceOnZooKeeper(_ZooKeeper, OnceContract): ...


class TestStockOnZooKeeper(_ZooKeeper, StockContract): ...


class TestElectionOnSqlite(_Sqlite, ElectionContract): ...


class TestOnceOnSqlite(_Sqlite, OnceContract): ...


class TestStockOnSqlite(_Sqlite, StockContract): ...


class TestElectionOnPostgres(_Postgres, ElectionContract): ...


class TestOnceOnPostgres(_Postgres, OnceContract): ...


class TestStockOnPostgres(_Postgres, StockContract): ...


class TestElectionOnMariaDB(_MariaDB, ElectionContract): ...


class TestOnceOnMariaDB(_MariaDB, OnceContract): ...


class TestStockOnMariaDB(_MariaDB, StockContract): ...
