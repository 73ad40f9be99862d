"""Leases, sliding windows and `RateLimit` fields on a real Redis and in real frameworks."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask

import backstay.fastapi
import backstay.flask
from backstay.errors import RateLimited
from backstay.resilience import AsyncRateLimiter, RateLimiter, disconnect, protect
from backstay.resilience.rate_limiting.http_middleware import AsgiRateLimitFields, WsgiRateLimitFields
from unit.resilience.structured_fields import parse_list

BUDGET = 5.0  # tests of what is decided, not of how soon

Stretch = tuple[float, float]
"""Before a call and after it, on the machine's monotonic clock, which processes have in common."""


def spend(url: str, options: dict[str, Any], seconds: float, answer: Any) -> None:
    """In a process of its own: take tokens until the time is over, and say between which moments each was taken."""
    limiter = RateLimiter.connect(url, budget=BUDGET, **options)
    admitted: list[Stretch] = []
    started = time.monotonic()
    while (before := time.monotonic()) - started < seconds:
        if limiter.try_acquire("k"):
            admitted.append((before, time.monotonic()))
        else:
            time.sleep(0.001)
    limiter.close()
    answer.send(admitted)


def in_processes(count: int, url: str, options: dict[str, Any], seconds: float) -> list[Stretch]:
    context = multiprocessing.get_context("spawn")
    runs: list[tuple[Any, Any]] = []
    for _ in range(count):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=spend, args=(url, options, seconds, theirs), daemon=True)
        process.start()
        runs.append((process, ours))
    admitted: list[Stretch] = []
    for process, ours in runs:
        assert ours.poll(60)
        admitted += ours.recv()
        process.join(20)
        assert process.exitcode == 0
    return sorted(admitted)


def most(admitted: list[Stretch], begin: float, end: float) -> int:
    """Return how many were certainly taken in a stretch of time."""
    return sum(begin <= before and after <= end for before, after in admitted)


def test_RL3_leases_of_several_processes_keep_the_stated_bound(redis_url: str) -> None:
    """burst + rate x time + lease x processes over any stretch, and all of it given back at the end."""
    rate, burst, lease, processes = 2000, 400, 50, 3
    options = {"rate": f"{rate}/second;burst={burst}", "name": "leased", "lease": lease}
    admitted = in_processes(processes, redis_url, options, 1.0)
    for begin, _ in admitted[::97]:
        for _, end in admitted[::89]:
            if begin < end:
                assert most(admitted, begin, end) <= burst + rate * (end - begin) + lease * processes
    assert len(admitted) >= 0.9 * rate  # they keep asking, so they get it
    with RateLimiter.connect(redis_url, rate=options["rate"], name="leased", budget=BUDGET) as plain:
        time.sleep(burst / rate)
        assert plain.try_acquire("k", burst)  # nobody holds anything back


def hold(url: str, answer: Any) -> None:
    limiter = RateLimiter.connect(url, rate="1000/hour", name="killed", lease=100, budget=BUDGET)
    limiter.acquire("k")
    answer.send("holding")
    time.sleep(60)


def test_RL3_a_killed_process_strands_one_lease_and_no_more(redis_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(redis_url, theirs), daemon=True)
    process.start()
    assert ours.poll(60)
    assert process.pid is not None
    process.kill()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    with RateLimiter.connect(redis_url, rate="1000/hour", name="killed", budget=BUDGET) as plain:
        assert sum(bool(plain.try_acquire("k")) for _ in range(1000)) in (900, 901)


def test_leases_of_asyncio_save_round_trips_and_are_given_back(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)

    async def main() -> None:
        options: dict[str, Any] = {"rate": "1000/hour", "name": "leased.async", "budget": BUDGET}
        async with AsyncRateLimiter.connect(redis_url, lease=100, **options) as limiter:
            await limiter.acquire("k")
            before = calls()
            for _ in range(99):
                await limiter.acquire("k")
            assert calls() == before
            await limiter.acquire("k")
            assert calls() == before + 1
        async with AsyncRateLimiter.connect(redis_url, **options) as plain:
            assert (await plain.try_acquire("k")).remaining == 1000 - 102

    def calls() -> int:
        stats: Any = client.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))

    asyncio.run(main())
    client.close()


