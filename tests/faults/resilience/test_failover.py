"""The limiter behind Sentinel and in a Cluster: failovers and moving slots cost calls, and never the law."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from backstay.resilience import AsyncRateLimiter, RateLimiter
from faults.locks.test_cluster import Move, client
from faults.locks.workers import until

if TYPE_CHECKING:
    from servers.sets import Cluster, Sentinels

pytestmark = pytest.mark.timeout(180)


def test_R9_after_a_failover_both_faces_charge_at_the_new_master(own_sentinels: Sentinels) -> None:
    url = own_sentinels.url

    async def main() -> None:
        async with AsyncRateLimiter.connect(url, rate="1000/day", name="async", budget=0.2) as other:
            with RateLimiter.connect(url, rate="1000/day", name="blocking", budget=0.2) as limiter:
                assert limiter.try_acquire("k").result == "acquired"
                assert (await other.try_acquire("k")).result == "acquired"
                before = await asyncio.to_thread(own_sentinels.master)
                await asyncio.to_thread(before.kill)
                assert limiter.try_acquire("k").result == "store_error_open"
                assert (await other.try_acquire("k")).result == "store_error_open"
                await asyncio.to_thread(until, lambda: limiter.try_acquire("k").result == "acquired")
                while (await other.try_acquire("k")).result != "acquired":
                    await asyncio.sleep(0.05)
                after = await asyncio.to_thread(own_sentinels.master)
                assert after is not before
                with client(after) as server:
                    assert server.exists("backstay:default:limit:1:{blocking:k}", "backstay:default:limit:1:{async:k}")

    asyncio.run(asyncio.wait_for(main(), 60.0))


def test_R9_a_slot_that_moves_costs_no_call_and_charges_exactly(own_cluster: Cluster) -> None:
    url = own_cluster.url
    key = "backstay:default:limit:1:{moving:k}"

    async def main() -> None:
        async with AsyncRateLimiter.connect(url, rate="100/day", name="moving", budget=2.0) as other:
            with RateLimiter.connect(url, rate="100/day", name="moving", budget=2.0) as limiter:
                charged = 0

                async def both() -> None:
                    nonlocal charged
                    for decision in (limiter.try_acquire("k"), await other.try_acquire("k")):
                        charged += 1
                        assert decision.result == "acquired"
                        assert decision.remaining == 100 - charged

                await both()
                move = Move(own_cluster, key, whole=True)
                await asyncio.to_thread(move.begin)
                await both()  # the key is still at the old node
                await asyncio.to_thread(move.carry)
                await both()  # the old node sends each request to the new one, for once
                await asyncio.to_thread(move.end)
                await both()  # and now for good
                await both()

    asyncio.run(asyncio.wait_for(main(), 60.0))
