"""How far the database is behind, as the consumer last saw it: gauges ask no server."""

from __future__ import annotations

from backstay.telemetry import Counter, counter, gauge

from .values import Status

__all__ = ["Operations", "Sync"]


class Operations:
    """The counters of one face: each operation once, by who answered it and how."""

    def __init__(self, name: str) -> None:
        def result(source: str, word: str) -> Counter:
            return counter(
                "write_sync.results", "{operation}",
                resource=name, policy_name=name, policy_type="degrade", source=source, result=word,
            )  # fmt: skip

        words = ("done", "repeated", "refused", "rejected", "unknown", "unavailable")
        self.results = {(source, word): result(source, word) for source in ("cache", "database") for word in words}
        self.mismatches = counter(
            "write_sync.mismatches", "{mismatch}", resource=name, policy_name=name, policy_type="degrade"
        )


class Sync:
    """What one consumer knows and counts."""

    def __init__(self, name: str) -> None:
        self.status: Status | None = None

        def brought(result: str) -> Counter:
            return counter(
                "write_sync.applied", "{operation}",
                resource=name, policy_name=name, policy_type="degrade", result=result,
            )  # fmt: skip

        self.applied = brought("applied")
        self.failed = brought("failed")
        self.parked = brought("parked")
        self.claimed = counter(
            "write_sync.claimed", "{operation}", resource=name, policy_name=name, policy_type="degrade"
        )
        gauge("write_sync.lag", "s", self._lag, resource=name, policy_name=name, policy_type="degrade")
        gauge(
            "write_sync.pending", "{operation}", self._pending,
            resource=name, policy_name=name, policy_type="degrade", state="waiting",
        )  # fmt: skip
        gauge(
            "write_sync.pending", "{operation}", self._parked,
            resource=name, policy_name=name, policy_type="degrade", state="parked",
        )  # fmt: skip

    def _lag(self) -> float:
        return 0.0 if self.status is None else self.status.lag

    def _pending(self) -> float:
        return 0 if self.status is None else self.status.pending

    def _parked(self) -> float:
        return 0 if self.status is None else self.status.parked
