"""What a coordinator can be told, checked when it is told.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from backstay.errors import Misuse

from .backoff import Backoff

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times of a coordinator, all in seconds.

    Args:
        deadline: from the first branch to the decision; a transaction undecided by then is cancelled.
        timeout: one request to one branch. Separate from the deadline: a slow branch may time out early, a
            long transaction may have many quick branches.
        patience: how long the end of the block itself keeps on confirming or cancelling before it leaves the
            rest to the background.
        lease: how long other processes wait for a silent coordinator before they take its transactions over.
        recover_every: between two looks for unfinished work.
        journal_patience: how long an unanswered decision is asked again before `OutcomeUnknown`.
        backoff: between passes over the branches of a decided transaction.
        recovery: whether this process recovers in the background. Turn it off where not all actions are at hand;
            some other process must then do it.
        batch: transactions that one recovery round takes at once.
        at_once: transactions that recovery carries on side by side.
    """

    deadline: float = 30.0
    timeout: float = 5.0
    patience: float = 2.0
    lease: float = 10.0
    recover_every: float = 1.0
    journal_patience: float = 5.0
    recovery: bool = True
    backoff: Backoff = field(default_factory=Backoff)
    batch: int = 100
    at_once: int = 8

    def __post_init__(self) -> None:
        for name in ("deadline", "timeout", "lease", "recover_every"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise Misuse(f"{name} must be > 0 s and finite, got {value}")
        if self.deadline > 12 * 3600:
            raise Misuse(f"deadline must be at most 12 hours, got {self.deadline} s; barriers forget after a day")
        for name in ("patience", "journal_patience"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise Misuse(f"{name} must be >= 0 s and finite, got {value}")
        for name in ("batch", "at_once"):
            if getattr(self, name) < 1:
                raise Misuse(f"{name} must be >= 1, got {getattr(self, name)}")
