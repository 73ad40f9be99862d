"""The mutex contract over memory and a real Redis, on both faces."""

from __future__ import annotations

import uuid

import pytest
import redis
import redis.asyncio

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import MutexContract


class TestMemory(MutexContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestRedis(MutexContract):
    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestRedisClient(MutexContract):
    """Handed-over clients, each to the other colour, with settings that would break a naive copy (R12)."""

    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url

    def connect(self) -> Locks:
        return Locks.connect(redis.asyncio.Redis.from_url(self.url, decode_responses=True), namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(redis.Redis.from_url(self.url, protocol=3, encoding="utf-16"), namespace="contract")