def test_RL3_a_sliding_window_on_redis_is_one_law_for_all_processes(redis_url: str) -> None:
    options = {"rate": "150/second", "name": "window", "algorithm": "sliding-window"}
    admitted = in_processes(3, redis_url, options, 1.3)
    assert all(most(admitted, begin, begin + 0.999) <= 150 for begin, _ in admitted)
    assert len(admitted) >= 150 + 30


def test_RL7_a_forgotten_script_of_the_window_is_sent_again(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    with RateLimiter.connect(
        redis_url, rate="3/minute", name="flushed", algorithm="sliding-window", budget=BUDGET
    ) as limiter:
        limiter.acquire("k")
        client.script_flush()
        limiter.acquire("k", 2)
        with pytest.raises(RateLimited):
            limiter.acquire("k")

    async def main() -> None:
        async with AsyncRateLimiter.connect(
            redis_url, rate="3/minute", name="flushed", algorithm="sliding-window", budget=BUDGET
        ) as limiter:
            client.script_flush()
            assert sum(map(bool, await asyncio.gather(*(limiter.try_acquire("other") for _ in range(9))))) == 3

    asyncio.run(main())
    client.close()


def test_RL12_a_flask_application_tells_what_is_left(redis_url: str) -> None:
    app = Flask("shop")
    backstay.flask.install(app)
    app.wsgi_app = WsgiRateLimitFields(app.wsgi_app)  # type: ignore[method-assign]
    limiter = RateLimiter.connect(redis_url, rate="2/hour", name="flask", announce=True, budget=BUDGET)

    @app.get("/")
    @protect("flask.index", limit=limiter)
    def index() -> str:
        return "served"

    @app.get("/free")
    def free() -> str:
        return "served"

    client = app.test_client()
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    told = [parse_list(answer.headers["RateLimit"])[0] for answer in answers]
    assert [limit["r"] for _, limit in told] == [1, 0, 0]
    assert [name for name, _ in told] == ["flask"] * 3
    assert answers[0].headers["RateLimit-Policy"] == '"flask";q=2;w=3600'
    assert 1790 <= int(answers[2].headers["Retry-After"]) <= 1800
    assert answers[2].headers.getlist("Retry-After") == [answers[2].headers["Retry-After"]]
    assert "Retry-After" not in answers[0].headers
    assert "RateLimit" not in client.get("/free").headers
    limiter.close()


def test_RL12_a_fastapi_application_tells_what_is_left(redis_url: str) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await disconnect()

    app = FastAPI(lifespan=lifespan)
    backstay.fastapi.install(app)
    app.add_middleware(AsgiRateLimitFields)
    limiter = AsyncRateLimiter.connect(redis_url, rate="2/hour", name="fastapi", announce=True, budget=BUDGET)
    local = RateLimiter.connect(rate="5/hour", name="fastapi.local", announce=True)

    @app.get("/")
    @protect("fastapi.index", limit=limiter)
    async def index() -> str:
        return "served"

    @app.get("/blocking")
    @protect("fastapi.blocking", limit=local)
    def blocking() -> str:  # in a thread, with the request's context
        return "served"

    with TestClient(app) as client:
        answers: list[httpx.Response] = [client.get("/") for _ in range(3)]  # type: ignore[misc]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [parse_list(answer.headers["RateLimit"])[0][1]["r"] for answer in answers] == [1, 0, 0]
        assert 1790 <= int(answers[2].headers["Retry-After"]) <= 1800
        assert parse_list(client.get("/blocking").headers["RateLimit"]) == [("fastapi.local", {"r": 4, "t": 720})]
