"""The contracts of all recipes and of documents on a real Redis, on both faces."""

from __future__ import annotations

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import ReadWriteContract, SemaphoreContract
from backstay.testing.locks_documents import DocumentsContract
from backstay.testing.locks_gathering import BarrierContract, LatchContract


class OnRedis:
    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestReadWrite(OnRedis, ReadWriteContract): ...


class TestSemaphore(OnRedis, SemaphoreContract): ...


class TestDocuments(OnRedis, DocumentsContract): ...


class TestLatch(OnRedis, LatchContract): ...


class TestBarrier(OnRedis, BarrierContract): ...
