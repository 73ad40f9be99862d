"""One read of a key at a time: the first one leads, the others wait for what it brings.

A leader that is cancelled, interrupted or out of time has said nothing about the origin. It hands over: its
followers wake, one of them leads with arguments, deadline and context of its own, and the others wait again. So
nothing of a request outlives that request, and no read is run in a foreign task or thread.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from ..bulkhead.waiters import Waiter
from ..forks import renew_in_child
from .answer import Found

__all__ = ["HANDED_OVER", "Flight", "Flights", "Landed"]


@dataclass(frozen=True, slots=True)
class Landed:
    """What a leader brought: the best answer that it found, and why that is not the origin's, if it is not."""

    found: Found | None = None
    refusal: Exception | None = None
    fatal: bool = False
    """The refusal is no reason to look elsewhere: every read of this key raises it."""


HANDED_OVER: Final = Landed()
"""The leader has said nothing: somebody else has to go."""


class Flight:
    """One read under way. `place` is the event loop that its leader runs on, None in a thread without one."""

    __slots__ = ("landed", "place", "slot", "waiting")

    def __init__(self, slot: Hashable, place: Any) -> None:
        self.slot = slot
        self.place = place
        self.landed: Landed | None = None
        self.waiting: list[Waiter] | None = []


class Flights:
    """The reads of one chain that are under way, of both colours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight] = {}
        renew_in_child(self)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, slot: Hashable, place: Any) -> tuple[Flight, bool]:
        """Return the flight of a slot, and whether the caller leads it."""
        with self._lock:
            flight = self._open.get(slot)
            if flight is not None:
                return flight, False
            flight = self._open[slot] = Flight(slot, place)
            return flight, True

    def board(self, flight: Flight, waiter: Waiter) -> bool:
        """Have `waiter` woken when the flight lands; False if it has landed."""
        with self._lock:
            if flight.waiting is None:
                return False
            flight.waiting.append(waiter)
            return True

    def leave(self, flight: Flight, waiter: Waiter) -> None:
        """Wait no longer."""
        with self._lock:
            if flight.waiting is not None and waiter in flight.waiting:
                flight.waiting.remove(waiter)

    def detach(self, *slots: Hashable) -> None:
        """Let nobody join the flights of these slots any more; those who did get what they bring."""
        with self._lock:
            for slot in slots:
                self._open.pop(slot, None)

    def land(self, flight: Flight, landed: Landed) -> None:
        """End a flight, once; what comes after it begins another one."""
        with self._lock:
            if flight.waiting is None:
                return
            flight.landed = landed
            waiting, flight.waiting = flight.waiting, None
            if self._open.get(flight.slot) is flight:
                del self._open[flight.slot]
        for each in waiting:
            each.grant()

    def renew(self) -> None:
        """Forget the parent's flights in a forked child: nobody here flies them."""
        self._lock = threading.Lock()
        self._open = {}
