"""The contracts of locks over SQLite, PostgreSQL and MariaDB, on both faces."""

from __future__ import annotations

from pathlib import Path

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import MutexContract


class _OnUrl:
    """One database by its URL."""

    url: str

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class OnSqlite(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/locks.db"


class OnPostgres(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.url = postgres_url


class OnMariadb(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, mariadb_url: str) -> None:
        self.url = mariadb_url


class TestMutexOnSqlite(OnSqlite, MutexContract):
    pass


class TestMutexOnPostgres(OnPostgres, MutexContract):
    pass


class TestMutexOnMariadb(OnMariadb, MutexContract):
    pass
