"""Windows and leases where servers are several, frozen, or gone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from backstay.errors import Unavailable
from backstay.resilience import AsyncRateLimiter, RateLimiter
from servers.sets import Cluster

BUDGET = 5.0
DEAD = "redis://127.0.0.1:1/0"


def test_RL7_windows_and_leases_are_spread_over_a_cluster(own_cluster: Cluster) -> None:
    keys = [f"tenant:{number}" for number in range(30)]
    with RateLimiter.connect(
        own_cluster.url, rate="2/hour", name="window", algorithm="sliding-window", budget=BUDGET,
        on_store_failure="closed",
    ) as window:  # fmt: skip
        assert [sum(bool(window.try_acquire(key)) for _ in range(4)) for key in keys] == [2] * 30

    async def main() -> list[int]:
        async with AsyncRateLimiter.connect(
            own_cluster.url, rate="9/hour", name="leased", lease=4, budget=BUDGET, on_store_failure="closed"
        ) as leased:
            answers = [await leased.try_acquire(key) for key in keys for _ in range(10)]
            return [sum(map(bool, answers[first : first + 10])) for first in range(0, 300, 10)]

    assert asyncio.run(main()) == [9] * 30


def test_RL8_a_window_without_its_store_does_what_the_rule_says() -> None:
    options: Any = {"rate": "2/hour", "algorithm": "sliding-window"}
    with RateLimiter.connect(DEAD, name="closed", on_store_failure="closed", **options) as closed:
        with pytest.raises(Unavailable):
            closed.acquire("k")
    with RateLimiter.connect(DEAD, name="local", on_store_failure="local", **options) as local:
        assert sum(bool(local.try_acquire("k")) for _ in range(5)) == 2
        assert local.try_acquire("k").result == "store_error_local"


def test_RL8_a_lease_is_spent_while_the_store_is_gone(redis_url: str) -> None:
    with RateLimiter.connect(
        redis_url, rate="100/hour", name="outage", lease=10, budget=0.05, on_store_failure="closed"
    ) as limiter:
        limiter.acquire("k")
        buckets: Any = limiter.buckets
        store = buckets.store
        store.gate.shut, store.gate.troubled = True, True
        store.gate._until = store.clock() + 60  # as after three failures
        try:
            for _ in range(9):
                limiter.acquire("k")
            with pytest.raises(Unavailable):
                limiter.acquire("k")
        finally:
            store.gate.passed()


def test_AS1_a_dead_store_stalls_no_loop_when_leases_are_given_back() -> None:
    async def main() -> float:
        limiter = AsyncRateLimiter.connect(DEAD, rate="100/hour", name="ending", lease=10, on_store_failure="open")
        await limiter.acquire("k")
        began = time.monotonic()
        await limiter.close()
        return time.monotonic() - began

    assert asyncio.run(main()) < 1.0
