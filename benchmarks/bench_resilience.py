"""Limiters, switches and the decorator beside a pass-through; the Redis bucket beside one plain EVALSHA."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import limits
import limits.storage
import limits.strategies
import redis
import redis.asyncio

from backstay.errors import RateLimited
from backstay.resilience import AsyncRateLimiter, RateLimiter, Switches, protect
from backstay.resilience.policy import compose, target_of
from backstay.resilience.rate_limiting.policy import RateLimit

from .harness import Case

PLENTY = "1000000000/second"


def cases() -> Iterator[Case]:
    yield from _local()
    yield from _switches()
    yield from _remote()


def _work(household: str = "") -> int:
    return 1


async def _work_async(household: str = "") -> int:
    return 1


def _passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def passing(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return passing


def _passing_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def passing(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return passing


def _limited(function: Callable[..., Any], key: Any = None) -> Any:
    """The limit alone, without what `protect` puts round it."""
    name = f"bench-{function.__name__}-{key is not None}"  # one use a limiter: a second one has to look for the first
    limiter = RateLimiter.connect(rate=PLENTY, name=name)
    return compose([RateLimit("bench", limiter=limiter, key=key)], target_of(function, "bench"))


def _local() -> Iterator[Case]:
    floor, floor_async = _passing(_work), _passing_async(_work_async)
    one = _limited(_work)
    strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.parse("1000000000/second")

    def by_limits() -> int:
        if not strategy.hit(item, "k"):
            raise RateLimited
        return _work()

    yield Case(
        name="limit, local, one bucket", floor=floor, ours=one, target=5.5, clock="cpu",
        peer=by_limits, peer_name="limits fixed window", peer_target=0.25,
    )  # fmt: skip
    keyed = _limited(_work, key=lambda household: household)
    places = itertools.cycle([f"household-{number}" for number in range(1000)])

    def many() -> object:
        return keyed(next(places))

    def many_passing() -> object:
        return floor(next(places))

    yield Case(name="limit, local, one key", floor=lambda: floor("a"), ours=lambda: keyed("a"), target=7, clock="cpu")
    yield Case(name="limit, local, 1000 keys", floor=many_passing, ours=many, target=7, clock="cpu")
    yield Case(
        name="limit, local, async", floor=floor_async, ours=_limited(_work_async), target=3.3, clock="cpu",
    )  # fmt: skip
    limit = RateLimit("bench-shared", rate=PLENTY)
    shared, _other = limit(_work), limit(_work_async)
    yield Case(name="limit, local, put round two functions", floor=floor, ours=shared, clock="cpu")
    limiter = RateLimiter.connect(rate=PLENTY, name="bench-acquire")
    yield Case(name="acquire(), local", floor=floor, ours=limiter.acquire, clock="cpu")
    spent = RateLimiter.connect(rate="1/year", name="bench-spent")
    spent.acquire()
    refusing = compose([RateLimit("bench", limiter=spent)], target_of(_work, "bench"))
    raising = _catching(_passing(_raise))
    yield Case(name="refusal, beside raise and catch", floor=raising, ours=_catching(refusing), clock="cpu")
    yield Case(
        name="limit, local, 8 threads beside 1", floor=_threads(one, 1), ours=_threads(one, 8), target=1.1, timed=True
    )
    yield Case(name="protect with a limit", floor=floor, ours=protect("bench", limit=PLENTY)(_work), clock="cpu")
    yield Case(
        name="protect with a limit, async",
        floor=floor_async,
        ours=protect("bench", limit=PLENTY)(_work_async),
        clock="cpu",
    )


def _raise() -> None:
    raise LookupError


def _catching(function: Callable[..., Any]) -> Callable[[], None]:
    def catching() -> None:
        try:
            function()
        except Exception:
            return

    return catching


def _threads(function: Callable[[], Any], count: int) -> Callable[[int], float]:
    """Return what spreads calls over threads."""

    def run(calls: int) -> float:
        def work() -> None:
            for _ in range(calls // count):
                function()

        threads = [threading.Thread(target=work) for _ in range(count)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began

    return run


def _switches() -> Iterator[Case]:
    switches = Switches.connect("memory://", defaults={"catalogue": True}, interval=None)
    floor = _passing(_work)
    yield Case(
        name="a switch is read", floor=floor, ours=lambda: switches.enabled("catalogue"), target=1.5, clock="cpu"
    )
    guarded = switches.degradable("catalogue", fallback=0)(_work)
    yield Case(name="degradable, switched on", floor=floor, ours=guarded, clock="cpu")
    off = Switches.connect("memory://", defaults={"catalogue": False}, interval=None)
    yield Case(
        name="degradable, switched off", floor=floor, ours=off.degradable("catalogue", fallback=0)(_work), clock="cpu"
    )


def _remote() -> Iterator[Case]:
    url = os.environ.get("BACKSTAY_TEST_REDIS_URL")
    if url:
        yield from _on_redis(url)
        return
    import servers

    with servers.running("redis") as addresses:
        yield from _on_redis(addresses["redis"])


def _on_redis(url: str) -> Iterator[Case]:
    client = redis.Redis.from_url(url)
    sha = client.script_load("return 1")

    def evalsha() -> object:
        return client.evalsha(sha, 1, "bench:k")

    limiter = RateLimiter.connect(url, rate="1000000/second", name="bench", budget=5.0, on_store_failure="closed")
    strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.storage_from_string(url))
    item = limits.parse("1000000/second")
    yield Case(
        name="limit, Redis, beside a plain EVALSHA", floor=evalsha, ours=lambda: limiter.acquire("k"), target=0.85,
        peer=lambda: strategy.hit(item, "k"), peer_name="limits fixed window", peer_target=0.95,
    )  # fmt: skip
    yield Case(
        name="limit, Redis, 8 threads beside 8",
        floor=_threads(evalsha, 8), ours=_threads(lambda: limiter.acquire("k"), 8),
        target=0.9, timed=True,
    )  # fmt: skip
    yield Case(
        name="limit, Redis, 1000 tasks beside redis.asyncio", floor=_crowd_of_redis(url), ours=_crowd_of_ours(url),
        target=0.2, timed=True,
    )  # fmt: skip
    limiter.close()
    client.close()


CROWD = 1000


def _crowd_of_ours(url: str) -> Callable[[int], float]:
    def run(calls: int) -> float:
        async def main() -> float:
            async with AsyncRateLimiter.connect(
                url, rate="1000000/second", name="bench", budget=5.0, on_store_failure="closed"
            ) as limiter:
                return await _crowd(calls, lambda: limiter.acquire("k"))

        return asyncio.run(main())

    return run


def _crowd_of_redis(url: str) -> Callable[[int], float]:
    def run(calls: int) -> float:
        async def main() -> float:
            pool = redis.asyncio.ConnectionPool.from_url(url, max_connections=CROWD + 100)  # by default 100: an error
            async with redis.asyncio.Redis(connection_pool=pool) as client:
                sha = await client.script_load("return 1")
                took = await _crowd(calls, lambda: client.evalsha(sha, 1, "bench:k"))
            await pool.disconnect()
            return took

        return asyncio.run(main())

    return run


async def _crowd(calls: int, call: Callable[[], Any]) -> float:
    """A thousand tasks, each calling one time after the other; connecting is not counted."""

    async def one(times: int) -> None:
        for _ in range(times):
            await call()

    await asyncio.gather(*(one(1) for _ in range(CROWD)))
    each = max(1, calls // CROWD)
    began = time.perf_counter()
    await asyncio.gather(*(one(each) for _ in range(CROWD)))
    return (time.perf_counter() - began) * calls / (each * CROWD)
