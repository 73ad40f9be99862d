"""Who of this process holds and waits: PostgreSQL knows sessions only, and a session may lock the same key twice.

Times are the process's monotonic clock, seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backstay.locks.backend import ALIVE, TOMBSTONE
from backstay.locks.claims import Claim, Resource, Unit, fits, weigh

__all__ = ["Gate", "Holder", "Lane"]


@dataclass(slots=True)
class Holder:
    """One grant of this process."""

    resource: Resource
    units: tuple[Unit, ...]
    fence: int
    since: float


@dataclass(slots=True)
class Waiter:
    """One of this process who waits."""

    resource: Resource
    units: tuple[Unit, ...]
    alive: float


@dataclass(slots=True)
class Lane:
    """One key."""

    holders: dict[str, Holder] = field(default_factory=dict[str, Holder])
    queue: dict[str, Waiter] = field(default_factory=dict[str, Waiter])


class Gate:
    """All keys of one session."""

    def __init__(self) -> None:
        self._lanes: dict[int, Lane] = {}
        self._gone: dict[str, float] = {}

    def lane(self, key: int) -> Lane:
        """Return what is known of a key."""
        return self._lanes.get(key) or Lane()

    def lanes(self) -> Iterator[Lane]:
        """Return all that is known."""
        return iter(self._lanes.values())

    def is_gone(self, token: str, now: float) -> bool:
        """Return whether a token was given up."""
        for old in [old for old, until in self._gone.items() if until <= now]:
            del self._gone[old]
        return token in self._gone

    def admits(self, key: int, token: str, claim: Claim, now: float) -> bool:
        """Return whether a claim fits beside those who hold and those who came before and wait."""
        lane = self._lanes.get(key)
        if lane is None:
            return True
        for old in [old for old, waiter in lane.queue.items() if waiter.alive < now and old != token]:
            del lane.queue[old]
        used: dict[str, int] = {}
        for holder in lane.holders.values():
            weigh(used, holder.units)
        for other, waiter in lane.queue.items():
            if other == token:
                break
            weigh(used, waiter.units)
        return fits(used, claim.units, 0)

    def hold(self, key: int, token: str, holder: Holder) -> None:
        """Note a grant."""
        lane = self._lanes.setdefault(key, Lane())
        lane.queue.pop(token, None)
        lane.holders[token] = holder

    def queue(self, key: int, token: str, resource: Resource, claim: Claim, now: float) -> int:
        """Note one who waits, and return its place."""
        lane = self._lanes.setdefault(key, Lane())
        waiter = lane.queue.setdefault(token, Waiter(resource, claim.units, 0.0))
        waiter.alive = now + ALIVE
        return list(lane.queue).index(token)

    def drop(self, key: int, token: str) -> Holder | None:
        """Forget a token; return what it held."""
        lane = self._lanes.get(key)
        if lane is None:
            return None
        lane.queue.pop(token, None)
        holder = lane.holders.pop(token, None)
        if not lane.holders and not lane.queue:
            del self._lanes[key]
        return holder

    def give_up(self, token: str, now: float) -> None:
        """Refuse a token from now on."""
        self._gone[token] = now + TOMBSTONE

    def ended(self) -> None:
        """Forget every grant: the session that held them is over. Those who wait still do."""
        for key, lane in list(self._lanes.items()):
            lane.holders.clear()
            if not lane.queue:
                del self._lanes[key]
