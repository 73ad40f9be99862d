"""What a timeout counts (section 7.3)."""

from __future__ import annotations

from backstay.telemetry import Counter, counter

__all__ = ["TimeoutCalls"]


class TimeoutCalls:
    """Calls that ended in time, however they ended, and calls that did not."""

    __slots__ = ("in_time", "late")

    def __init__(self, name: str, resource: str) -> None:
        def count(timed_out: bool) -> Counter:
            return counter(
                "timeout.calls", "{call}",
                resource=resource, policy_name=name, policy_type="timeout", timed_out=timed_out,
            )  # fmt: skip

        self.in_time = count(False)
        self.late = count(True)
