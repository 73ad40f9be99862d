"""What a rate limiter measures: the names of section 7.3."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import Counter, Histogram, counter, histogram, level

__all__ = ["Requests", "Waits", "store_duration"]


class Requests:
    """The counters of one limiter, one a result; their sum is the number of calls (no counter of its own)."""

    __slots__ = ("acquired", "canceled", "limited", "store_error_closed", "store_error_local", "store_error_open")

    def __init__(self, name: str, resource: str) -> None:
        def count(result: str) -> Counter:
            return counter(
                "rate_limiter.requests",
                "{request}",
                resource=resource,
                policy_name=name,
                policy_type="rate_limiter",
                result=result,
            )

        self.acquired = count("acquired")
        self.limited = count("limited")
        self.canceled = count("canceled")
        self.store_error_open = count("store_error_open")
        self.store_error_closed = count("store_error_closed")
        self.store_error_local = count("store_error_local")


class Waits:
    """How long calls that may wait waited, one histogram a result, and how many wait now."""

    __slots__ = ("acquired", "canceled", "limited")

    def __init__(self, name: str, resource: str, queued: Callable[[], float]) -> None:
        def waited(result: str) -> Histogram:
            return histogram(
                "rate_limiter.wait.duration",
                "s",
                resource=resource,
                policy_name=name,
                policy_type="rate_limiter",
                result=result,
            )

        self.acquired = waited("acquired")
        self.limited = waited("limited")
        self.canceled = waited("canceled")
        level(
            "rate_limiter.queued_requests",
            "{request}",
            queued,
            resource=resource,
            policy_name=name,
            policy_type="rate_limiter",
        )


def store_duration(name: str, resource: str, store: str, error: str | None = None) -> Histogram:
    """Return the histogram of how long the store took; of its failures where `error` is given."""
    if error is None:
        return histogram(
            "rate_limiter.store.duration", "s",
            resource=resource, policy_name=name, policy_type="rate_limiter", store=store,
        )  # fmt: skip
    return histogram(
        "rate_limiter.store.duration", "s",
        resource=resource, policy_name=name, policy_type="rate_limiter", store=store, error_type=error,
    )  # fmt: skip
