"""The contracts of all recipes that are claims, over memory, on both faces."""

from __future__ import annotations

import uuid

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import (
    HandOverContract,
    LocksContract,
    MultiContract,
    ReadWriteContract,
    ReentrantContract,
    SegmentedContract,
    SemaphoreContract,
)


class Memory(LocksContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestHandOver(Memory, HandOverContract):
    pass


class TestMulti(Memory, MultiContract):
    pass


class TestReadWrite(Memory, ReadWriteContract):
    pass


class TestReentrant(Memory, ReentrantContract):
    pass


class TestSegmented(Memory, SegmentedContract):
    pass


class TestSemaphore(Memory, SemaphoreContract):
    pass
