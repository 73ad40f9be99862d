"""Hundreds who wait for one lock, and tasks that are cancelled wherever they are, on a real Redis."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from backstay.errors import NotAcquired
from backstay.locks import AsyncLocks, LockLost
from backstay.locks.claims import READ, WRITE, permits
from backstay.testing.history import History
from backstay.testing.linearizability import check

WAITERS = 500


def living(server: Any) -> list[str]:
    """Return the keys that nobody should leave: all but fences, sizes, and tombstones, which expire."""
    keys = [key.decode() for key in server.scan_iter("backstay:*")]
    return [key for key in keys if not key.endswith((":fence", ":size")) and ":gone" not in key]


def jain(shares: list[int]) -> float:
    """Return Jain's index of fairness: 1 where all have the same share, 1/n where one has all."""
    total = sum(shares)
    return total * total / (len(shares) * sum(share * share for share in shares))


def test_W6_500_waiters_are_served_in_turn_and_cost_two_scripts_each(own_redis: Callable[[], Any]) -> None:
    server = own_redis()
    history = History()
    served: Counter[int] = Counter()

    async def wait(locks: AsyncLocks, number: int, until: float) -> None:
        me = history.client(f"task-{number}")
        while time.monotonic() < until:
            with me.acquiring("x", ttl=30.0) as attempt:
                lease = attempt.won(await locks.mutex("x", ttl=30.0, wait=60.0).acquire())
            served[number] += 1
            with attempt.releasing():
                await lease.release()

    async def main() -> tuple[int, float]:
        async with AsyncLocks.connect(server.url, namespace="crowd") as locks:
            first = await locks.mutex("x", ttl=30.0).acquire()
            until = time.monotonic() + 4.0
            tasks = [asyncio.create_task(wait(locks, number, until)) for number in range(WAITERS)]
            while client.llen("backstay:crowd:{x}:queue") < WAITERS:
                await asyncio.sleep(0.02)
            client.config_resetstat()
            began = time.monotonic()
            await first.release()
            await asyncio.gather(*tasks)
            return scripts(), time.monotonic() - began

    def scripts() -> int:
        stats: Any = client.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    with redis.Redis.from_url(server.url) as client:
        called, took = asyncio.run(main())
        grants = sum(served.values())
        assert len(served) == WAITERS
        assert grants >= 2 * WAITERS
        beats = WAITERS * (took / 1.6 + 1)  # each waiter says now and then that it lives
        assert called <= 2.1 * grants + beats, f"{called} scripts for {grants} grants in {took:.1f} s"
        assert jain([served[number] for number in range(WAITERS)]) >= 0.99
        assert living(client) == []
        assert client.pubsub_channels("backstay:*") == []
    verdict = check(history.events())
    assert verdict.linearizable, verdict


