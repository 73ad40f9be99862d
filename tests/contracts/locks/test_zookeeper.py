"""The contracts of all recipes and of documents on a real ZooKeeper, on both faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import (
    BarrierContract,
    DocumentsContract,
    LatchContract,
    MultiContract,
    MutexContract,
    ReadWriteContract,
    ReentrantContract,
    SegmentedContract,
    SemaphoreContract,
)

SESSION = 40.0
"""A promise of 30 s, the longest ttl of the suites: where a session is shorter, so is every lease."""


class OnZooKeeper:
    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> None:
        self.url = f"{zookeeper_url}?session={SESSION}"

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestMutex(OnZooKeeper, MutexContract): ...


class TestReadWrite(OnZooKeeper, ReadWriteContract): ...


class TestSemaphore(OnZooKeeper, SemaphoreContract): ...


class TestReentrant(OnZooKeeper, ReentrantContract): ...


class TestMulti(OnZooKeeper, MultiContract): ...


class TestSegmented(OnZooKeeper, SegmentedContract): ...


class TestDocuments(OnZooKeeper, DocumentsContract): ...


class TestLatch(OnZooKeeper, LatchContract): ...


class TestBarrier(OnZooKeeper, BarrierContract): ...


class TestMutexOfAClient(MutexContract):
    """A handed-over client, started before: its session is used, and still there afterwards."""

    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> Iterator[None]:
        self.client = KazooClient(zookeeper_url.removeprefix("zookeeper://"), timeout=SESSION)
        self.client.start()
        yield
        assert self.client.connected, "the user's client was stopped"
        self.client.stop()
        self.client.close()

    def connect(self) -> Locks:
        return Locks.connect(self.client, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.client, namespace="contract")
