"""Tokens that are promised for a moment, and the line of those who wait for theirs."""

from __future__ import annotations

import threading

from backstay.runtime import Runtime, Signal

from ..forks import renew_in_child
from .backend import Taken

__all__ = ["Line", "Ticket"]


class Ticket:
    """One place in the line of a bucket.

    Attributes:
        key: whose bucket.
        cost: tokens.
        due: the moment at which they are there, on the runtime's clock.
        until: the same in the store's time; 0 where no store has promised anything.
        taken: what the store answered.
    """

    __slots__ = ("cost", "due", "key", "moved", "taken", "until")

    def __init__(self, key: str, cost: int, taken: Taken | None, now: float, moved: Signal) -> None:
        self.key = key
        self.cost = cost
        self.taken = taken
        self.due = now if taken is None else now + taken.delay
        self.until = 0 if taken is None else taken.due
        self.moved = moved

    def come_earlier(self, tokens: int) -> None:
        """Move forward by the time of so many tokens, and wake who waits."""
        taken = self.taken
        assert taken is not None
        ticks = tokens * taken.scale.token
        self.due -= ticks / taken.scale.second
        self.until -= ticks * taken.second // taken.scale.second
        self.moved.set()


class Line:
    """Who waits for tokens of one limiter in this process, bucket by bucket, in the order in which they came.

    The order itself is the store's: each place was promised behind the ones before it. What is kept here is whom to
    move forward when somebody leaves, since a bucket that was left is as if nobody had stood there.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tickets: dict[str, list[Ticket]] = {}
        self._lock = threading.Lock()
        self.waiting = 0
        renew_in_child(self)

    def join(self, key: str, cost: int, taken: Taken | None) -> Ticket:
        """Return a ticket for what a store has promised, or for nothing that has to be waited for."""
        now = self._runtime.now()
        ticket = Ticket(key, cost, taken, now, self._runtime.signal())
        if ticket.due > now:
            with self._lock:
                for known in [name for name in self._tickets if name == key or len(self._tickets) > 1]:
                    self._forget(known, now)
                self._tickets.setdefault(key, []).append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket that is used."""
        with self._lock:
            tickets = self._tickets.get(ticket.key, [])
            if ticket in tickets:
                tickets.remove(ticket)
                if not tickets:
                    del self._tickets[ticket.key]

    def close_up(self, ticket: Ticket) -> None:
        """Move those behind a ticket forward whose tokens were given back."""
        with self._lock:
            for other in self._tickets.get(ticket.key, ()):
                if other.until > ticket.until:
                    other.come_earlier(ticket.cost)

    async def wait(self, ticket: Ticket) -> None:
        """Wait until the tokens are there: one sleep, ended early if the line moves."""
        while (left := ticket.due - self._runtime.now()) > 0:
            if await ticket.moved.wait(left):
                ticket.moved.clear()

    def _forget(self, key: str, now: float) -> None:
        """Drop tickets whose moment has come: reservations that were used without a word."""
        left = [ticket for ticket in self._tickets[key] if ticket.due > now]
        if left:
            self._tickets[key] = left
        else:
            del self._tickets[key]

    def renew(self) -> None:
        """Begin an empty line in a forked child: the parent's callers wait in the parent."""
        self._lock = threading.Lock()
        self._tickets = {}
        self.waiting = 0
