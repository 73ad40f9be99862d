"""What both faces of the limiter are made of: counters, checks, and everything that is not on the hot path."""

from __future__ import annotations

from typing import Any

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.telemetry import gauge

from .backend import AsyncBuckets, Buckets, StoreFailed
from .decision import Decision, Result, decide, wait
from .failure import FailureMode, Outage
from .rate import Rate, Scale
from .telemetry import Requests

__all__ = ["Face"]


class Face:
    """What both faces are made of, and their slow paths."""

    def __init__(
        self,
        buckets: Buckets | AsyncBuckets,
        *,
        name: str,
        resource: str | None = None,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> None:
        self.name = name
        self.rate: Rate = buckets.rate
        self._over = f"rate limiter {name!r}: over {self.rate}; retry in"  # made once: a refusal must be cheap
        self.buckets = buckets
        self._scale: Scale = buckets.scale
        self._requests = Requests(name, resource or name)
        self.acquired = self._requests.acquired
        self._outage = Outage(name, self.rate, on_store_failure, local_share, self._requests)
        utilization = getattr(buckets, "utilization", None)
        if utilization is not None:
            gauge(
                "rate_limiter.utilization",
                "1",
                utilization,
                resource=resource or name,
                policy_name=name,
                policy_type="rate_limiter",
            )

    def check(self, key: str, cost: int) -> tuple[str, int]:
        """Return key and cost as the buckets want them.

        Raises:
            Misuse: the cost is no whole number from 1 to the burst, so that the call could never succeed, or
                the key is no text.
        """
        given: Any = key  # callers may be untyped
        if not isinstance(given, str):
            raise Misuse(f"rate limiter {self.name!r}: a key must be a str, got {type(given).__name__}")
        if type(cost) is not int or not 1 <= cost <= self.rate.capacity:
            raise Misuse(
                f"rate limiter {self.name!r}: cost must be a whole number from 1 to the burst of "
                f"{self.rate.capacity}, got {cost!r}; a larger cost can never be granted: raise the burst"
            )
        return str.__str__(given), cost

    def refuse(self, balance: int) -> RateLimited:
        """Count a refusal and return the error for it."""
        self._requests.limited.n += 1
        return self._refusal(balance, self._scale)

    def _refusal(self, balance: int, scale: Scale) -> RateLimited:
        seconds = wait(balance, scale)
        why = self._over if balance else f"rate limiter {self.name!r}: no room for another key; retry in"
        return RateLimited(f"{why} {seconds:.3g} s", retry_after=seconds)

    def survive(self, key: str, cost: int, failure: StoreFailed) -> None:
        """Answer a call that the store did not answer: return to let it through.

        Raises:
            Unavailable: `on_store_failure` is `closed`.
            RateLimited: it is `local`, and the local share is used up.
        """
        balance, _ = self._outage.answer(key, cost, failure)
        if balance <= 0:
            assert self._outage.local is not None
            raise self._refusal(balance, self._outage.local.scale) from failure

    def decision(self, balance: int, cost: int) -> Decision:
        """Count a call and return the decision that its balance stands for."""
        decision = decide(balance, self.rate, self._scale, cost)
        if decision.allowed:
            self.acquired.n += 1
        else:
            self._requests.limited.n += 1
        return decision

    def decision_alone(self, key: str, cost: int, failure: StoreFailed) -> Decision:
        """Return the decision that the failure mode makes."""
        try:
            balance, mode = self._outage.answer(key, cost, failure)
        except Unavailable:
            return self._unanswered(allowed=False, result="store_error_closed")
        local = self._outage.local
        if mode == "open" or local is None:
            return self._unanswered(allowed=True, result="store_error_open")
        made = decide(balance, local.rate, local.scale, min(cost, local.rate.capacity))
        return Decision(
            allowed=made.allowed,
            retry_after=made.retry_after,
            remaining=made.remaining,
            reset_after=made.reset_after,
            limit=made.limit,
            result="store_error_local",
        )

    def _unanswered(self, *, allowed: bool, result: Result) -> Decision:
        return Decision(allowed=allowed, retry_after=0.0, remaining=0, reset_after=0.0, limit=self.rate, result=result)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {str(self.rate)!r})"
