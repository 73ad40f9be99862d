"""The order of a pipeline in telemetry: one series a policy, whose value is its place (CO-2)."""

from __future__ import annotations

from backstay.telemetry import gauge

from ..policy import Policy

__all__ = ["Position"]


class Position:
    """Exports that a policy stands in a place, 0 outermost, for as long as the pipeline keeps it."""

    def __init__(self, resource: str, policy: Policy, place: int) -> None:
        self._place = float(place)
        name: object = getattr(policy, "name", None) or resource
        gauge("pipeline.position", "1", self.read, resource=resource, policy_name=str(name), policy_kind=policy.kind)

    def read(self) -> float:
        """Return the place."""
        return self._place
