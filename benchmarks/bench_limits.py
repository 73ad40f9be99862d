"""Leased tokens and the sliding window beside a plain EVALSHA; the strategy beside those of `limits`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import limits
import limits.storage
import limits.strategies
import redis

from backstay.resilience import RateLimiter
from backstay.resilience.limits import TokenBucketRateLimiter
from backstay.resilience.rate_limiting.client_identity import client_address
from backstay.resilience.rate_limiting.http import collecting, headers

from .harness import Case

PLENTY = "1000000/second"


def cases() -> Iterator[Case]:
    yield from _local()
    url = os.environ.get("BACKSTAY_TEST_REDIS_URL")
    if url:
        yield from _on_redis(url)
        return
    import servers

    with servers.running("redis") as addresses:
        yield from _on_redis(addresses["redis"])


def _local() -> Iterator[Case]:
    item = limits.parse("1000000000/second")
    storage = limits.storage.MemoryStorage()
    fixed = limits.strategies.FixedWindowRateLimiter(storage)
    ours = TokenBucketRateLimiter(storage)
    yield Case(
        name="strategy in memory, beside limits fixed window", floor=lambda: fixed.hit(item, "k"),
        ours=lambda: ours.hit(item, "k"), target=1.0, clock="cpu",
    )  # fmt: skip
    bucket = RateLimiter.connect(rate=PLENTY, name="bench-bucket")
    window = RateLimiter.connect(rate=PLENTY, name="bench-window", algorithm="sliding-window")
    yield Case(
        name="sliding window in memory, beside the bucket", floor=lambda: bucket.acquire("k"),
        ours=lambda: window.acquire("k"), clock="cpu",
    )  # fmt: skip
    told = RateLimiter.connect(rate=PLENTY, name="bench-told", announce=True)

    def announced() -> dict[str, str]:
        with collecting() as collected:
            told.acquire("k")
            return collected.headers()

    yield Case(
        name="announced, with its fields, beside try_acquire", floor=lambda: bucket.try_acquire("k"), ours=announced,
        clock="cpu",
    )  # fmt: skip
    decision = bucket.try_acquire("k")
    yield Case(
        name="fields of a decision, beside try_acquire", floor=lambda: bucket.try_acquire("k"),
        ours=lambda: headers(decision, name="bench"), clock="cpu",
    )  # fmt: skip
    environ = {"REQUEST_METHOD": "GET", "REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 203.0.113.9"}
    key = client_address(trusted_hops=1)
    yield Case(
        name="client address, beside try_acquire", floor=lambda: bucket.try_acquire("k"), ours=lambda: key(environ),
        clock="cpu",
    )  # fmt: skip


def _on_redis(url: str) -> Iterator[Case]:
    client = redis.Redis.from_url(url)
    sha: Any = client.script_load("return 1")

    def evalsha() -> object:
        return client.evalsha(sha, 1, "bench:k")

    options: dict[str, Any] = {"rate": PLENTY, "budget": 5.0, "on_store_failure": "closed"}
    with (
        RateLimiter.connect(url, name="bench-leased", lease=100, **options) as leased,
        RateLimiter.connect(url, name="bench-window", algorithm="sliding-window", **options) as window,
    ):
        yield Case(
            name="leased by 100, Redis, beside a plain EVALSHA", floor=evalsha, ours=lambda: leased.acquire("k"),
            target=0.05,
        )  # fmt: skip
        yield Case(
            name="sliding window, Redis, beside a plain EVALSHA", floor=evalsha, ours=lambda: window.acquire("k"),
            target=1.1,
        )  # fmt: skip
    item = limits.parse(PLENTY)
    storage = limits.storage.RedisStorage(url)
    fixed = limits.strategies.FixedWindowRateLimiter(storage)
    ours = TokenBucketRateLimiter(storage)
    yield Case(
        name="strategy on Redis, beside limits fixed window", floor=lambda: fixed.hit(item, "k"),
        ours=lambda: ours.hit(item, "k"), target=1.1,
    )  # fmt: skip
    client.close()
