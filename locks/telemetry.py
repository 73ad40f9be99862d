"""What locks count, by recipe: golden signals of a store and namespace. Names of locks are no attributes (OT-4)."""

from __future__ import annotations

from typing import Any

from backstay.telemetry import counter, histogram

__all__ = ["REASONS", "Meters", "RecipeMeters"]

REASONS = ("expired", "taken", "closed", "session", "max_hold")
"""Why a lease ends before its holder gives it back."""


class RecipeMeters:
    """The counters and histograms of one recipe on one connection.

    `lock.acquisitions` by result, `lock.contentions` (how many acquisitions found it held by others),
    `lock.wait.duration` from asking to having, `lock.hold.duration` from having to giving back, `lock.losses` by
    reason, `lock.renewals` by result, `lock.renewal.lateness` (how much later than planned a renewal began: a starved
    loop or thread shows here, N8), `lock.withdrawals` (how often an unanswered acquisition had to be given up behind
    the caller's back), `lock.breaks` (by operators).
    """

    __slots__ = ("acquired", "broken", "contended", "errands", "held", "lateness", "lost", "not_renewed", "refused",
                 "renewed", "unavailable", "unknown", "waited")  # fmt: skip

    def __init__(self, store: str, namespace: str, kind: str) -> None:
        which: dict[str, Any] = {"backend": store, "resource": namespace, "recipe": kind}
        self.acquired = counter("lock.acquisitions", "{acquisition}", result="acquired", **which)
        self.refused = counter("lock.acquisitions", "{acquisition}", result="not_acquired", **which)
        self.unavailable = counter("lock.acquisitions", "{acquisition}", result="unavailable", **which)
        self.unknown = counter("lock.acquisitions", "{acquisition}", result="unknown", **which)
        self.contended = counter("lock.contentions", "{acquisition}", **which)
        self.waited = histogram("lock.wait.duration", "s", **which)
        self.held = histogram("lock.hold.duration", "s", **which)
        self.lost = {reason: counter("lock.losses", "{loss}", reason=reason, **which) for reason in REASONS}
        self.renewed = counter("lock.renewals", "{renewal}", result="renewed", **which)
        self.not_renewed = counter("lock.renewals", "{renewal}", result="failed", **which)
        self.lateness = histogram("lock.renewal.lateness", "s", **which)
        self.broken = counter("lock.breaks", "{break}", **which)
        self.errands = counter("lock.withdrawals", "{withdrawal}", **which)


class Meters(dict[str, RecipeMeters]):
    """The meters of one connection by the kind of resource, shared by all its locks: `meters[resource.kind]`.

    A kind has series from its first use on, so a service that has no semaphore exports none. The kinds are few and
    fixed (`claims.KINDS`), and after the first use one look into a dictionary is the whole cost.
    """

    __slots__ = ("_namespace", "_store")

    def __init__(self, store: str, namespace: str) -> None:
        super().__init__()
        self._store, self._namespace = store, namespace

    def __missing__(self, kind: str) -> RecipeMeters:
        # Two threads may both come here: their meters count into the same series.
        return self.setdefault(kind, RecipeMeters(self._store, self._namespace, kind))
