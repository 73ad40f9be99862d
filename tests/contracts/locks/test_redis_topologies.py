"""The contracts of all recipes behind Sentinels and on a Cluster, on both faces: one set of servers for the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import (
    BarrierContract,
    DocumentsContract,
    ElectionContract,
    HandOverContract,
    LatchContract,
    MultiContract,
    MutexContract,
    OnceContract,
    ReadWriteContract,
    ReentrantContract,
    SegmentedContract,
    SemaphoreContract,
    StockContract,
)
from servers.run import Run
from servers.sets import cluster, sentinels

number = itertools.count(1)


@pytest.fixture(scope="module")
def behind_sentinels(server_run: Run) -> Iterator[str]:
    with sentinels(server_run.images("redis"), server_run.labels) as started:
        started.master()
        yield started.url


@pytest.fixture(scope="module")
def on_a_cluster(server_run: Run) -> Iterator[str]:
    with cluster(server_run.images("redis"), server_run.labels) as started:
        yield started.url


class _OnUrl:
    """A namespace each, since the servers are shared."""

    url: str
    space: str

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace=self.space)

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace=self.space)


class OnSentinels(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, behind_sentinels: str) -> None:
        self.url, self.space = behind_sentinels, f"contract-{next(number)}"


class OnCluster(_OnUrl):
    @pytest.fixture(autouse=True)
    def _store(self, on_a_cluster: str) -> None:
        self.url, self.space = on_a_cluster, f"contract-{next(number)}"


class TestBarrierOnSentinels(OnSentinels, BarrierContract): ...


class TestDocumentsOnSentinels(OnSentinels, DocumentsContract): ...


class TestElectionOnSentinels(OnSentinels, ElectionContract): ...


class TestHandOverOnSentinels(OnSentinels, HandOverContract): ...


class TestLatchOnSentinels(OnSentinels, LatchContract): ...


class TestMultiOnSentinels(OnSentinels, MultiContract): ...


class TestMutexOnSentinels(OnSentinels, MutexContract): ...


class TestOnceOnSentinels(OnSentinels, OnceContract): ...


class TestReadWriteOnSentinels(OnSentinels, ReadWriteContract): ...


class TestReentrantOnSentinels(OnSentinels, ReentrantContract): ...


class TestSegmentedOnSentinels(OnSentinels, SegmentedContract): ...


class TestSemaphoreOnSentinels(OnSentinels, SemaphoreContract): ...


class TestStockOnSentinels(OnSentinels, StockContract): ...


class TestBarrierOnCluster(OnCluster, BarrierContract): ...


class TestDocumentsOnCluster(OnCluster, DocumentsContract): ...


class TestElectionOnCluster(OnCluster, ElectionContract): ...


class TestHandOverOnCluster(OnCluster, HandOverContract): ...


class TestLatchOnCluster(OnCluster, LatchContract): ...


class TestMultiOnCluster(OnCluster, MultiContract): ...


class TestMutexOnCluster(OnCluster, MutexContract): ...


class TestOnceOnCluster(OnCluster, OnceContract): ...


class TestReadWriteOnCluster(OnCluster, ReadWriteContract): ...


class TestReentrantOnCluster(OnCluster, ReentrantContract): ...


class TestSegmentedOnCluster(OnCluster, SegmentedContract): ...


class TestSemaphoreOnCluster(OnCluster, SemaphoreContract): ...


class TestStockOnCluster(OnCluster, StockContract): ...