def test_F1_500_waiters_get_fences_in_the_order_of_their_grants(own_redis: Callable[[], Any]) -> None:
    """The same crowd from one queue: who joined first is served first, but for those that joined within a moment."""
    server = own_redis()
    order: list[int] = []
    fences: list[int] = []

    async def wait(locks: AsyncLocks, number: int) -> None:
        async with locks.mutex("x", ttl=30.0, wait=60.0) as lease:
            order.append(number)
            fences.append(lease.fence)

    async def main() -> None:
        async with AsyncLocks.connect(server.url, namespace="crowd") as locks:
            tasks = []
            async with locks.mutex("x", ttl=30.0):
                for number in range(WAITERS):
                    tasks.append(asyncio.create_task(wait(locks, number)))
                    if number % 50 == 49:
                        while client.llen("backstay:crowd:{x}:queue") <= number:
                            await asyncio.sleep(0.005)
            await asyncio.gather(*tasks)

    with redis.Redis.from_url(server.url) as client:
        asyncio.run(main())
    assert fences == sorted(fences)
    assert [number // 50 for number in order] == [number // 50 for number in range(WAITERS)]


Take = Callable[[AsyncLocks], Awaitable[Any]]

TAKES: dict[str, tuple[Take, Any]] = {
    "mutex": (lambda locks: locks.mutex("x", ttl=60.0, wait=5.0).acquire(), WRITE),
    "reentrant": (lambda locks: locks.mutex("x", ttl=60.0, wait=5.0, reentrant=True).acquire(), WRITE),
    "read": (lambda locks: locks.read_write("x", ttl=60.0, wait=5.0).read().acquire(), READ),
    "write": (lambda locks: locks.read_write("x", ttl=60.0, wait=5.0).write().acquire(), WRITE),
    "semaphore": (lambda locks: locks.semaphore("x", permits=3, ttl=60.0, wait=5.0).acquire(2), permits(2, 3)),
    "segmented": (lambda locks: locks.segmented("x", segments=4, ttl=60.0, wait=5.0).whole().acquire(), WRITE),
}


@pytest.mark.parametrize("recipe", TAKES)
def test_C9_O7_tasks_cancelled_anywhere_leave_nothing_behind(recipe: str, redis_url: str) -> None:
    """The time-to-live is longer than the test: nothing here is tidied up by an expiry."""
    take, claim = TAKES[recipe]
    chance, history = random.Random(recipe), History()

    async def work(locks: AsyncLocks, number: int) -> None:
        me = history.client(f"task-{number}")
        for _ in range(3):
            with me.acquiring(recipe, claim, ttl=60.0) as attempt:
                lease = attempt.won(await take(locks))
            try:
                await asyncio.sleep(chance.uniform(0.0, 0.002))
            finally:
                with attempt.releasing():
                    await lease.release()

    async def main() -> int:
        cancelled = 0
        async with AsyncLocks.connect(redis_url, namespace="cancel") as locks:
            for round_ in range(12):
                tasks = [asyncio.create_task(work(locks, round_ * 10 + number)) for number in range(10)]
                for task in chance.sample(tasks, 7):
                    await asyncio.sleep(chance.uniform(0.0, 0.004))
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                bad = [each for each in outcomes if each is not None and not isinstance(each, asyncio.CancelledError)]
                assert bad == []
                cancelled += sum(isinstance(each, asyncio.CancelledError) for each in outcomes)
                with redis.Redis.from_url(redis_url) as client:
                    assert living(client) == [], f"round {round_}"
            lease = await take(locks)
            await lease.release()
        return cancelled

    assert asyncio.run(main()) > 20
    verdict = check(history.events())
    assert verdict.violations == (), verdict


def test_O7_a_cancelled_hold_is_given_back_before_the_cancellation_goes_on(redis_url: str) -> None:
    async def main() -> None:
        async with AsyncLocks.connect(redis_url, namespace="cancel") as locks:
            inside = asyncio.Event()

            async def hold() -> None:
                async with locks.mutex("y", ttl=60.0):
                    inside.set()
                    await asyncio.sleep(60.0)

            task = asyncio.create_task(hold())
            await inside.wait()
            with pytest.raises(NotAcquired):
                await locks.mutex("y", wait=0.0).acquire()
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            lease = await locks.mutex("y", wait=0.0).acquire()
            await lease.release()

    asyncio.run(main())


def test_T1_Q1_wall_clocks_that_jump_an_hour_change_nothing(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder's clock goes an hour ahead, the waiter's an hour back; renewals, hand-over and losses are as ever."""
    offset = [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    async def main() -> None:
        async with AsyncLocks.connect(redis_url, namespace="jump") as locks:
            lease = await locks.mutex("x", ttl=1.0).acquire()
            offset[0] = 3600.0
            waiter = asyncio.create_task(locks.mutex("x", ttl=1.0, wait=10.0).acquire())
            await asyncio.sleep(1.5)
            lease.check()
            assert not waiter.done(), "it was renewed"
            offset[0] = -3600.0
            await asyncio.sleep(0.5)
            lease.check()
            began = time.monotonic()
            await lease.release()
            mine = await waiter
            assert time.monotonic() - began < 0.5
            assert mine.fence > lease.fence
            offset[0] = 3600.0
            with redis.Redis.from_url(redis_url) as client:
                client.delete("backstay:jump:{x}:owner")
            assert await mine.lost.wait(3.0)
            with pytest.raises(LockLost):
                await mine.release()

    asyncio.run(main())
