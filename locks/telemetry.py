"""What locks count: golden signals of one store and namespace. Names of locks never become attributes (OT-4)."""

from __future__ import annotations

from typing import Any

from backstay.telemetry import counter, histogram

__all__ = ["Meters"]


class Meters:
    """The counters and histograms of one connection, shared by all its locks.

    `lock.acquisitions` by result, `lock.wait.duration` from asking to having, `lock.hold.duration` from
    having to giving back, `lock.losses`, `lock.renewals` by result, `lock.renewal.lateness` (how much later
    than planned a renewal began: a starved loop or thread shows here, N8), `lock.withdrawals` (how often an
    unanswered acquisition had to be given up behind the caller's back), `lock.breaks` (by operators).
    """

    __slots__ = ("acquired", "broken", "errands", "held", "lateness", "lost", "not_renewed", "refused", "renewed",
                 "unavailable", "unknown", "waited")  # fmt: skip

    def __init__(self, kind: str, namespace: str) -> None:
        which: dict[str, Any] = {"backend": kind, "resource": namespace}
        self.acquired = counter("lock.acquisitions", "{acquisition}", result="acquired", **which)
        self.refused = counter("lock.acquisitions", "{acquisition}", result="not_acquired", **which)
        self.unavailable = counter("lock.acquisitions", "{acquisition}", result="unavailable", **which)
        self.unknown = counter("lock.acquisitions", "{acquisition}", result="unknown", **which)
        self.waited = histogram("lock.wait.duration", "s", **which)
        self.held = histogram("lock.hold.duration", "s", **which)
        self.lost = counter("lock.losses", "{loss}", **which)
        self.renewed = counter("lock.renewals", "{renewal}", result="renewed", **which)
        self.not_renewed = counter("lock.renewals", "{renewal}", result="failed", **which)
        self.lateness = histogram("lock.renewal.lateness", "s", **which)
        self.broken = counter("lock.breaks", "{break}", **which)
        self.errands = counter("lock.withdrawals", "{withdrawal}", **which)
