"""A whole ASGI application behind a limit whose Redis answers after a second: the loop never stops (AS-1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from backstay.resilience import AsyncRateLimiter, protect
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.frameworks import fastapi
from backstay.testing import measured
from backstay.testing.proxy import FaultProxy

LOOP_GAP = 0.020
BUDGET = 0.05


async def longest_gap(of: asyncio.Future[Any]) -> float:
    """Return the longest time for which the loop did not come round while `of` was running."""
    longest, last = 0.0, time.monotonic()
    while not of.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last - 0.001), now
    return longest


async def serve(url: str, number: int) -> tuple[float, list[int]]:
    limiter = AsyncRateLimiter.connect(url, rate="1000/day", name=f"frameworks.slow-{number}", budget=BUDGET)
    app = FastAPI()

    @app.get("/")
    @protect("frameworks.slow", limit=limiter)
    async def index() -> str:
        return "ok"

    fastapi.install(app, policies=Bulkhead("frameworks.slow", max_concurrent=100))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop") as client:
        await client.get("/")  # what is imported and compiled at the first request
        jobs = asyncio.gather(*(client.get("/") for _ in range(20)))
        gap = await longest_gap(jobs)
        statuses = [answer.status_code for answer in await jobs]
    await limiter.close()
    return gap, statuses


def test_AS1_the_loop_goes_on_while_redis_takes_a_second_to_answer(own_redis: Callable[[], Any]) -> None:
    server = own_redis()
    with FaultProxy(server.host, server.port) as proxy, measured() as counts:
        proxy.delay(replies=1.0)
        gaps: list[float] = []
        for number in range(5):  # other work on the machine only adds to a gap: the best round counts
            began = time.monotonic()
            gap, statuses = asyncio.run(serve(proxy.url(server.url), number))
            assert statuses == [200] * 20
            assert time.monotonic() - began < 3.0
            gaps.append(gap)
            if gap < LOOP_GAP:
                break
    assert min(gaps) < LOOP_GAP
    assert counts.count("rate_limiter.requests", result="store_error_open") >= 20
    assert counts.count("operation.duration", resource="frameworks.slow", outcome="ok") >= 21
