"""The contracts over a real ZooKeeper, on both faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import MutexContract


class TestMutex(MutexContract):
    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> None:
        self.url = f"{zookeeper_url}?session=40"  # a promise of 30 s: the longest ttl of the suite

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestMutexOfAClient(MutexContract):
    """A handed-over client, started before: its session is used, and still there afterwards."""

    @pytest.fixture(autouse=True)
    def _store(self, zookeeper_url: str) -> Iterator[None]:
        self.client = KazooClient(zookeeper_url.removeprefix("zookeeper://"), timeout=40.0)
        self.client.start()
        yield
        assert self.client.connected, "the user's client was stopped"
        self.client.stop()
        self.client.close()

    def connect(self) -> Locks:
        return Locks.connect(self.client, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.client, namespace="contract")
