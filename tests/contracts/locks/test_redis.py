"""The contracts of all recipes and of documents on a real Redis, on both faces."""

from __future__ import annotations

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import (
    BarrierContract,
    DocumentsContract,
    ElectionContract,
    HandOverContract,
    LatchContract,
    MultiContract,
    OnceContract,
    ReadWriteContract,
    ReentrantContract,
    SegmentedContract,
    SemaphoreContract,
    StockContract,
)


class OnRedis:
    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestBarrier(OnRedis, BarrierContract): ...


class TestDocuments(OnRedis, DocumentsContract): ...


class TestElection(OnRedis, ElectionContract): ...


class TestHandOver(OnRedis, HandOverContract): ...


class TestLatch(OnRedis, LatchContract): ...


class TestMulti(OnRedis, MultiContract): ...


class TestOnce(OnRedis, OnceContract): ...


class TestReadWrite(OnRedis, ReadWriteContract): ...


class TestReentrant(OnRedis, ReentrantContract): ...


class TestSegmented(OnRedis, SegmentedContract): ...


class TestSemaphore(OnRedis, SemaphoreContract): ...


class TestStock(OnRedis, StockContract): ...
