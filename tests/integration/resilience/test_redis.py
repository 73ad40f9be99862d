"""The limiter on a real Redis: server stamps, threads and processes, forgotten scripts, forks (RL-1, RL-3, RL-5)."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import redis

from backstay.errors import Misuse, RateLimited
from backstay.redis import target
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter, disconnect, protect
from backstay.resilience.rate_limiting.backends.redis import AsyncRedisBuckets, RedisBuckets, Store
from backstay.resilience.rate_limiting.backends.redis.node import Node
from backstay.testing import measured
from unit.resilience.oracle import Oracle
from unit.resilience.test_exactness import assert_law

BUDGET = 5.0  # tests of what is decided, not of how soon

Log = list[tuple[int, int, int]]
"""(server microseconds, cost, whether it was admitted)"""


class Recording(Store):
    """A store that keeps each answer with its cost, for the replay on the server's own stamps."""

    log: Log
    cost = 1

    def _answer(self, reply: Any, node: Node | None = None) -> list[int] | None:
        answer = super()._answer(reply, node)
        if answer is not None:
            self.log.append((answer[3], self.cost, answer[0]))
        return answer


def recording(url: str) -> Recording:
    store = Recording(target(url), budget=BUDGET)
    store.log = []
    return store


def replay(rate: Rate, log: Log) -> None:
    """Check every decision against the bucket in fractions, in the order in which the server made them."""
    oracle = Oracle(rate)
    for stamp, cost, status in log:
        allowed, _ = oracle.charge(Fraction(stamp, 1_000_000), cost)
        assert allowed == (status == 1)


@pytest.mark.parametrize("text", ["7 per 60 second;burst=40", "997/second;burst=7", "100/second;burst=10", "1/second"])
def test_RL1_decisions_equal_those_of_the_fractions_at_the_servers_stamps(redis_url: str, text: str) -> None:
    rate = Rate.of(text)
    store = recording(redis_url)
    buckets = RedisBuckets(store, rate, namespace="it", name="exact")
    for number in range(400):
        store.cost = 1 + number % min(5, rate.capacity)
        buckets.charge("k", store.cost)
    replay(rate, store.log)
    assert 0 < sum(status for _, _, status in store.log) < 400
    assert_law(rate, [(stamp, cost) for stamp, cost, status in store.log if status == 1])


def test_RL2_a_saturating_client_gets_all_that_is_due(redis_url: str) -> None:
    """P1: elsewhere, 1000/s with burst 100 admitted 5,000 of 5,000 in 0.3 s."""
    rate = Rate.of("1000/second;burst=100")
    store = recording(redis_url)
    buckets = RedisBuckets(store, rate, namespace="it", name="p1")
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        buckets.charge("k", 1)
    assert_nothing_lost(rate, store.log)


def charge_in_threads(url: str, text: str, threads: int, attempts: int) -> Log:
    """One process of RL-3: threads, and tasks of one loop, on one key."""
    store = recording(url)
    buckets = RedisBuckets(store, Rate.of(text), namespace="it", name="law")
    asynchronous = AsyncRedisBuckets(store, Rate.of(text), namespace="it", name="law")

    def work() -> None:
        for _ in range(attempts):
            buckets.charge("k", 1)

    async def task() -> None:
        for _ in range(attempts):
            await asynchronous.charge("k", 1)

    async def tasks() -> None:
        await asyncio.gather(*(task() for _ in range(threads)))
        await store.aclose()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    workers.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store.close()
    return store.log


def law_of_many(url: str, processes: int, threads: int, attempts: int) -> None:
    text = "7000/second;burst=50"
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        logs = pool.starmap(charge_in_threads, [(url, text, threads, attempts)] * processes)
    merged = sorted(entry for log in logs for entry in log)
    rate = Rate.of(text)
    assert len(merged) == processes * threads * attempts * 2
    assert_law(rate, [(stamp, cost) for stamp, cost, status in merged if status == 1])
    assert_nothing_lost(rate, merged)


