"""What bulkheads measure: the rows `bulkhead.*` of section 7.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from backstay.telemetry import Histogram, histogram, level

__all__ = ["Waits", "export_levels"]

Kind = Literal["semaphore", "thread_pool"]


class Waits:
    """How long calls waited for their permit, one histogram a result; the sum of their counts is the traffic."""

    __slots__ = ("accepted", "canceled", "rejected", "timed_out")

    def __init__(self, name: str, kind: Kind) -> None:
        def waits(result: str) -> Histogram:
            return histogram(
                "bulkhead.wait.duration",
                "s",
                resource=name,
                policy_name=name,
                policy_type="bulkhead",
                kind=kind,
                result=result,
            )

        self.accepted = waits("accepted")
        self.rejected = waits("rejected")
        self.timed_out = waits("timed_out")
        self.canceled = waits("canceled")


def export_levels(
    name: str,
    kind: Kind,
    *,
    active: Callable[[], float],
    limit: Callable[[], float],
    queued: Callable[[], float],
    queue_limit: Callable[[], float],
    abandoned: Callable[[], float] | None = None,
) -> None:
    """Export how full a bulkhead is, for as long as the owner of these methods lives."""
    common = {"resource": name, "policy_name": name, "policy_type": "bulkhead", "kind": kind}
    level("bulkhead.usage", "{permit}", active, **common, state="active")
    if abandoned is not None:
        level("bulkhead.usage", "{permit}", abandoned, **common, state="abandoned")
    level("bulkhead.limit", "{permit}", limit, **common)
    level("bulkhead.queue.usage", "{permit}", queued, **common)
    level("bulkhead.queue.limit", "{permit}", queue_limit, **common)
