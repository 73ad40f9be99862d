"""Waiting, joint rules and changes of the rate on a real Redis (RL-3, RL-6, RL-10, RL-11)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import redis

from backstay.errors import RateLimited
from backstay.resilience import AsyncRateLimiter, RateLimiter
from backstay.resilience.rate_limiting.joint import AsyncJointRateLimiter, JointRateLimiter

BUDGET = 5.0  # tests of what is decided, not of how soon
OPTIONS: Any = {"budget": BUDGET, "on_store_failure": "closed", "namespace": "it"}
RULES = {"app": "100/day", "user": "1/day"}


def test_RL6_P5_99_of_99_good_users_pass_blocking(redis_url: str) -> None:
    limits = JointRateLimiter.connect(redis_url, rules=RULES, name="p5", **OPTIONS)
    assert sum(bool(limits.try_acquire({"app": "", "user": "user:0"})) for _ in range(60)) == 1
    assert all(limits.try_acquire({"app": "", "user": f"user:{number}"}) for number in range(1, 100))
    with pytest.raises(RateLimited) as refusal:
        limits.acquire({"app": "", "user": "user:100"})
    assert refusal.value.rule == "app"


def test_RL6_P5_99_of_99_good_users_pass_side_by_side_and_over_a_flushed_script(redis_url: str) -> None:
    limits = AsyncJointRateLimiter.connect(redis_url, rules=RULES, name="p5-async", **OPTIONS)

    async def main() -> tuple[int, int]:
        abuser = await asyncio.gather(*(limits.try_acquire({"app": "", "user": "0"}) for _ in range(60)))
        with redis.Redis.from_url(redis_url) as client:
            client.script_flush()
        good = await asyncio.gather(*(limits.try_acquire({"app": "", "user": str(n)}) for n in range(1, 101)))
        await next(iter(limits.buckets.values())).store.aclose()
        return sum(map(bool, abuser)), sum(map(bool, good))

    assert asyncio.run(main()) == (1, 99)


def test_RL3_RL6_threads_on_joint_rules_charge_exactly_what_they_admit(redis_url: str) -> None:
    limits = JointRateLimiter.connect(redis_url, rules={"app": "150/day", "user": "60/day"}, name="crowd", **OPTIONS)
    admitted = [0] * 8

    def work(place: int) -> None:
        for number in range(60):
            if limits.try_acquire({"app": "", "user": str(number % 4)}):
                admitted[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 150
    left = [limits.try_acquire({"app": None, "user": str(number)}).rules["user"].remaining + 1 for number in range(4)]
    assert sum(left) == 4 * 60 - 150


def test_RL10_processes_worth_of_clients_wait_in_the_order_of_asking(redis_url: str) -> None:
    """Three limiters that share nothing but the server: a promise to one is seen by the others."""

    async def main() -> list[tuple[str, float]]:
        first, second, third = (
            AsyncRateLimiter.connect(redis_url, rate="20/second;burst=10", name="line", **OPTIONS) for _ in range(3)
        )
        await first.acquire("k", 10)
        began = time.monotonic()
        served: list[tuple[str, float]] = []

        async def wait(name: str, limiter: AsyncRateLimiter, cost: int) -> None:
            await limiter.acquire("k", cost, wait=5)
            served.append((name, time.monotonic() - began))

        large = asyncio.create_task(wait("large", second, 8))
        await asyncio.sleep(0.05)
        small = asyncio.create_task(wait("small", third, 1))
        with pytest.raises(RateLimited):
            await first.acquire("k", 5, wait=0.2)
        await asyncio.gather(large, small)
        await first.close()
        return served

    (one, soon), (other, later) = asyncio.run(main())
    assert (one, other) == ("large", "small")
    assert 0.35 < soon <= later < 3


def test_RL10_cancelled_and_refunded_tokens_are_on_the_server_again(redis_url: str) -> None:
    limiter = RateLimiter.connect(redis_url, rate="10/day", name="back", **OPTIONS)
    limiter.acquire("k", 10)
    reservation = limiter.reserve("k", 5, max_wait=86_400)
    assert 43_000 < reservation.delay < 43_200
    assert not limiter.try_acquire("k")
    assert reservation.cancel()
    assert limiter.refund("k", 4)
    assert limiter.try_acquire("k", 4).allowed

    async def main() -> None:
        async with AsyncRateLimiter.connect(redis_url, rate="10/day", name="back-async", **OPTIONS) as other:
            await other.acquire("k", 10)
            waiting = asyncio.create_task(other.acquire("k", 10, wait=100_000))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await other.refund("k", 10)
            assert (await other.try_acquire("k", 10)).allowed

    asyncio.run(main())


@pytest.mark.parametrize(("carry", "left"), [("proportional", 8), ("absolute", 4), ("reset", 20)])
def test_RL11_a_deployment_with_another_rate_finds_the_tokens_carried(redis_url: str, carry: Any, left: int) -> None:
    old = RateLimiter.connect(redis_url, rate="10/day", name=f"carry-{carry}", **OPTIONS)
    old.acquire("k", 6)
    new = RateLimiter.connect(redis_url, rate="10/day", name=f"carry-{carry}", **OPTIONS)
    new.reconfigure("20/day", carry)
    assert new.try_acquire("k").remaining == left - 1
    with redis.Redis.from_url(redis_url) as client:
        value: Any = client.get(f"backstay:it:limit:1:{{carry-{carry}:k}}")
    assert value.endswith(b" 20/86400000000/20")
    assert len(value) <= 100  # RL-5
    old.reconfigure("20/day", carry)
    assert old.try_acquire("k").remaining == left - 2
