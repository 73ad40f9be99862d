"""What several can hold, listing and documents on a real Cluster of three masters; one cluster for all of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import redis.cluster

from backstay.blocking import drive
from backstay.locks import AsyncLocks, Locks
from backstay.locks.backends.redis import RedisSource
from backstay.locks.claims import Resource
from backstay.url import parse

NAMES = [f"n{number}" for number in range(12)]  # over all three masters


def hints(url: str) -> None:
    """A change is heard of, whichever node the document is on, in both makes."""
    source = RedisSource.from_url(parse(url), "it", None)
    store, writer = source.blocking(), source.blocking()
    for name in NAMES:
        resource = Resource(name, "latch")
        watch = drive(store.documents.watch(resource, 2.0))
        assert drive(writer.documents.write(resource, "x", 0, None, 2.0)) is not None
        begun = time.monotonic()
        assert drive(watch.wait(5.0))
        assert time.monotonic() - begun < 1.0
        drive(watch.close())

    async def main() -> None:
        tasks = source.asynchronous()
        for name in NAMES:
            resource = Resource(name, "latch")
            found = await tasks.documents.read(resource, 2.0)
            assert found is not None
            watch = await tasks.documents.watch(resource, 2.0)
            waiting = asyncio.create_task(watch.wait(5.0))
            await asyncio.sleep(0.02)
            assert await tasks.documents.write(resource, "y", found.version, None, 2.0) is not None
            assert await asyncio.wait_for(waiting, 1.0)
            await watch.close()
        await tasks.close()

    asyncio.run(main())
    drive(store.close())
    drive(writer.close())


def permits(url: str) -> None:
    """Threads and tasks share the permits of semaphores on all nodes."""
    inside: dict[str, int] = dict.fromkeys(NAMES, 0)
    most: dict[str, int] = dict.fromkeys(NAMES, 0)
    counting = threading.Lock()

    def enter(name: str, by: int) -> None:
        with counting:
            inside[name] += by
            most[name] = max(most[name], inside[name])

    with Locks.connect(url, namespace="it") as locks:

        def work(number: int) -> None:
            for turn in range(10):
                name = NAMES[(number + turn) % len(NAMES)]
                with locks.semaphore(name, permits=2, wait=30.0).several(1 + turn % 2) as lease:
                    enter(name, lease.permits)
                    enter(name, -lease.permits)

        async def tasks() -> None:
            async with AsyncLocks.connect(url, namespace="it") as shared:

                async def one(number: int) -> None:
                    name = NAMES[number % len(NAMES)]
                    async with shared.semaphore(name, permits=2, wait=30.0):
                        enter(name, 1)
                        await asyncio.sleep(0.001)
                        enter(name, -1)

                await asyncio.gather(*(one(number) for number in range(60)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        asyncio.run(tasks())
        for thread in threads:
            thread.join()
    assert set(most.values()) <= {1, 2}
    assert max(most.values()) == 2


def listing(url: str) -> None:
    """What is held is listed whichever node it is on."""
    with Locks.connect(url, namespace="it") as locks:
        store = locks._protocol.backend
        leases: list[Any] = [locks.mutex(name).acquire() for name in NAMES]
        leases += [locks.read_write(name).read().acquire() for name in NAMES]
        held = {Resource(name, kind) for name in NAMES for kind in ("lock", "read-write lock")}
        assert set(drive(store.resources(100, 5.0))) == held
        assert len(drive(store.resources(5, 5.0))) == 5
        for lease in leases:
            lease.release()
        assert drive(store.resources(100, 5.0)) == []


def test_R8_semaphores_documents_and_listing_on_three_masters(own_cluster: Any) -> None:
    hints(own_cluster.url)
    permits(own_cluster.url)
    listing(own_cluster.url)
    with redis.cluster.RedisCluster.from_url(own_cluster.url.replace("+cluster", "").split(",")[0]) as client:
        masters = {client.get_node_from_key(f"backstay:it:{{{name}}}:semaphore:size").name for name in NAMES}
        assert len(masters) == 3, "the names are too few to show anything"
        left = [key for node in client.get_primaries() for key in client.keys("backstay:it:*", target_nodes=node)]
    assert {key.rpartition(b":")[2] for key in left} <= {b"fence", b"size", b"document"}
