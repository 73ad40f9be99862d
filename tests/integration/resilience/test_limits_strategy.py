"""`strategy="token-bucket"` in Flask-Limiter, slowapi and `limits.aio`, in memory and on a real Redis."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from typing import Any

import flask_limiter
import limits
import limits.aio.storage
import limits.errors
import limits.storage
import limits.strategies
import pytest
import redis
import slowapi
import slowapi.errors
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from backstay.resilience import Rate
from backstay.resilience.limits import TOKEN_BUCKET, AsyncTokenBucketRateLimiter, TokenBucketRateLimiter
from backstay.resilience.rate_limiting.strategies.terms import SUFFIX
from unit.resilience.oracle import Oracle


@pytest.fixture(params=["memory", "redis"])
def storage_uri(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


def test_RL12_flask_limiter_runs_it_by_name(storage_uri: str) -> None:
    app = Flask("shop")
    limiter = flask_limiter.Limiter(
        lambda: "someone", app=app, storage_uri=storage_uri, strategy=TOKEN_BUCKET, headers_enabled=True
    )

    @app.get("/")
    @limiter.limit("5 per 2 second")
    def index() -> str:
        return "served"

    assert type(limiter.limiter) is TokenBucketRateLimiter
    client = app.test_client()
    answers = [client.get("/") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0", "0"]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2  # a token is there in 0.4 s; 0 would be a lie
    time.sleep(0.45)
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]
    limiter.reset()
    assert client.get("/").status_code == 200


def test_RL12_slowapi_runs_it_by_name(storage_uri: str) -> None:
    limiter = slowapi.Limiter(
        key_func=lambda: "someone", storage_uri=storage_uri, strategy=TOKEN_BUCKET, headers_enabled=True
    )

    @limiter.limit("5 per 2 second")
    def index(request: Request) -> PlainTextResponse:
        return PlainTextResponse("served")

    app = Starlette(routes=[Route("/", index)])
    app.state.limiter = limiter
    handler: Any = slowapi._rate_limit_exceeded_handler
    app.add_exception_handler(slowapi.errors.RateLimitExceeded, handler)
    assert type(limiter.limiter) is TokenBucketRateLimiter
    with TestClient(app) as client:
        answers = [client.get("/") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2
        time.sleep(0.45)
        assert [client.get("/").status_code for _ in range(2)] == [200, 429]
        limiter.reset()
        assert client.get("/").status_code == 200


def test_RL1_the_strategy_on_redis_is_exact_at_the_servers_stamps(redis_url: str) -> None:
    storage = limits.storage.RedisStorage(redis_url)
    limiter = TokenBucketRateLimiter(storage)
    item = limits.parse("97/second")
    log: list[list[int]] = []
    run = limiter._buckets._script  # type: ignore[union-attr]

    def recorded(keys: list[str], arguments: list[int]) -> list[int]:
        log.append(run(keys, arguments))
        return log[-1]

    limiter._buckets._script = recorded  # type: ignore[union-attr]
    granted = sum(limiter.hit(item, "k") for _ in range(2000))
    oracle = Oracle(Rate(count=97))
    assert [oracle.charge(Fraction(stamp, 1_000_000), 1)[0] for _, _, _, stamp in log] == [row[0] == 1 for row in log]
    elapsed = (log[-1][3] - log[0][3]) / 1_000_000
    assert granted == int(97 + 97 * elapsed)


def test_RL5_one_key_of_its_own_that_the_storages_reset_finds(redis_url: str) -> None:
    storage = limits.storage.RedisStorage(redis_url, key_prefix="shop")
    limiter, item = TokenBucketRateLimiter(storage), limits.parse("4/minute")
    client = redis.Redis.from_url(redis_url)
    assert limiter.test(item, "user")
    assert limiter.get_window_stats(item, "user").remaining == 4
    assert client.keys() == []  # looking writes nothing
    assert limiter.hit(item, "user")
    assert limits.strategies.FixedWindowRateLimiter(storage).hit(item, "user")
    assert limits.strategies.MovingWindowRateLimiter(storage).test(limits.parse("5/minute"), "user")
    bucket = f"shop:{item.key_for('user')}{SUFFIX}".encode()
    assert client.exists(bucket)
    assert 14_000 < client.pttl(bucket) <= 15_000
    limiter.clear(item, "user")
    assert not client.exists(bucket)
    assert limiter.hit(item, "user", cost=4)
    assert not limiter.hit(item, "user")
    client.script_flush()
    assert not limiter.hit(item, "user")
    assert storage.reset() == 2
    assert limiter.hit(item, "user", cost=4)
    client.close()


def test_the_asyncio_strategy_on_redis(redis_url: str) -> None:
    async def main() -> None:
        storage = limits.aio.storage.RedisStorage(f"async+{redis_url}", implementation="redispy")
        limiter, item = AsyncTokenBucketRateLimiter(storage), limits.parse("5/2 second")
        assert sum(await asyncio.gather(*(limiter.hit(item, "user") for _ in range(20)))) == 5
        assert not await limiter.test(item, "user")
        stats = await limiter.get_window_stats(item, "user")
        assert stats.remaining == 0
        assert 0 < stats.reset_time - time.time() < 1.5
        await limiter.clear(item, "user")
        assert await limiter.hit(item, "user", cost=5)
        assert await storage.reset() == 1
        assert await limiter.test(item, "user", cost=5)
        await storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_errors_of_the_store_are_those_that_limits_promises() -> None:
    dead = "redis://127.0.0.1:1/0"
    item = limits.parse("1/second")
    options: Any = {"retry": None}  # or redis-py tries ten times
    with pytest.raises(redis.ConnectionError):
        TokenBucketRateLimiter(limits.storage.RedisStorage(dead, **options)).hit(item, "k")
    with pytest.raises(limits.errors.StorageError):
        TokenBucketRateLimiter(limits.storage.RedisStorage(dead, wrap_exceptions=True, **options)).hit(item, "k")
