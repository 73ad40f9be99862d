"""The mutex on Redis beside two plain EVALSHA, the hand-off beside a BLPOP token, and redis-py's lock beside both.

With `BACKSTAY_TEST_REDIS_URL` the server there is measured, else a container. For the steadiest ratio pin the
server to the core of `--cpu`.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import redis
import redis.asyncio

import servers
from backstay.locks import AsyncLocks, Locks

from .harness import Case

# What a lock cannot do without: take with a token, an expiry and a fence; compare and delete.
TAKE = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return redis.call('incr', KEYS[2]) end
return false
"""
GIVE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def cases() -> Iterator[Case]:
    with servers.running("redis") as addresses:
        url = addresses["redis"]
        yield from _uncontended(url)
        yield from _in_asyncio(url)
        yield from _memory()
        yield from _hand_off(url)
    with servers.running("zookeeper") as addresses:
        yield from _zookeeper(addresses["zookeeper"])
    yield from _quorum()


def _uncontended(url: str) -> Iterator[Case]:
    client = redis.Redis.from_url(url)
    take, give = client.script_load(TAKE), client.script_load(GIVE)

    def floor() -> None:
        token = uuid.uuid4().hex
        client.evalsha(take, 2, "bench:floor", "bench:fence", token, 10_000)
        client.evalsha(give, 1, "bench:floor", token)

    def peer() -> None:
        with client.lock("bench:peer", timeout=10):
            pass

    with Locks.connect(url, namespace="bench") as locks:

        def ours() -> None:
            with locks.mutex("one", renew=False):
                pass

        def renewed() -> None:
            with locks.mutex("one"):
                pass

        yield Case(
            name="Redis mutex, fenced",
            floor=floor,
            ours=ours,
            target=1.10,
            peer=peer,
            peer_name="redis-py Lock",
            peer_target=0.90,
        )
        yield Case(name="Redis mutex, fenced and renewed", floor=floor, ours=renewed, target=1.15)
        book, gpus = locks.read_write("book", renew=False), locks.semaphore("gpu", permits=4, renew=False)
        stock = locks.segmented("stock", segments=16, renew=False)
        for what, section in {
            "read lock": book.read(),
            "write lock": book.write(),
            "one of four permits": gpus,
            "two of 16 stripes": stock.lock("a", "b"),
        }.items():
            yield Case(name=f"Redis {what}", floor=floor, ours=partial(_once, section))
    client.close()


def _once(section: Any) -> None:
    with section:
        pass


def _in_asyncio(url: str) -> Iterator[Case]:
    # The harness runs a case in one loop; what belongs to the loop is made on the first call in it.
    made: dict[str, Any] = {}
    locks = AsyncLocks.connect(url, namespace="bench")

    async def client() -> Any:
        if "client" not in made:
            made["client"] = redis.asyncio.Redis.from_url(url)
            made["take"] = await made["client"].script_load(TAKE)
            made["give"] = await made["client"].script_load(GIVE)
        return made["client"]

    async def floor() -> None:
        server, token = await client(), uuid.uuid4().hex
        await server.evalsha(made["take"], 2, "bench:floor", "bench:fence", token, 10_000)
        await server.evalsha(made["give"], 1, "bench:floor", token)

    async def ours() -> None:
        async with locks.mutex("one"):
            pass

    async def peer() -> None:
        async with (await client()).lock("bench:peer", timeout=10):
            pass

    yield Case(
        name="Redis mutex, asyncio",
        floor=floor,
        ours=ours,
        target=1.10,
        peer=peer,
        peer_name="redis.asyncio Lock",
        peer_target=0.95,
    )


def _memory() -> Iterator[Case]:
    import threading

    plain = threading.Lock()

    def floor() -> None:
        with plain:
            pass

    with Locks.connect("memory://bench", namespace="bench") as locks:

        def ours() -> None:
            with locks.mutex("one"):
                pass

        yield Case(name="memory mutex, beside threading.Lock", floor=floor, ours=ours, clock="cpu")


