"""What a retry counts (section 7.3): attempts, by what ended their call."""

from __future__ import annotations

from typing import Literal, TypeAlias

from backstay.telemetry import Counter, counter

__all__ = ["Attempts", "Reason"]

Reason: TypeAlias = Literal["returned", "not_retryable", "max_attempts", "deadline", "budget", "canceled"]
"""Why there was no further attempt (RT-3)."""


class Attempts:
    """The counters of one policy on one resource. Added to when a call ends, so their sum is all attempts made."""

    __slots__ = ("_counters", "_name", "_resource", "canceled", "returned")

    def __init__(self, name: str, resource: str) -> None:
        self._name = name
        self._resource = resource
        self._counters: dict[tuple[Reason, bool], Counter] = {}
        self.returned = self._counter("returned", retried=False)
        self.canceled = self._counter("canceled", retried=False)

    def end(self, reason: Reason, attempts: int) -> None:
        """Count the attempts of a call that ended for this reason."""
        ended = self._counter(reason, retried=attempts > 1)
        ended.n += attempts

    def _counter(self, reason: Reason, *, retried: bool) -> Counter:
        found = self._counters.get((reason, retried))
        if found is None:
            found = self._counters[reason, retried] = counter(
                "retry.attempts", "{attempt}",
                resource=self._resource, policy_name=self._name, policy_type="retry", result=reason, retried=retried,
            )  # fmt: skip
        return found
