"""What both web frameworks are asked, so that they answer alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from backstay.errors import (
    BackstayError,
    BreakerOpen,
    Degraded,
    Misuse,
    NotAcquired,
    OutcomeUnknown,
    RateLimited,
    Unavailable,
)

SECRET = "hunter2"
_LEAK = f"redis://app:{SECRET}@10.0.0.7:6379/0"


class SoldOut(NotAcquired):
    """An application's own kind of refusal."""


@dataclass(frozen=True)
class Case:
    """An error, and the answer that is expected for it."""

    make: Callable[[], BackstayError]
    status: int
    kind: str
    retry_after: str | None = None
    detail: str | None = field(default=None)


CASES = {
    "limited": Case(lambda: RateLimited("no tokens left", retry_after=1.2), 429, "rate-limited", "2", "no tokens left"),
    "at-once": Case(lambda: RateLimited("no tokens left", retry_after=0.0), 429, "rate-limited", "1"),
    "held": Case(lambda: NotAcquired("held by web-3", retry_after=30), 409, "not-acquired", "30", "held by web-3"),
    "own": Case(lambda: SoldOut("sold out"), 409, "not-acquired", None, "sold out"),
    "open": Case(lambda: BreakerOpen("failing", retry_after=4.5), 503, "breaker-open", "5"),
    "degraded": Case(lambda: Degraded("off"), 503, "degraded"),
    "unavailable": Case(lambda: Unavailable(f"{_LEAK} did not answer"), 503, "unavailable"),
    "unknown": Case(lambda: OutcomeUnknown("ask", ask={"gtrid": "g1"}), 500, "outcome-unknown"),
    "misuse": Case(lambda: Misuse(f"bad url {_LEAK}"), 500, "misuse"),
    "leak": Case(lambda: NotAcquired(f"{_LEAK} says no"), 409, "not-acquired"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Case]:
    return request.param, CASES[request.param]


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture
def secret() -> str:
    return SECRET
