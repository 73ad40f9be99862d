"""What a limiter does while its store gives no answer: `open`, `closed`, `local` (RL-8), in both faces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.rate_limiting.rate import Scale
from backstay.testing import measured

RATE = Rate.of("3/hour")


class Dead:
    """Buckets whose store is down: a fake, since what a dead server does is tested with a real one in tests/faults."""

    rate = RATE
    scale: Scale = RATE.server

    def charge(self, key: str, cost: int) -> int:
        raise StoreFailed("timeout", "no answer within the budget")


class AsyncDead(Dead):
    async def charge(self, key: str, cost: int) -> int:  # type: ignore[override]  # the other make of the port
        raise StoreFailed("timeout", "no answer within the budget")


class Face:
    """One limiter of either face, called as if it were blocking."""

    def __init__(self, make: Callable[..., Any], buckets: Any, options: dict[str, Any]) -> None:
        self.limiter = make(buckets, **options)

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.limiter, method)(*args, **kwargs)
        return asyncio.run(result) if asyncio.iscoroutine(result) else result


@pytest.fixture(params=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest) -> Callable[..., Face]:
    make, buckets = (RateLimiter, Dead()) if request.param == "blocking" else (AsyncRateLimiter, AsyncDead())
    return lambda **options: Face(make, buckets, {"name": f"dead-{request.param}", **options})


def test_RL8_open_lets_calls_through_and_counts_them(face: Callable[..., Face]) -> None:
    call = face(on_store_failure="open")
    with measured() as seen:
        for _ in range(10):
            call("acquire", "k")
        decision = call("try_acquire", "k")
    assert decision.allowed
    assert decision.result == "store_error_open"
    assert seen.count("rate_limiter.requests", result="store_error_open") == 11
    assert seen.count("rate_limiter.requests") == 11


def test_RL8_closed_refuses_with_unavailable(face: Callable[..., Face]) -> None:
    call = face(on_store_failure="closed")
    with measured() as seen:
        with pytest.raises(Unavailable, match="nothing was called") as refusal:
            call("acquire", "k")
        decision = call("try_acquire", "k")
    assert isinstance(refusal.value.__cause__, StoreFailed)
    assert not decision
    assert decision.result == "store_error_closed"
    assert seen.count("rate_limiter.requests", result="store_error_closed") == 2


def test_RL8_local_applies_its_share(face: Callable[..., Face]) -> None:
    call = face(on_store_failure="local", local_share=2 / 3)
    with measured() as seen:
        call("acquire", "k")
        call("acquire", "k")
        with pytest.raises(RateLimited) as refusal:
            call("acquire", "k")
        decision = call("try_acquire", "k")
        assert call("try_acquire", "other", cost=3).allowed  # more than the share holds: charged as much as it holds
        assert not call("try_acquire", "other").allowed
    assert refusal.value.retry_after == pytest.approx(1800, rel=0.01)
    assert decision.result == "store_error_local"
    assert seen.count("rate_limiter.requests", result="store_error_local") == 6


@pytest.mark.parametrize(
    "wrong", [{"on_store_failure": "ajar"}, {"local_share": 0, "on_store_failure": "local"}, {"local_share": 1.5}]
)
def test_a_wrong_mode_is_refused_at_configuration(face: Callable[..., Face], wrong: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        face(**wrong)
