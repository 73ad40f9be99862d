"""What one process holds of a scope: which documents may follow, what is owed, how fresh it is (SW-1, SW-3, SW-5).

Pure: no I/O, no threads, time from outside. The plane serializes all calls that change it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from backstay.clock import Clock
from backstay.errors import Misuse

from .envelope import Cursor, Envelope, Order

__all__ = ["Replica", "State"]

State: TypeAlias = Literal["starting", "ready", "stale", "error"]


class Replica:
    """The held document, the highest version that was told of and is still owed, and when it was last confirmed.

    States (SW-5): `starting` before the first look has ended; `ready` while the source confirms what is held;
    `stale` when a look failed, when the source answers less than it told of, or when nobody looked for `lag`
    seconds; `error` when that lasts longer than `grace`, or at once when the source's document is refused. What is
    held counts in all of them.

    Args:
        scope: the only scope whose documents are taken; None for that of the first one.
        grace: seconds.
        lag: seconds within which a look is certain, or None if nobody promises one.
        clock: monotonic seconds.
    """

    def __init__(self, *, scope: str | None, grace: float, lag: float | None, clock: Clock) -> None:
        self.scope = scope
        self.held: Envelope | None = None
        self.owed: Cursor | None = None
        self.problem = ""
        self._grace = grace
        self.lag = lag
        self._clock = clock
        self._confirmed_at = clock()
        self._looked = False
        self._refused = False
        self._ended = ""

    @property
    def cursor(self) -> Cursor | None:
        """Where the document stands that is in force; it moves by `applied` only."""
        return None if self.held is None else self.held.cursor

    @property
    def behind(self) -> bool:
        """Whether a version was told of that is not applied yet."""
        return self.owed is not None

    def told(self, cursor: Cursor) -> bool:
        """Hear that there is a version; return whether that is news; it is owed until then.

        Only an applied document that is not below it ends that.
        """
        highest = self.owed or self.cursor
        if highest is not None and cursor <= highest:
            return False
        self.owed = cursor
        return True

    def gap(self, cursor: Cursor) -> bool:
        """Return whether versions, or an epoch, lie between what is held and `cursor`."""
        held = self.cursor
        return held is not None and cursor > (held.epoch, held.version + 1)

    def weigh(self, envelope: Envelope) -> Order:
        """Return how a document stands to the one that is held. Only a newer one may be applied (SW-1).

        Raises:
            Misuse: it is of another scope.
        """
        if self.scope is not None and envelope.scope != self.scope:
            raise Misuse(
                f"the document is of scope {envelope.scope!r}, not of {self.scope!r}; check the source's address"
            )
        return envelope.compare(self.held)

    def applied(self, envelope: Envelope) -> None:
        """Take note that all consumers have applied a document."""
        self.scope = envelope.scope
        self.held = envelope
        if self.owed is not None and self.owed <= envelope.cursor:
            self.owed = None

    def confirmed(self) -> bool:
        """Take note that the source has nothing above what is held; return False, and do not, if more is owed."""
        self._looked = True
        if self.owed is not None:
            self.failed(f"the source told of version {self.owed} and answers {self.cursor}; it is asked again")
            return False
        self._confirmed_at = self._clock()
        self._refused = False
        self.problem = ""
        return True

    def failed(self, problem: str, *, refused: bool = False) -> bool:
        """Take note of a look that failed; return whether the problem is another one than last time.

        Args:
            problem: what operators read.
            refused: the source answered, and what it said is wrong.
        """
        self._looked = True
        changed = problem != self.problem
        self.problem = problem
        self._refused = refused
        return changed

    def waited(self, problem: str) -> None:
        """Take note that the first look takes longer than anybody waits for; it goes on."""
        if not self._looked:
            self.failed(problem)

    def ended(self, problem: str) -> bool:
        """Take note that the held document is past its `not_after`, or with an empty text that it is not."""
        changed, self._ended = problem != self._ended, problem
        return changed

    def inherited(self) -> None:
        """Take what is held for unconfirmed, in a forked child (SW-11)."""
        self.failed("inherited by a fork and not confirmed yet")

    @property
    def trouble(self) -> str:
        """What is wrong, or an empty text."""
        return self.problem or self._ended

    def age(self) -> float:
        """Return the seconds since the last confirmation, or since the start (SW-6)."""
        return max(0.0, self._clock() - self._confirmed_at)

    def state(self) -> State:
        """Return how far what is held can be trusted to be what the source says now."""
        if not self._looked:
            return "starting"
        if self._refused:
            return "error"
        age = self.age()
        if self.problem:
            return "stale" if age <= self._grace else "error"
        if self.lag is not None and age > self.lag:
            return "stale" if age <= self.lag + self._grace else "error"
        return "stale" if self._ended else "ready"
