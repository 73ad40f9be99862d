"""`algorithm`, `lease` and `announce` of both faces: what they give, and what they refuse at configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited
from backstay.resilience import AsyncRateLimiter, Decision, RateLimiter, protect
from backstay.resilience.rate_limiting import workers
from backstay.resilience.rate_limiting.http import collecting
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
