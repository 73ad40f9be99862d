"""What operators do, over every store that lets them, on both faces."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from backstay.errors import Misuse
from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import OperationsContract


class _OnUrl:
    url: str

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="operations")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="operations")


class TestMemory(_OnUrl, OperationsContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"


class TestSqlite(_OnUrl, OperationsContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/locks.db"


class TestRedis(_OnUrl, OperationsContract):
    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url


class TestPostgres(_OnUrl, OperationsContract):
    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.url = postgres_url


class TestZooKeeper(_OnUrl, OperationsContract):
    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> None:
        self.url = f"{zookeeper_url}?session=40"


def test_nobody_ends_the_advisory_lock_of_another_session(postgres_url: str) -> None:
    with Locks.connect(f"advisory+{postgres_url}") as locks, locks.mutex("mine") as lease:
        with pytest.raises(Misuse, match="pg_terminate_backend"):
            locks.break_lock("mine", by="alice")
        lease.check()
