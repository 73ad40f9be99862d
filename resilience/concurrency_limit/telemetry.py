"""What adaptive limits measure: the rows `concurrency_limit.*`."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import Counter, Gauge, counter, gauge, level

__all__ = ["Requests", "export_limit", "export_usage"]


class Requests:
    """Calls that were let in and calls that were refused; their sum is the traffic."""

    __slots__ = ("acquired", "limited")

    def __init__(self, name: str) -> None:
        def count(result: str) -> Counter:
            return counter(
                "concurrency_limit.requests",
                "{request}",
                resource=name,
                policy_name=name,
                policy_type="bulkhead",
                result=result,
            )

        self.acquired = count("acquired")
        self.limited = count("limited")


def export_limit(name: str, algorithm: str, read: Callable[[], float]) -> Gauge:
    """Export the limit as it stands."""
    return gauge(
        "concurrency_limit.limit", "{permit}", read,
        resource=name, policy_name=name, policy_type="bulkhead", algorithm=algorithm,
    )  # fmt: skip


def export_usage(name: str, read: Callable[[], float]) -> None:
    """Export the calls in flight."""
    level("concurrency_limit.usage", "{permit}", read, resource=name, policy_name=name, policy_type="bulkhead")
