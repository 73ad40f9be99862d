"""Retry and timeouts round outgoing calls: waits that the service asked for, deadlines over all attempts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests

from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.frameworks.httpx import AsyncTransport, Transport
from backstay.resilience.frameworks.requests import Adapter
from backstay.resilience.pipeline import Pipeline
from backstay.resilience.retry import Retry
from backstay.resilience.timeout import AttemptTimeout, CallTimedOut, Deadline, Timeout
from backstay.testing import measured
from integration.resilience.site import Answer, Site


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.close()


def get(client: str, pipeline: Pipeline, site: Site, **options: Any) -> int:
    if client == "httpx":
        with httpx.Client(transport=Transport(pipeline=pipeline, **options)) as blocking:
            return blocking.get(site.url).status_code
    if client == "requests":
        with requests.Session() as session:
            session.mount("http://", Adapter(pipeline=pipeline, **options))
            return session.get(site.url, timeout=5).status_code

    async def main() -> int:
        async with httpx.AsyncClient(transport=AsyncTransport(pipeline=pipeline, **options)) as asynchronous:
            return (await asynchronous.get(site.url)).status_code

    return asyncio.run(main())


@pytest.mark.parametrize("client", ["httpx", "httpx.async", "requests"])
def test_RT1_retry_waits_as_long_as_the_answer_asks(client: str, site: Site) -> None:
    slept: list[float] = []

    async def sleep_async(seconds: float) -> None:
        slept.append(seconds)

    site.answers.extend([Answer(429, headers={"Retry-After": "7"}), Answer(503)])
    retry = Retry("outgoing.wait", attempts=3, first_wait=0.5, sleep=slept.append, sleep_async=sleep_async)
    assert get(client, Pipeline("outgoing.wait", retry), site, failures={429, 503}) == 200
    assert 7 <= slept[0] <= 7.5
    assert slept[1] <= 1.0
    assert len(site.seen) == 3


@pytest.mark.parametrize("client", ["httpx", "httpx.async", "requests"])
def test_RT1_the_answer_is_the_last_ones_when_attempts_run_out(client: str, site: Site) -> None:
    site.answers.extend([Answer(500), Answer(502), Answer(503)])
    pipeline = Pipeline("outgoing.out", Retry("outgoing.out", attempts=3, first_wait=0.001))
    with measured() as counts:
        assert get(client, pipeline, site) == 503
    assert counts.count("retry.attempts", policy_name="outgoing.out", result="max_attempts") >= 1


@pytest.mark.parametrize("client", ["httpx", "httpx.async", "requests"])
def test_CO1_six_policies_round_one_call(client: str, site: Site) -> None:
    """One logical call, three attempts: each passed the breaker and held the one permit, and none is left held."""
    site.answers.extend([Answer(503), Answer(503)])
    breaker = CircuitBreaker(f"outgoing.six.{client}", minimum_calls=50)
    bulkhead = Bulkhead(f"outgoing.six.{client}", max_concurrent=1)
    bounds: list[Any] = [Deadline("outgoing.six", 5.0)]
    if client == "httpx.async":
        bounds = [Timeout("outgoing.six", 5.0), AttemptTimeout("outgoing.six", 2.0)]
    pipeline = Pipeline(
        f"outgoing.six.{client}",
        *bounds,
        Retry("outgoing.six", attempts=3, first_wait=0.001),
        breaker,
        bulkhead,
    )
    with measured() as counts:
        assert get(client, pipeline, site) == 200
    name = f"outgoing.six.{client}"
    assert counts.count("operation.duration", resource=name, outcome="ok") == 1
    assert counts.count("circuit_breaker.calls", policy_name=name, result="failure") == 2
    assert counts.count("circuit_breaker.calls", policy_name=name, result="success") == 1
    assert counts.value("bulkhead.usage", policy_name=name) == 0
    assert all(0 < int(seen.headers["backstay-deadline-ms"]) <= 5000 for seen in site.seen)


def test_a_timeout_of_async_code_stops_an_answer_that_does_not_come(site: Site) -> None:
    site.answers.append(Answer(waits=5.0))
    breaker = CircuitBreaker("outgoing.late", minimum_calls=50)
    pipeline = Pipeline("outgoing.late", AttemptTimeout("outgoing.late", 0.1), breaker)
    began = time.monotonic()
    with measured() as counts, pytest.raises((CallTimedOut, httpx.TimeoutException)):
        get("httpx.async", pipeline, site)
    assert time.monotonic() - began < 2
    assert counts.count("circuit_breaker.calls", policy_name="outgoing.late", result="failure") == 1
    site.release.set()
