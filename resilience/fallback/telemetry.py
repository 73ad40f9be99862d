"""What a fallback measures. That a call was answered so is `backstay.operation.duration` with outcome `degraded`."""

from __future__ import annotations

from backstay.errors import BreakerOpen, BulkheadFull, Degraded, OutcomeUnknown, RateLimited, Rejected, Unavailable
from backstay.telemetry import Counter, Histogram, counter, histogram

__all__ = ["Answers", "refused_by"]

_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (RateLimited, "rate_limiter"),
    (BreakerOpen, "circuit_breaker"),
    (BulkheadFull, "bulkhead"),
    (Degraded, "degrade"),
    (Rejected, "other"),
    (Unavailable, "dependency"),
    (OutcomeUnknown, "unknown"),
)


def refused_by(error: Exception) -> str:
    """Return the word for what refused: a policy, the `dependency`, an `unknown` outcome, or an `error`."""
    for kind, word in _REFUSALS:
        if isinstance(error, kind):
            return word
    return "error"


class Answers:
    """The counters of one fallback. `served + failed` by `refused_by` is how often it was asked."""

    def __init__(self, name: str) -> None:
        words = [word for _, word in _REFUSALS] + ["error"]

        def count(result: str, word: str) -> Counter:
            return counter(
                "fallback.answers", "{answer}",
                resource=name, policy_name=name, policy_type="fallback", result=result, refused_by=word,
            )  # fmt: skip

        self.served = {word: count("served", word) for word in words}
        self.failed = {word: count("failed", word) for word in words}
        self.absent = {word: count("absent", word) for word in words}

        def read(source: str, stale: bool) -> Counter:
            return counter(
                "read.results", "{request}",
                resource=name, policy_name=name, policy_type="cache", source=source, stale=stale,
            )  # fmt: skip

        self.origin = read("origin", False)
        self.cached = read("local_cache", True)
        self.static = read("static", False)
        self.miss = read("miss", False)
        self.age: Histogram = histogram(
            "fallback.age", "s", bounds=(0.1, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
            resource=name, policy_name=name, policy_type="cache",
        )  # fmt: skip
