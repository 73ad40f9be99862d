"""Sums over outcomes equal the calls made, over a whole pipeline, and keys never become series (7.3, OT-4)."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstay import telemetry
from backstay.errors import BackstayError
from backstay.resilience import protect
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker
from backstay.resilience.pipeline import Pipeline
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.retry import Retry
from backstay.resilience.timeout import AttemptTimeout, Deadline, Timeout
from backstay.telemetry import Snapshot
from backstay.testing import measured

TESTS = Path(__file__).parents[2]


class Failing(Exception):
    pass


def mixed(colour: str, name: str, seed: int) -> tuple[Pipeline, Callable[[], Any], list[int]]:
    """Return a pipeline of six policies, a call through it that fails at random, and how often the call ran."""
    random_ = random.Random(seed)
    ran: list[int] = []
    bounds: tuple[Any, ...] = (Timeout(name, 30.0), AttemptTimeout(name, 20.0))

    async def nap(seconds: float) -> None:
        await asyncio.sleep(0)

    pipeline = Pipeline(
        name,
        RateLimit(f"{name}.limit", rate="1000/day;burst=150"),
        *(bounds if colour == "async def" else (Deadline(name, 30.0),)),
        Retry(name, attempts=3, first_wait=0.001, sleep=lambda seconds: None, sleep_async=nap, budget=None),
        CircuitBreaker(name, failure_rate=0.6, minimum_calls=20, window=600.0, open_for=0.001),
        Bulkhead(name, max_concurrent=3),
    )

    def outcome() -> str:
        ran.append(1)
        if random_.random() < 0.4:
            raise Failing
        return "ok"

    async def outcome_async() -> str:
        await asyncio.sleep(0)
        return outcome()

    return pipeline, pipeline(outcome) if colour == "def" else pipeline(outcome_async), ran


def drive_calls(colour: str, call: Callable[[], Any], calls: int) -> int:
    """Make the calls, async ones ten at a time so that the bulkhead refuses some; return how many succeeded."""
    if colour == "def":
        good = 0
        for _ in range(calls):
            try:
                good += call() == "ok"
            except (Failing, BackstayError):
                continue
        return good

    async def main() -> int:
        good = 0
        for _ in range(calls // 10):
            answers = await asyncio.gather(*(call() for _ in range(10)), return_exceptions=True)
            assert all(answer == "ok" or isinstance(answer, Failing | BackstayError) for answer in answers)
            good += answers.count("ok")
        return good

    return asyncio.run(main())


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("seed", [1, 2])
def test_sums_of_outcomes_over_a_pipeline_of_six_policies(colour: str, seed: int) -> None:
    calls, name = 200, f"algebra.{colour.split(maxsplit=1)[0]}.{seed}"
    pipeline, call, ran = mixed(colour, name, seed)
    with measured() as counts:
        good = drive_calls(colour, call, calls)

    def total(metric: str, **attributes: Any) -> float:
        return counts.count(metric, policy_name=name, **attributes)

    assert good > 0 and len(ran) > 100
    assert counts.count("operation.duration", resource=name) == calls
    assert counts.count("operation.duration", resource=name, outcome="ok") == good
    assert counts.count("rate_limiter.requests", policy_name=f"{name}.limit") == calls
    passed = counts.count("rate_limiter.requests", policy_name=f"{name}.limit", result="acquired")
    assert passed == 150
    if colour == "async def":
        assert total("timeout.calls") >= passed
    attempts = total("retry.attempts")
    assert attempts == total("circuit_breaker.calls")
    reached = attempts - total("circuit_breaker.calls", result="not_permitted")
    assert reached == total("bulkhead.wait.duration")
    assert total("bulkhead.wait.duration", result="accepted") == len(ran)
    assert total("circuit_breaker.calls", result="success") == good
    assert total("circuit_breaker.calls", result="neutral") == total("bulkhead.wait.duration", result="rejected")
    if colour == "async def":
        assert total("bulkhead.wait.duration", result="rejected") > 0
    assert counts.value("circuit_breaker.state", policy_name=name) == 1
    assert counts.value("bulkhead.usage", policy_name=name) == 0
    assert counts.value("operation.active", resource=name) == 0
    assert pipeline.order[0] == "operation"


def series(snapshot: Snapshot) -> set[tuple[str, Any]]:
    return {(reading.name, reading.attributes) for reading in snapshot}


def test_OT4_a_million_keys_leave_the_series_as_they_are() -> None:
    """Addresses, users, paths: a key chooses a bucket and shows up nowhere else."""

    @protect("algebra.keys", limit="1000/second;burst=1000", key="caller:{caller}")
    def purchase(caller: int) -> int:
        return caller

    purchase(0)
    with measured() as counts:
        before = series(telemetry.snapshot())
        for caller in range(1_000_000):
            purchase(caller)
        after = series(telemetry.snapshot())
    assert after == before
    assert counts.count("operation.duration", resource="algebra.keys") == 1_000_000
    assert counts.count("rate_limiter.requests", policy_name="algebra.keys", result="acquired") == 1_000_000


def test_OT4_errors_of_many_classes_stay_within_the_cap() -> None:
    """Classes made at run time, as some clients do, end in `_other`, and no call is lost from the sum."""
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(1000)]

    @protect("algebra.errors")
    def failing(number: int) -> None:
        raise kinds[number]

    with measured() as counts:
        before = len(series(telemetry.snapshot()))
        for number in range(1000):
            with pytest.raises(kinds[number]):
                failing(number)
        after = len(series(telemetry.snapshot()))
    assert after - before <= 201
    assert counts.count("operation.duration", resource="algebra.errors") == 1000


EXPORTED = """
import json
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from unit.resilience.test_telemetry_algebra import drive_calls, mixed

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
pipeline, call, ran = mixed("def", "sdk", 7)
good = drive_calls("def", call, 200)
sums = {}
for resource in json.loads(reader.get_metrics_data().to_json())["resource_metrics"]:
    for scope in resource["scope_metrics"]:
        for metric in scope["metrics"]:
            sums[metric["name"]] = sum(point["value"] for point in metric["data"]["data_points"])
print(json.dumps([good, len(ran), sums]))
"""


def test_sums_of_outcomes_as_an_applications_own_reader_sees_them() -> None:
    ended = subprocess.run([sys.executable, "-c", EXPORTED], capture_output=True, text=True, timeout=60, cwd=TESTS)
    assert ended.returncode == 0, ended.stderr

    good, ran, sums = json.loads(ended.stdout)
    assert good > 0
    assert sums["backstay.operation.duration_seconds_count"] == 200
    assert sums["backstay.rate_limiter.requests"] == 200
    assert sums["backstay.retry.attempts"] == sums["backstay.circuit_breaker.calls"]
    assert sums["backstay.circuit_breaker.state"] == 1
    assert sums["backstay.operation.active"] == 0
    assert ran <= sums["backstay.bulkhead.wait.duration_seconds_count"]
