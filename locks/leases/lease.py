"""What one acquisition won, and the arithmetic of its time: values and decisions, no I/O, no clock.

A grant moves through five states, by this table and no other way:

    held       -> releasing   the holder gives it back (the request is on its way)
    held       -> lost        the deadline passed, or the backend named another owner
    held       -> detached    its text was handed out; whoever attaches it goes on
    releasing  -> releasing   the answer did not come; asking again is safe
    releasing  -> released    the backend answered
    releasing  -> lost        the backend named another owner although nothing of ours could have freed it

Time. The backend counts `ttl` from when the request arrived, the holder from before it left, so the holder
stops first. The two clocks may differ in rate by `DRIFT`; beyond that two holders are possible, and only the
fence protects the resource (criteria C4, T4).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..claims import MUTEX, Claim, Resource
from ..errors import LockLost

if TYPE_CHECKING:
    from backstay.runtime import Signal

__all__ = ["DRIFT", "MOVES", "TICK", "Grant", "State", "deadline", "first_renewal", "next_renewal", "started"]

DRIFT = 0.01
"""The difference in rate of the holder's clock and the backend's that is covered: 1 %."""

TICK = 1e-6
"""Seconds that count as no time at all: added to a large clock they may not even change it."""

RETRY_FLOOR = 0.05  # s between two attempts to renew while the backend does not answer


class State(Enum):
    """Where a grant stands."""

    HELD = "held"
    RELEASING = "releasing"
    RELEASED = "released"
    LOST = "lost"
    DETACHED = "detached"

    __hash__ = object.__hash__  # members are single objects; the default hashes their names, in Python


MOVES = MappingProxyType(
    {
        State.HELD: frozenset({State.RELEASING, State.LOST, State.DETACHED}),
        State.RELEASING: frozenset({State.RELEASING, State.RELEASED, State.LOST}),
        State.RELEASED: frozenset[State](),
        State.LOST: frozenset[State](),
        State.DETACHED: frozenset[State](),
    }
)
"""The whole state table: from a state to those that may follow it."""

HELD, RELEASED, LOST = State.HELD, State.RELEASED, State.LOST  # module globals: an Enum attribute costs 40 ns


def deadline(sent: float, ttl: float) -> float:
    """Return when the holder must stop: `ttl` after `sent`, less the margin for clock rates.

    `sent` is the holder's clock from *before* the request left, or `started(...)` (criterion C4).
    """
    return sent + ttl * (1.0 - DRIFT)


def started(queued: float, queued_there: float, granted_there: float, received: float) -> float:
    """Return the start of a lease that another's release handed over.

    The waiter sent nothing near the grant. What it has: its own clock when it last queued, the server's
    clock then and at the grant, and its own clock when the message came (criterion C4, corrected form).
    A server clock that was set back counts as no time passed, which only shortens the lease.
    """
    return min(queued + max(0.0, granted_there - queued_there), received)


def first_renewal(sent: float, ttl: float, chance: float) -> float:
    """Return when to renew first: a third of `ttl` after `sent`, up to 10 % earlier by `chance` in [0, 1]."""
    return sent + ttl / 3.0 * (1.0 - 0.1 * chance)


def next_renewal(now: float, ttl: float, failures: int, chance: float) -> float:
    """Return when to try again after `failures` unanswered renewals: back-off from ttl/30 to ttl/6."""
    pause = min(ttl / 30.0 * 2.0 ** (failures - 1), ttl / 6.0)
    return now + max(min(RETRY_FLOOR, ttl / 10.0), pause * (1.0 - 0.5 * chance))


class Grant:
    """One acquisition: what was won, until when, and where it stands.

    Args:
        resource: what is held.
        token: the owner's name at the backend, used for this acquisition only.
        fence: the number that the resource compares.
        ttl: seconds that each renewal promises.
        until: the holder's clock when it must stop.
        since: the holder's clock when it began.
        renew: whether it is renewed.
        claim: what is held of the resource.
        cap: the holder's clock after which no renewal counts (`max_hold`, criterion N7).
    """

    __slots__ = ("cap", "claim", "deadline", "doubted", "due", "failures", "fence", "notice", "reason",
                 "releasing_since", "renew", "renewing", "resource", "since", "state", "token", "ttl")  # fmt: skip

    def __init__(
        self,
        resource: Resource,
        token: str,
        fence: int,
        ttl: float,
        until: float,
        since: float,
        renew: bool,
        claim: Claim = MUTEX,
        cap: float = inf,
    ) -> None:
        self.resource = resource
        self.token = token
        self.fence = fence
        self.ttl = ttl
        self.deadline = min(until, cap)
        self.claim = claim
        self.cap = cap
        self.since = since
        self.renew = renew
        self.state = HELD
        self.reason = ""
        self.doubted = False  # the store's session is cut off; a renewal settles it (Z6, Z7)
        self.due = 0.0  # the keeper's plan; an entry of its heap with another time is void
        self.failures = 0
        self.renewing: Signal | None = None  # raised when the renewal that is under way has ended
        self.releasing_since: float | None = None
        self.notice: Callable[[], None] | None = None  # tells the holder; called once

    def __repr__(self) -> str:
        return f"Grant({self.resource}, fence={self.fence}, {self.state.value})"

    def valid(self, now: float) -> bool:
        """Return whether the holder may go on at `now`: computed, never remembered (criterion C3)."""
        return self.state is HELD and now < self.deadline and not self.doubted

    def move(self, to: State, reason: str = "") -> bool:
        """Go to another state if the table has that move; return whether it had."""
        if to not in MOVES[self.state]:
            return False
        self.state = to
        if reason:
            self.reason = reason
        return True

    def extended(self, sent: float, ttl: float) -> None:
        """Note a renewal that the backend confirmed: the deadline moves on, never back (criterion R7)."""
        self.deadline = min(max(self.deadline, deadline(sent, ttl)), self.cap)
        self.failures = 0
        self.doubted = False

    def parted(self) -> Grant:
        """Return this grant as a handle sees it that has left while others still stand on it: released."""
        copy = Grant(self.resource, self.token, self.fence, self.ttl, self.deadline, self.since, False, self.claim)
        copy.state = RELEASED if self.state is not LOST else LOST
        copy.reason = self.reason
        return copy

    @property
    def ending(self) -> str:
        """The reason for which its time is over when it is over."""
        return "max_hold" if self.deadline >= self.cap else "expired"

    def lost(self, now: float) -> LockLost:
        """Return the error that says why the lease is no longer good."""
        reason = self.reason or (
            self.ending if now >= self.deadline else "doubted" if self.doubted else self.state.value
        )
        text = _REASONS.get(reason, "")
        return LockLost(
            f"{self.resource} (fence {self.fence}) {text or 'is not held: it is ' + reason}; "
            "stop the work it protected, what was written late must be refused by its fence",
            lock=self.resource.name,
            fence=self.fence,
            reason=reason,
        )


_REASONS = {
    "expired": "was not renewed in time",
    "taken": "is owned by another or was freed at the server",
    "forked": "belongs to the parent process; a forked child must acquire its own",
    "closed": "was given back by close()",
    "session": "ended with the session at the store",
    "max_hold": "was held for as long as max_hold allows",
    "detached": "was handed over by detach(); whoever attached it holds it now",
    "doubted": "is in doubt, since the session at the store is cut off",
}
