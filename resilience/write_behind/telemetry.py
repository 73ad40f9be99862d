"""How far the database is behind, as the consumer last saw it: gauges ask no server."""

from __future__ import annotations

from backstay.telemetry import counter, gauge

from .values import Status

__all__ = ["Sync"]


class Sync:
    """What one consumer knows and counts."""

    def __init__(self, name: str) -> None:
        about = {"resource": name, "policy_name": name, "policy_type": "write_sync"}
        self.status: Status | None = None
        self.applied = counter("write_sync.applied", "{operation}", result="applied", **about)
        self.failed = counter("write_sync.applied", "{operation}", result="failed", **about)
        self.parked = counter("write_sync.applied", "{operation}", result="parked", **about)
        self.claimed = counter("write_sync.claimed", "{operation}", **about)
        gauge("write_sync.lag", "s", self._lag, **about)
        gauge("write_sync.pending", "{operation}", self._pending, state="waiting", **about)
        gauge("write_sync.pending", "{operation}", self._parked, state="parked", **about)

    def _lag(self) -> float:
        return 0.0 if self.status is None else self.status.lag

    def _pending(self) -> float:
        return 0 if self.status is None else self.status.pending

    def _parked(self) -> float:
        return 0 if self.status is None else self.status.parked
