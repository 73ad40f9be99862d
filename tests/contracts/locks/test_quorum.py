"""The mutex's contract on three real, independent Redis masters, on both faces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from backstay.errors import NotAcquired
from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import HandOverContract, MultiContract, MutexContract, ReentrantContract
from backstay.testing.locks.faces import LONG, Face, queued
from servers.parts import PARTS
from servers.run import Run
from servers.server import Server


class OnQuorum:
    @pytest.fixture(autouse=True)
    def _store(self, own_masters: list[Server]) -> None:
        for server in own_masters:
            redis.Redis.from_url(server.url).flushall()
        self.url = "redis+quorum://" + ",".join(f"{each.host}:{each.port}" for each in own_masters) + "/0"

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")


class TestQuorum(OnQuorum, MutexContract):
    def test_Q5_first_come_first_served(self, face: str) -> None:
        """Masters that vote keep no queue: all who wait get it, in any order."""

        async def work(locks: Face) -> None:
            order: list[int] = []

            async def waiter(number: int) -> None:
                lease = await locks.acquire("q5", wait=LONG)
                order.append(number)
                await locks.release(lease)

            lease = await locks.acquire("q5", ttl=LONG)
            waiters = [asyncio.create_task(waiter(number)) for number in range(5)]
            await queued(waiters[-1])
            assert order == []
            await locks.release(lease)
            await asyncio.gather(*waiters)
            assert sorted(order) == [0, 1, 2, 3, 4]

        self.run(face, work)


class TestReentrantOnQuorum(OnQuorum, ReentrantContract):
    pass


class TestMultiOnQuorum(OnQuorum, MultiContract):
    pass


class TestHandOverOnQuorum(OnQuorum, HandOverContract):
    pass


class TestOtherMastersOfTheSameClients(OnQuorum):
    """What is connected to by clients meets what is connected to by a URL."""

    def test_a_list_of_clients_and_a_url_are_one_store(self, own_masters: list[Server]) -> None:
        clients: list[Any] = [redis.Redis(host=each.host, port=each.port) for each in own_masters]
        with self.connect() as by_url, Locks.connect(clients, namespace="contract") as by_clients:
            lease = by_url.mutex("same", ttl=LONG).acquire()
            with pytest.raises(NotAcquired, match="'same' is held by"):
                by_clients.mutex("same", wait=0.0).acquire()
            lease.release()
            later = by_clients.mutex("same", wait=0.0).acquire()
            assert later.fence > lease.fence
            later.release()


@pytest.fixture(scope="module")
def own_masters(server_run: Run) -> Iterator[list[Server]]:
    """Three servers that know nothing of each other, shared by the tests of this file."""
    with contextlib.ExitStack() as ending:
        servers: list[Server] = []
        for _ in range(3):
            server = server_run.own(PARTS["redis"])
            ending.callback(server.remove)
            servers.append(server)
        yield servers