# -- hand-off: four processes that want the same lock; the time from a release to the next acquire


def _by_token(url: str, turns: int, ready: Any) -> list[tuple[float, float]]:
    client = redis.Redis.from_url(url)
    ready.wait()
    held: list[tuple[float, float]] = []
    for _ in range(turns):
        client.blpop(["bench:token"], timeout=20)
        got = time.monotonic()
        held.append((got, time.monotonic()))
        client.rpush("bench:token", "x")
    return held


def _by_mutex(url: str, turns: int, ready: Any) -> list[tuple[float, float]]:
    locks = Locks.connect(url, namespace="bench")
    ready.wait()
    held: list[tuple[float, float]] = []
    for _ in range(turns):
        with locks.mutex("hand", wait=20.0):
            got = time.monotonic()
            held.append((got, time.monotonic()))
    return held


def _contend(work: Callable[..., list[tuple[float, float]]], url: str, turns: int) -> float:
    """Let four processes hand a lock round; return the median time of a hand-off between two of them, in seconds."""
    methods = multiprocessing.get_context("fork")
    with methods.Manager() as shared, methods.Pool(4) as pool:
        ready = shared.Barrier(4)
        runs = pool.starmap(work, [(url, turns, ready)] * 4)
    holds = sorted((got, left, who) for who, run in enumerate(runs) for got, left in run)
    overlaps = [one for one, two in itertools.pairwise(holds) if two[0] < one[1]]
    if overlaps:
        raise AssertionError(f"{len(overlaps)} overlapping holds")
    waits = [two[0] - one[1] for one, two in itertools.pairwise(holds) if one[2] != two[2]]
    return statistics.median(waits[len(waits) // 10 :])


def _hand_off(url: str) -> Iterator[Case]:
    client = redis.Redis.from_url(url)

    def floor(n: int) -> float:
        client.delete("bench:token")
        client.rpush("bench:token", "x")
        return _contend(_by_token, url, max(40, n // 4)) * n  # n hand-offs, each at the median's time

    def ours(n: int) -> float:
        return _contend(_by_mutex, url, max(40, n // 4)) * n

    yield Case(
        name="hand-off between 4 processes, p50", floor=floor, ours=ours, target=1.60, timed=True, batch_seconds=0.1
    )
    client.close()


# -- ZooKeeper: the recipe by hand, and kazoo's own lock, which is kept as its users keep it


def _zookeeper(url: str) -> Iterator[Case]:
    from kazoo.client import KazooClient

    client = KazooClient(url.removeprefix("zookeeper://"))
    client.start()
    client.ensure_path("/bench/floor")

    def floor() -> None:
        node = client.create("/bench/floor/lock-", ephemeral=True, sequence=True)
        client.get_children("/bench/floor")
        client.delete(node)

    kept = client.Lock("/bench/peer")

    def peer() -> None:
        with kept:
            pass

    with Locks.connect(url, namespace="bench") as locks:

        def ours() -> None:
            with locks.mutex("one"):
                pass

        yield Case(
            name="ZooKeeper mutex, fenced and renewed",
            floor=floor,
            ours=ours,
            target=1.00,
            peer=peer,
            peer_name="kazoo Lock, kept",
            peer_target=0.90,
            batch_seconds=0.1,
        )
        yield from _zookeeper_hand_off(client, locks)
    client.stop()
    client.close()


def _zookeeper_hand_off(client: Any, locks: Locks) -> Iterator[Case]:
    """Eight threads hand a lock round; a session each for the recipe and for kazoo would only make them slower."""
    import threading

    def by_recipe(turn: Callable[[], object]) -> None:
        mine = client.create("/bench/floor/lock-", ephemeral=True, sequence=True).rpartition("/")[2]
        while True:
            before = [node for node in sorted(client.get_children("/bench/floor")) if node < mine]
            if not before:
                break
            gone = threading.Event()
            if client.exists(f"/bench/floor/{before[-1]}", watch=lambda _, gone=gone: gone.set()) is not None:
                gone.wait()
        turn()
        client.delete(f"/bench/floor/{mine}")

    def by_kazoo(turn: Callable[[], object]) -> None:
        with client.Lock("/bench/peer"):
            turn()

    def by_ours(turn: Callable[[], object]) -> None:
        with locks.mutex("hand", wait=60.0):
            turn()

    def passing(once: Callable[[Callable[[], object]], None]) -> Callable[[int], float]:
        def run(n: int) -> float:
            turns = max(5, n // 8)
            moments: list[float] = []

            def work() -> None:
                for _ in range(turns):
                    once(lambda: moments.append(time.perf_counter()))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            gaps = [two - one for one, two in itertools.pairwise(moments)]
            return statistics.median(gaps) * n

        return run

    yield Case(
        name="hand-off between 8 threads, ZooKeeper, p50",
        floor=passing(by_recipe),
        ours=passing(by_ours),
        target=1.10,
        peer=passing(by_kazoo),
        peer_name="kazoo Lock, new",
        peer_target=1.00,
        timed=True,
        batch_seconds=0.1,
    )


# -- three independent masters: two rounds of questions from one thread, and pottery's Redlock


def _quorum() -> Iterator[Case]:
    from servers.parts import PARTS
    from servers.run import Run

    run = Run.begin()
    try:
        yield from _of_masters([run.own(PARTS["redis"]).url for _ in range(3)])
    finally:
        run.end()


def _of_masters(urls: list[str]) -> Iterator[Case]:
    from pottery import Redlock

    clients = [redis.Redis.from_url(url) for url in urls]
    for client in clients:
        client.config_set("appendonly", "no")  # the disk is not what is compared
    take, give = clients[0].script_load(TAKE), clients[0].script_load(GIVE)
    for client in clients[1:]:
        client.script_load(TAKE), client.script_load(GIVE)
    lines: list[Any] = [client.connection_pool.get_connection() for client in clients]

    def ask_all(*command: Any) -> None:
        for line in lines:
            line.send_command(*command)
        for line in lines:
            line.read_response()

    def floor() -> None:
        token = uuid.uuid4().hex
        ask_all("EVALSHA", take, 2, "bench:floor", "bench:fence", token, 10_000)
        ask_all("EVALSHA", give, 1, "bench:floor", token)

    shared = Redlock(key="bench:peer", masters=set(clients), auto_release_time=10)

    def peer() -> None:
        with shared:
            pass

    masters = ",".join(url.removeprefix("redis://").partition("/")[0] for url in urls)
    time.sleep(3.0)  # masters without a disk do not vote as long as they may have forgotten something
    with (
        Locks.connect(f"redis+quorum://{masters}/0?max_ttl=1&fence=no", namespace="bench") as plain,
        Locks.connect(f"redis+quorum://{masters}/0?max_ttl=1", namespace="bench") as fenced,
    ):

        def ours() -> None:
            with plain.mutex("one", ttl=1.0, renew=False):
                pass

        def with_fence() -> None:
            with fenced.mutex("two", ttl=1.0, renew=False):
                pass

        yield Case(
            name="quorum of three masters, no fence",
            floor=floor,
            ours=ours,
            target=1.20,
            peer=peer,
            peer_name="pottery Redlock",
            peer_target=0.21,
        )
        yield Case(name="quorum of three masters, fenced: three rounds", floor=floor, ours=with_fence)


def main() -> None:
    """Print hand-offs alone, quickly: `python -m benchmarks.bench_locks redis://...`."""
    import sys

    for work in (_by_token, _by_mutex, _by_token, _by_mutex):
        client = redis.Redis.from_url(sys.argv[1])
        client.delete("bench:token")
        client.rpush("bench:token", "x")
        print(work.__name__, f"{_contend(work, sys.argv[1], 500) * 1e6:.0f} us")
        client.close()


if __name__ == "__main__":
    asyncio.run(asyncio.to_thread(main))
