"""`algorithm`, `lease` and `announce` of both faces: what they give, and what they refuse at configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited
from backstay.resilience import (
    AsyncRateLimiter,
    Decision,
    RateLimiter,
    protect,
)
from backstay.resilience.rate_limiting import AsyncJointRateLimiter, JointRateLimiter, workers
from backstay.resilience.rate_limiting.http import collecting
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.rate_limiting.settings import RateLimitSettings
from unit.resilience.structured_fields import parse_list

NOWHERE = "redis://127.0.0.1:1/0"


class OfAsyncio:
    """The asyncio face, one loop a call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.subject = AsyncRateLimiter.connect(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Any = getattr(self.subject, name)

        async def called(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(called(*args, **kwargs))


@pytest.fixture(params=[RateLimiter.connect, OfAsyncio], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    made: Callable[..., Any] = request.param
    return made


def test_a_sliding_window_has_the_faces_of_the_bucket(connect: Any, request: pytest.FixtureRequest) -> None:
    limiter = connect(rate="3/hour", name=request.node.name[:90], algorithm="sliding-window")
    limiter.acquire("k")
    decision: Decision = limiter.try_acquire("k", 2)
    assert decision
    assert (decision.remaining, decision.retry_after) == (0, 0.0)
    assert 3600 <= decision.reset_after <= 3600 * 1.05
    with pytest.raises(RateLimited) as refused:
        limiter.acquire("k")
    assert 3590 <= (refused.value.retry_after or 0) <= 3600 * 1.05
    decision = limiter.try_acquire("k", 1)
    assert not decision
    assert decision.result == "limited"
    assert decision.retry_after == pytest.approx(refused.value.retry_after, abs=5)
    limiter.acquire("another key", 3)
    with pytest.raises(Misuse, match="from 1 to the burst of 3"):
        limiter.acquire("k", 4)


def test_a_window_says_what_it_cannot_do(connect: Any, request: pytest.FixtureRequest) -> None:
    limiter = connect(rate="3/hour", name=request.node.name[:90], algorithm="sliding-window")
    with pytest.raises(Misuse):
        limiter.acquire("k", wait=1.0)
    subject = getattr(limiter, "subject", limiter)
    with pytest.raises(Misuse, match="cannot change its rate"):
        subject.reconfigure("4/hour")


def test_RL12_an_announced_limiter_is_heard_on_allowed_and_refused_calls(
    connect: Any, request: pytest.FixtureRequest
) -> None:
    name = request.node.name[:90].replace("[", "-").replace("]", "")
    limiter = connect(rate="2/hour", name=name, announce=True)
    silent = connect(rate="2/hour", name=name + ".silent")
    with collecting() as collected:
        silent.acquire("k")
        assert collected.headers() == {}
        limiter.acquire("k")
        assert parse_list(collected.headers()["RateLimit"]) == [(name, {"r": 1, "t": 1800})]
        limiter.try_acquire("k")
        with pytest.raises(RateLimited):
            limiter.acquire("k")
        assert collected.headers()["Retry-After"] == "1800"
    with pytest.raises(RateLimited):
        limiter.acquire("k")  # with nobody who collects


def test_RL12_an_announced_limiter_can_still_wait_and_change(connect: Any, request: pytest.FixtureRequest) -> None:
    name = request.node.name[:90].replace("[", "-").replace("]", "")
    limiter = connect(rate="1/hour", name=name, announce=True)
    with collecting() as collected:
        limiter.acquire("k", wait=5.0)
        assert parse_list(collected.headers()["RateLimit"]) == [(name, {"r": 0, "t": 3600})]
        with pytest.raises(RateLimited):
            limiter.acquire("k", wait=5.0)
        assert "Retry-After" in collected.headers()
    assert limiter.refund("k")
    getattr(limiter, "subject", limiter).reconfigure("5/hour", "reset")
    assert limiter.try_acquire("k", 5)


def test_RL12_a_protected_function_is_announced_as_well() -> None:
    limiter = RateLimiter.connect(rate="2/hour", name="announced.protected", announce=True)

    @protect("announced.protected", limit=limiter)
    def purchase() -> str:
        return "done"

    with collecting() as collected:
        assert purchase() == "done"
    assert parse_list(collected.headers()["RateLimit"]) == [("announced.protected", {"r": 1, "t": 1800})]


def test_P11_a_limit_in_memory_looks_for_workers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "_watch", workers._Watch())
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setattr("sys.argv", ["uvicorn", "shop:app"])
    limiter = RateLimiter.connect(NOWHERE, rate="2/hour", name="shared.by.workers")
    assert not caplog.records
    limiter = RateLimiter.connect(rate="2/hour", name="alone.in.workers")
    assert "'alone.in.workers' is in memory, and 3 workers" in caplog.text
    limiter.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"algorithm": "leaky-bucket"}, "'token-bucket' or 'sliding-window'"),
        ({"lease": 10}, "token buckets on Redis"),
        ({"store": NOWHERE, "lease": 10, "algorithm": "sliding-window"}, "token buckets on Redis"),
        ({"store": NOWHERE, "lease": 101}, "from 2 to the burst of 100"),
        ({"store": NOWHERE, "lease": 1}, "from 2 to the burst of 100"),
        ({"rate": "100/second;burst=5", "algorithm": "sliding-window"}, "no burst"),
    ],
)
def test_bad_choices_are_refused_at_configuration(connect: Any, options: dict[str, Any], text: str) -> None:
    given = {"rate": "100/second", "name": "choices", **options}
    with pytest.raises(Misuse, match=text):
        connect(given.pop("store", "memory://"), **given)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"algorithm": "leaky-bucket"}, "'token-bucket' or 'sliding-window'"),
        ({"algorithm": ["sliding-window"]}, "'token-bucket' or 'sliding-window'"),
        ({"lease": 1}, "from 2 to the burst of 100"),
        ({"lease": True}, "from 2 to the burst of 100"),
        ({"announce": "yes"}, "true or false"),
        ({"algorithm": "sliding-window", "wait": 1}, "a sliding window cannot wait"),
        ({"store": NOWHERE, "lease": 10, "wait": 1}, "leases its tokens cannot wait"),
    ],
)
def test_bad_choices_are_refused_by_the_settings(options: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        RateLimitSettings.of({"rate": "100/second", **options})


def answered(function: Any) -> Any:
    result = function()
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def protected(limit: Any, colour: str) -> Any:
    def work() -> str:
        return "done"

    async def asynchronous() -> str:
        return "done"

    return limit(work if colour == "def" else asynchronous)


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_protect_and_documents_say_algorithm_and_announce(colour: str) -> None:
    name = f"chosen.{colour[0]}"
    limit = {"rate": "2/hour", "algorithm": "sliding-window", "announce": True}
    purchase = protected(protect(name, limit=limit), colour)
    with collecting() as collected:
        assert answered(purchase) == "done"
    [(_, told)] = parse_list(collected.headers()["RateLimit"])
    assert told["r"] == 1
    assert answered(purchase) == "done"
    with pytest.raises(RateLimited):
        answered(purchase)


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_a_lease_is_refused_where_there_is_no_round_trip_to_spare(colour: str) -> None:
    with pytest.raises(Misuse, match="token buckets on Redis"):
        protected(RateLimit(f"leased.{colour[0]}", rate="100/second", lease=10), colour)
    assert protected(RateLimit(f"leased.far.{colour[0]}", rate="100/second", lease=10, store=NOWHERE), colour)


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_RL11_a_window_changes_its_cost_while_it_runs_and_says_what_cannot_change(colour: str) -> None:
    limit = RateLimit(f"steady.{colour[0]}", rate="3/hour", algorithm="sliding-window")
    purchase = protected(limit, colour)
    assert answered(purchase) == "done"
    before = limit.settings
    with pytest.raises(Misuse, match="a sliding window cannot change its rate while it runs; make a new limit"):
        limit.reconfigure(RateLimitSettings(rate="4/hour", algorithm="sliding-window"))
    with pytest.raises(Misuse, match="algorithm, lease and announce cannot change"):
        limit.reconfigure(RateLimitSettings(rate="3/hour"))
    assert limit.settings is before
    limit.reconfigure(RateLimitSettings(rate="3/hour", algorithm="sliding-window", cost=2))
    assert answered(purchase) == "done"
    with pytest.raises(RateLimited):
        answered(purchase)


@pytest.mark.parametrize("kind", [JointRateLimiter, AsyncJointRateLimiter])
def test_RL12_joint_rules_are_announced_each_by_its_name(kind: Any) -> None:
    name = f"told.{kind.__name__}"
    rules = {"app": "5/hour", "user": "1/hour"}
    limits, silent = kind.connect(rules=rules, name=name, announce=True), kind.connect(rules=rules, name=name + ".not")
    keys = {"app": "", "user": "7"}
    with collecting() as collected:
        assert answered(lambda: silent.try_acquire(keys))
        assert collected.headers() == {}
        assert answered(lambda: limits.try_acquire(keys))
        told = parse_list(collected.headers()["RateLimit"])
        assert [(rule, fields["r"]) for rule, fields in told] == [(f"{name}.app", 4), (f"{name}.user", 0)]
        with pytest.raises(RateLimited, match="over user"):
            answered(lambda: limits.acquire(keys))
        assert collected.headers()["Retry-After"] == "3600"
        assert answered(lambda: limits.try_acquire({"app": "", "user": None}))
    assert answered(lambda: limits.try_acquire({"app": "", "user": "8"}))  # with nobody who collects


@pytest.mark.parametrize(("kind", "one"), [(JointRateLimiter, RateLimiter), (AsyncJointRateLimiter, AsyncRateLimiter)])
def test_RL12_limiters_that_announce_do_so_when_they_are_joined(kind: Any, one: Any) -> None:
    name = f"joined.{one.__name__}"
    announced = one.connect(rate="5/hour", name=name, announce=True)
    limits = kind.of({"app": announced, "user": one.connect(rate="1/hour", name=name + ".user")}, name=name)
    with collecting() as collected:
        assert answered(lambda: limits.try_acquire({"app": "", "user": "7"}))
        assert not answered(lambda: limits.try_acquire({"app": "", "user": "7"}))
    assert [(rule, fields["r"]) for rule, fields in parse_list(collected.headers()["RateLimit"])] == [(name, 4)]
