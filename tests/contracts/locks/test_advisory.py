"""The contracts of locks over PostgreSQL's advisory locks, on both faces."""

from __future__ import annotations

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import MultiContract, MutexContract, ReadWriteContract, ReentrantContract


class OnAdvisory:
    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.url = f"advisory+{postgres_url}"
        with self.connect() as locks, locks.mutex("warm"):
            pass

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestMutexOnAdvisory(OnAdvisory, MutexContract):
    pass


class TestReadWriteOnAdvisory(OnAdvisory, ReadWriteContract):
    pass


class TestReentrantOnAdvisory(OnAdvisory, ReentrantContract):
    pass


class TestMultiOnAdvisory(OnAdvisory, MultiContract):
    pass
