"""Who holds a resource and who waits for it: the whole rule of granting, as a value; no I/O, no clock.

Stores that keep their state in Python's reach run this table (memory, SQL); the Redis scripts say the same in
Lua, and a test compares the two step by step. Times are the store's clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .backend import ALIVE, TOMBSTONE, Busy, Freed, Holding, Kept, Queued, Survey
from .claims import MUTEX, WHOLE, Claim, Resource, Unit, fits, weigh
from .errors import SizeDiffers

__all__ = ["Entry", "HandOver", "Holder", "Table"]

HandOver = Callable[[str, str, int], bool]
"""Tells the waiter at an address that its token was granted with a fence; false where nobody is there."""


@dataclass(slots=True)
class Holder:
    """One grant that stands."""

    units: tuple[Unit, ...]
    fence: int
    since: float
    ends: float


@dataclass(slots=True)
class Entry:
    """One who waits."""

    units: tuple[Unit, ...]
    ttl: float
    address: str
    alive: float


@dataclass(slots=True)
class Table:
    """One resource.

    Args:
        draw: returns the next fence, above every earlier one.
        hand_over: tells a waiter of its grant; None where waiters can only ask again, so that a free resource
            is kept for the first of them instead of being granted.
    """

    draw: Callable[[], int]
    hand_over: HandOver | None
    size: int = 0
    holders: dict[str, Holder] = field(default_factory=dict[str, Holder])
    queue: dict[str, Entry] = field(default_factory=dict[str, Entry])
    gone: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if this table was forgotten."""
        return not (self.holders or self.queue or self.gone or self.size)

    def busy(self, now: float) -> bool:
        """Whether somebody holds it or waits for it."""
        return any(each.ends > now for each in self.holders.values()) or any(
            each.alive >= now for each in self.queue.values()
        )

    def sweep(self, now: float) -> None:
        """Drop the holders and the tombstones whose time is over."""
        for token in [token for token, holder in self.holders.items() if holder.ends <= now]:
            del self.holders[token]
        for token in [token for token, until in self.gone.items() if until <= now]:
            del self.gone[token]

    def take(self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, now: float) -> int | Busy:
        """See `Backend.take`."""
        if self.holders or self.queue or self.gone:
            self.sweep(now)
            if token in self.gone:
                return Busy(None, now, 0, "")
            mine = self.holders.get(token)
            if mine is not None:
                mine.ends = now + ttl
                return mine.fence
        if claim.size != self.size and claim.size:
            if not self.size:
                self.size = claim.size
            elif token not in self.queue or not fits({}, claim.units, self.size):
                # Who waits said the size that was right then, and goes on unless there is too little for it now.
                self.queue.pop(token, None)
                raise SizeDiffers(resource, claim.size, self.size)
        if not self.holders and not self.queue and (claim is MUTEX or fits({}, claim.units, self.size)):
            return self._grant(token, claim.units, ttl, now, self.draw())
        free = self._advance(now, token, ttl)
        mine = self.holders.get(token)
        if mine is not None:
            return mine.fence
        if free is not None and fits(free, claim.units, self.size):
            return self._grant(token, claim.units, ttl, now, self.draw())
        if address:
            waiting = self.queue.get(token)
            if waiting is None:
                self.queue[token] = Entry(claim.units, ttl, address, now + ALIVE)
            else:  # it keeps its place
                waiting.ttl, waiting.address, waiting.alive = ttl, address, now + ALIVE
        owner, first = min(self.holders.items(), key=lambda each: each[1].ends, default=("", None))
        return Busy(None if first is None else first.ends - now, now, len(self.queue), owner)

    def release(self, token: str, fence: int, now: float) -> Freed:
        """See `Backend.release`."""
        self.sweep(now)
        mine = self.holders.get(token)
        if mine is None or mine.fence != fence:
            return Freed.NOT_OWNER
        del self.holders[token]
        self._advance(now)
        return Freed.FREED

    def renew(self, token: str, fence: int, ttl: float, now: float) -> Kept:
        """See `Backend.renew`."""
        mine = self.holders.get(token)
        if mine is None or mine.fence != fence or now >= mine.ends:
            return Kept.NOT_OWNER
        mine.ends = max(mine.ends, now + ttl)
        return Kept.RENEWED

    def lessen(self, token: str, fence: int, claim: Claim, now: float) -> Freed:
        """See `Backend.lessen`."""
        self.sweep(now)
        mine = self.holders.get(token)
        if mine is None or mine.fence != fence:
            return Freed.NOT_OWNER
        mine.units = claim.units
        self._advance(now)
        return Freed.FREED

    def withdraw(self, token: str, in_flight: bool, now: float) -> None:
        """See `Backend.withdraw`."""
        self.sweep(now)
        if in_flight:
            self.gone[token] = now + TOMBSTONE
        self.queue.pop(token, None)
        self.holders.pop(token, None)
        self._advance(now)

    def resize(self, size: int, drain: bool, now: float) -> int:
        """See `Backend.resize`."""
        self.sweep(now)
        before, self.size = self.size, size
        if drain and before != size:
            self.queue.clear()  # they named units of the old size; they ask again, and are told
            for holder in self.holders.values():
                holder.units = (Unit("*", WHOLE, WHOLE),)
        self._advance(now)
        return before

    def survey(self, now: float) -> Survey:
        """See `Backend.inspect`."""
        self.sweep(now)
        return Survey(
            self.size,
            [Holding(token, each.units, each.fence, now - each.since, each.ends - now)
             for token, each in self.holders.items()],
            [Queued(token, each.units) for token, each in self.queue.items() if each.alive >= now],
        )  # fmt: skip

    def _grant(self, token: str, units: tuple[Unit, ...], ttl: float, now: float, fence: int) -> int:
        self.holders[token] = Holder(units, fence, now, now + ttl)
        return fence

    def _advance(self, now: float, me: str = "", my_ttl: float = 0.0) -> dict[str, int] | None:
        """Grant what can be granted, in order of arrival.

        Returns:
            What is used and kept for those who wait; None where nobody behind them can be admitted.
        """
        used: dict[str, int] = {}
        for holder in self.holders.values():
            weigh(used, holder.units)
        fence = 0
        for token, entry in list(self.queue.items()):
            if entry.alive < now and token != me:
                del self.queue[token]
                continue
            if fits(used, entry.units, self.size):
                if token == me or self.hand_over is not None:
                    fence = fence or self.draw()
                    del self.queue[token]
                    if token != me and self.hand_over is not None and not self.hand_over(entry.address, token, fence):
                        continue  # its process is gone; the fence that it did not get serves the next
                    self._grant(token, entry.units, my_ttl if token == me else entry.ttl, now, fence)
                    fence = 0
            elif len(entry.units) == 1:
                return None  # all claims have that unit, and what is kept of it leaves no room for them
            weigh(used, entry.units)
        return used