def assert_nothing_lost(rate: Rate, log: Log) -> None:
    """Check that what the law allows came through, but for what a full bucket could not hold and what is left in it.

    A busy machine makes clients pause, so a bucket does fill up now and then.
    """
    oracle = Oracle(rate)
    overflow = Fraction(0)
    for stamp, cost, _ in log:
        now = Fraction(stamp, 1_000_000)
        if oracle.at:
            overflow += max(Fraction(0), oracle.tokens + (now - oracle.at) * oracle.per_second - oracle.capacity)
        oracle.charge(now, cost)
    passed = Fraction((log[-1][0] - log[0][0]) * rate.count, rate.period_us)
    admitted = sum(cost for _, cost, status in log if status == 1)
    assert abs(admitted - (rate.capacity + passed - overflow - oracle.tokens)) <= 1


def test_RL3_threads_tasks_and_processes_keep_the_law_on_one_key(redis_url: str) -> None:
    law_of_many(redis_url, processes=2, threads=8, attempts=300)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_RL3_a_hundred_thousand_attempts_twenty_times(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    for _ in range(20):
        client.flushdb()
        law_of_many(redis_url, processes=4, threads=16, attempts=782)
    client.close()


def test_RL5_one_key_with_the_time_to_full_as_its_life(redis_url: str) -> None:
    with (
        RateLimiter.connect(redis_url, rate="1/minute", name="ttl", namespace="it", budget=BUDGET) as limiter,
        redis.Redis.from_url(redis_url) as client,
    ):
        limiter.acquire("k")
        assert client.keys() == [b"backstay:it:limit:1:{ttl:k}"]
        assert 59_000 < client.pttl("backstay:it:limit:1:{ttl:k}") <= 60_000
        assert client.memory_usage("backstay:it:limit:1:{ttl:k}") < 200
        fast = RateLimiter.connect(redis_url, rate="100/second", name="fast", namespace="it", budget=BUDGET)
        fast.acquire("k")
        deadline = time.monotonic() + 5
        while client.exists("backstay:it:limit:1:{fast:k}") and time.monotonic() < deadline:
            time.sleep(0.002)
        assert time.monotonic() < deadline  # a full bucket needs no key


def test_RL7_script_flush_loses_no_call_on_either_face(redis_url: str) -> None:
    with (
        RateLimiter.connect(redis_url, rate="100/hour", name="flush", namespace="it", budget=BUDGET) as limiter,
        redis.Redis.from_url(redis_url) as client,
    ):

        async def main() -> list[int]:
            remaining = []
            async with AsyncRateLimiter.connect(
                redis_url, rate="100/hour", name="flush", namespace="it", budget=BUDGET
            ) as asynchronous:
                for _ in range(3):
                    remaining.append((await asynchronous.try_acquire("k")).remaining)
                    client.script_flush()
                    remaining.append(limiter.try_acquire("k").remaining)
                    client.script_flush()
            return remaining

        assert asyncio.run(main()) == [99, 98, 97, 96, 95, 94]


def test_a_clients_settings_are_used_and_the_client_left_alone(redis_url: str) -> None:
    for client in (redis.Redis.from_url(redis_url), redis.asyncio.Redis.from_url(redis_url)):
        limiter = RateLimiter.connect(client, rate="1/hour", name=type(client).__module__, budget=BUDGET)
        limiter.acquire("k")
        with pytest.raises(RateLimited):
            limiter.acquire("k")
        limiter.close()
        assert (
            client.connection_pool._created_connections == 0
            if hasattr(client.connection_pool, "_created_connections")
            else True
        )


def test_a_client_that_cannot_write_is_refused() -> None:
    untyped: Any = redis.sentinel
    replicas = untyped.Sentinel([("127.0.0.1", 1)]).slave_for("primary")
    for client in (replicas, object(), 7):
        with pytest.raises(Misuse):
            RateLimiter.connect(client, rate="1/hour", name="refused")


def test_passwords_are_used_and_never_shown(own_redis: Any) -> None:
    server = own_redis()
    with redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser("shop", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
    host = server.url.split("://")[1]
    right = f"redis://shop:s3cret@{host}"
    with RateLimiter.connect(right, rate="1/hour", name="acl", on_store_failure="closed", budget=BUDGET) as limiter:
        limiter.acquire("k")
    wrong = RateLimiter.connect(
        f"redis://shop:wr0ng@{host}", rate="1/hour", name="acl", on_store_failure="closed", budget=BUDGET
    )
    with pytest.raises(Exception, match="WRONGPASS") as refusal:
        wrong.acquire("k")
    shown = f"{refusal.value!r} {refusal.value.__cause__!r} {limiter!r} {target(right)!r} {target(right)}"
    assert "s3cret" not in shown
    assert "wr0ng" not in shown


def test_a_forked_child_uses_connections_of_its_own(redis_url: str) -> None:
    limiter = RateLimiter.connect(redis_url, rate="1000/hour", name="fork", budget=BUDGET, on_store_failure="closed")
    limiter.acquire("k")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(50):
                    limiter.acquire("k")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for _ in range(50):
        limiter.acquire("k")
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert 1000 - limiter.try_acquire("k").remaining in {252, 253}  # some came back meanwhile: 0.28 a second
    limiter.close()


def test_one_limiter_serves_several_event_loops(redis_url: str) -> None:
    """AS-4: loops one after the other, and two at a time in threads."""
    limiter = AsyncRateLimiter.connect(redis_url, rate="1000/hour", name="loops", budget=BUDGET)

    async def some() -> None:
        await asyncio.gather(*(limiter.acquire("k") for _ in range(20)))
        await limiter.close()

    for _ in range(3):
        asyncio.run(some())
    threads = [threading.Thread(target=asyncio.run, args=(some(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def left() -> int:
        try:
            return (await limiter.try_acquire("k")).remaining
        finally:
            await limiter.close()

    assert asyncio.run(left()) in {899, 900}


def test_a_thousand_tasks_share_a_handful_of_round_trips(redis_url: str) -> None:
    async def main() -> int:
        async with AsyncRateLimiter.connect(redis_url, rate="10000/hour", name="crowd", budget=BUDGET) as limiter:
            await limiter.acquire("k")
            lane = next(iter(limiter.buckets.store.node.lanes.values()))  # type: ignore[union-attr]  # on Redis it has one
            writes = 0
            send = lane.transport.write

            class Counting:
                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

                def write(self, data: bytes) -> None:
                    nonlocal writes
                    writes += 1
                    send(data)

            real = lane.transport
            lane.transport = Counting()
            link = real.get_protocol()
            link._transport = lane.transport
            await asyncio.gather(*(limiter.acquire("k") for _ in range(1000)))
            lane.transport = link._transport = real
            return writes

    assert asyncio.run(main()) <= 3


def test_a_cancelled_caller_disturbs_nobodys_order(redis_url: str) -> None:
    async def main() -> list[int]:
        async with AsyncRateLimiter.connect(redis_url, rate="1000/hour", name="cancel", budget=BUDGET) as limiter:
            await limiter.acquire("warm")
            tasks = [asyncio.ensure_future(limiter.try_acquire(f"k{number}", 1 + number)) for number in range(100)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
            return [answer.remaining for answer in answers[1::2] if not isinstance(answer, BaseException)]

    assert asyncio.run(main()) == [1000 - (1 + number) for number in range(1, 100, 2)]


def test_golden_signals_of_a_store(redis_url: str) -> None:
    with (
        measured() as seen,
        RateLimiter.connect(redis_url, rate="3/hour", name="signals", budget=BUDGET) as limiter,
    ):
        for _ in range(5):
            limiter.try_acquire("k")
        assert seen.value("rate_limiter.utilization", policy_name="signals") == pytest.approx(1.0, abs=0.01)
    assert seen.count("rate_limiter.requests", policy_name="signals", result="acquired") == 3
    assert seen.count("rate_limiter.requests", policy_name="signals", result="limited") == 2
    assert seen.count("rate_limiter.store.duration", policy_name="signals", store="redis") == 5


def test_protect_over_redis_in_both_colours_shares_one_limit(redis_url: str) -> None:
    @protect("both", limit="4/day", store=redis_url, key="{household_id}", budget=BUDGET, on_store_failure="closed")
    def blocking(household_id: int) -> int:
        return household_id

    @protect("both", limit="4/day", store=redis_url, key="{household_id}", budget=BUDGET, on_store_failure="closed")
    async def asynchronous(household_id: int) -> int:
        return household_id

    async def main() -> None:
        assert await asyncio.gather(asynchronous(7), asynchronous(7)) == [7, 7]
        assert [await asyncio.to_thread(blocking, 7), await asyncio.to_thread(blocking, 7)] == [7, 7]
        with pytest.raises(RateLimited):
            await asynchronous(7)
        assert await asynchronous(8) == 8
        await disconnect()
        with pytest.raises(RateLimited):
            await asynchronous(7)  # usable again after it
        await disconnect()

    asyncio.run(main())
    with pytest.raises(RateLimited):
        blocking(7)


class Provider(redis.CredentialProvider):
    """Hands out what `answer` gives."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_credentials(self) -> tuple[str]:
        return (self.answer(),)


def test_a_credential_provider_is_asked_and_its_failure_is_the_stores(own_redis: Any) -> None:
    server = own_redis()
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("requirepass", "s3cret")

    def broken() -> str:
        raise RuntimeError("token service down s3cret")

    async def remaining(limiter: AsyncRateLimiter) -> str:
        async with limiter:
            return (await limiter.try_acquire("k")).result

    answers: list[tuple[Callable[[], str], str]] = [
        (lambda: "s3cret", "acquired"),
        (broken, "store_error_open"),
        (lambda: "no", "store_error_open"),
    ]
    for answer, result in answers:
        client = redis.Redis(host=server.host, port=server.port, credential_provider=Provider(answer))
        limiter = RateLimiter.connect(client, rate="9/hour", name="provider", budget=BUDGET)
        assert limiter.try_acquire("k").result == result
        limiter.close()
        other = AsyncRateLimiter.connect(client, rate="9/hour", name="provider", budget=BUDGET)
        assert asyncio.run(remaining(other)) == result


@pytest.mark.parametrize("host", ["x" * 70, "127.0.0.1:1"])
def test_a_server_that_cannot_be_reached_is_a_store_failure_on_both_faces(host: str) -> None:
    url = f"redis://{host}"
    with RateLimiter.connect(url, rate="9/hour", name="unreachable", budget=0.5) as limiter:
        assert limiter.try_acquire("k").result == "store_error_open"

    async def main() -> str:
        async with AsyncRateLimiter.connect(url, rate="9/hour", name="unreachable", budget=0.5) as other:
            return (await other.try_acquire("k")).result

    assert asyncio.run(main()) == "store_error_open"


def test_a_foreign_value_under_our_key_is_a_failure_of_that_key_alone(redis_url: str) -> None:
    with (
        RateLimiter.connect(redis_url, rate="9/hour", name="foreign", namespace="it", budget=BUDGET) as limiter,
        redis.Redis.from_url(redis_url) as client,
    ):
        client.set("backstay:it:limit:1:{foreign:text}", "not a bucket")
        client.lpush("backstay:it:limit:1:{foreign:list}", "not a bucket")
        for _ in range(5):
            assert limiter.try_acquire("text").result == "store_error_open"
            assert limiter.try_acquire("list").result == "store_error_open"
            assert limiter.try_acquire("k").result in {"acquired", "limited"}
        assert client.get("backstay:it:limit:1:{foreign:text}") == b"not a bucket"
