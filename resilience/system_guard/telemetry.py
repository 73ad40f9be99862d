"""What system guards measure."""

from __future__ import annotations

from collections.abc import Callable

from backstay.telemetry import Counter, counter, gauge, level

__all__ = ["Requests", "export_levels"]


class Requests:
    """Calls that were let in and calls that were refused; their sum is the traffic."""

    __slots__ = ("acquired", "limited")

    def __init__(self, name: str) -> None:
        def count(result: str) -> Counter:
            return counter(
                "system_guard.requests",
                "{request}",
                resource=name,
                policy_name=name,
                policy_type="bulkhead",
                result=result,
            )

        self.acquired = count("acquired")
        self.limited = count("limited")


def export_levels(name: str, *, in_flight: Callable[[], float], pressure: Callable[[], float]) -> None:
    """Export the calls in flight and how near the process is to refusing, as long as these methods' owner lives."""
    common = {"resource": name, "policy_name": name, "policy_type": "bulkhead"}
    level("system_guard.usage", "{request}", in_flight, **common)
    gauge("system_guard.pressure", "1", pressure, **common)
