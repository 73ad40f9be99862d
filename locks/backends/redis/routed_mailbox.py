"""Where a process hears of hand-overs, where servers replace each other: one subscription for each server.

Each server counts its own subscribers only, and the script that hands a lock over needs that count to pass dead
processes by. So a waiter subscribes at the server that has its lock. A note is a hint here and nothing more: a server
that was replaced, or a Cluster's own network, may deliver a note of a hand-over that did not come about, since the
server with the lock saw no subscriber. The waiter asks, and the answer decides; a note that never comes costs what
a lost note costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from backstay.locks.backend import Letter, Note
from backstay.redis import Place

from .routed import Address, RoutedWire

__all__ = ["Box", "RoutedLetter", "RoutedMailbox"]


class Box(Protocol):
    """The mailbox at one server."""

    @property
    def address(self) -> str:
        """The channel; empty while there is none."""
        ...

    def letter(self, token: str) -> Letter | None: ...
    async def open(self, timeout: float) -> None: ...
    async def close(self) -> None: ...
    def cut_off(self) -> None: ...
    def forked(self) -> None: ...


class RoutedLetter:
    """One waiter's place: at the server that its last request went to."""

    __slots__ = ("_box", "_boxes", "_inner", "_place", "_token", "address")

    def __init__(self, boxes: RoutedMailbox, token: str) -> None:
        self._boxes, self._token = boxes, token
        self._box: Box | None = None
        self._inner: Letter | None = None
        self._place: Place | None = None
        self.address = Address("routed")
        self.address.subscription = self

    async def at(self, place: Place, timeout: float) -> str:
        """See `Subscription.at`."""
        box = self._boxes.at(place)
        if not box.address:
            await box.open(timeout)
        if self._box is not box or self._inner is None:
            self.close()
            self._box, self._inner, self._place = box, box.letter(self._token), place
        return box.address

    async def wait(self, timeout: float) -> Note | None:
        """Wait for a note; None in any case, since the waiter has to look again."""
        if self._inner is not None and self._boxes.stands(self._place):
            await self._inner.wait(timeout)
        return None

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None


class RoutedMailbox:
    """The mailboxes of a process or loop at all the servers at which it waits.

    Args:
        wire: knows the servers.
        box: makes the mailbox at one of them.
    """

    def __init__(self, wire: RoutedWire, box: Callable[[Place], Box]) -> None:
        self._wire, self._make = wire, box
        self._mutex = wire.runtime.mutex()
        self._boxes: dict[Place, Box] = {}
        self._opened = False
        wire.on_change = self._keep

    def letter(self, token: str) -> RoutedLetter | None:
        """Return a place for `token`, None where nobody has waited yet."""
        return RoutedLetter(self, token) if self._opened else None

    async def open(self, timeout: float) -> None:
        """Have letters made; each subscribes where its request goes, before it goes there (W1)."""
        self._opened = True

    def at(self, place: Place) -> Box:
        """Return the mailbox at one server."""
        with self._mutex:
            box = self._boxes.get(place)
            if box is None:
                box = self._boxes[place] = self._make(place)
            return box

    def stands(self, place: Place | None) -> bool:
        """Return whether that server is still one to wait at."""
        return place in self._boxes

    async def close(self) -> None:
        """Unsubscribe for good; whoever waits looks again and is refused."""
        with self._mutex:
            boxes, self._boxes = list(self._boxes.values()), {}
        for box in boxes:
            await box.close()

    def forked(self) -> None:
        """Begin anew: subscriptions and waiters belong to the parent."""
        self._mutex = self._wire.runtime.mutex()
        self._boxes = {}

    def _keep(self, places: frozenset[Place]) -> None:
        """Leave the servers that serve no more; who waits there looks again at once."""
        with self._mutex:
            gone = [self._boxes.pop(place) for place in tuple(self._boxes) if place not in places]
        for box in gone:
            box.cut_off()
