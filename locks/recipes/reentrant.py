"""Entering again: a thread or task that holds a lock passes its own lock, counted in this process.

A hold is one grant and the set of handles that stand on it. It is found by who asks, an asyncio task where one is
running and the thread otherwise (O1), and by the resource; both are weak references, so that a thread that ended leaves
nothing that a later one could take for its own. Counting takes no exchange with the store: an inner handle has the
fence and the time of the outer one, and only the last handle that goes gives the lock back (O3).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from typing import Any

from backstay.blocking import drive
from backstay.errors import Misuse

from .. import fork
from ..claims import MUTEX, WRITE, Claim, Resource
from ..errors import LockLost
from ..leases.handle import AsyncLease, Lease, Site
from ..leases.lease import HELD, Grant, State
from ..leases.loss import AsyncLoss, Loss
from ..leases.protocol import LeaseProtocol
from ..options import Duration, Terms, checked_name
from .mutex import AsyncMutex, Mutex, Reach, asked

__all__ = ["DEPTH", "AsyncReentrantLease", "AsyncReentrantMutex", "Hold", "Holds", "ReentrantLease", "ReentrantMutex"]

DEPTH = 255
"""How many handles may stand on one grant: more is a recursion without end."""

_places = itertools.count(1).__next__


class Hold:
    """One grant, and the handles that stand on it."""

    __slots__ = ("__weakref__", "grant", "inside", "loss", "mutex", "protocol")

    def __init__(self, protocol: LeaseProtocol, grant: Grant) -> None:
        self.protocol, self.grant = protocol, grant
        self.mutex = threading.Lock()
        self.inside: set[int] = set()
        self.loss: Loss | AsyncLoss | None = None  # one for all handles: a grant tells one listener

    def join(self, claim: Claim) -> int | None:
        """Return the place of one handle more; None where all have gone.

        Raises:
            LockLost: the hold is over, and its handles have not been left yet.
            Misuse: it holds less than is asked for, or has as many handles as it may have.
        """
        grant, now = self.grant, self.protocol.runtime.now()
        with self.mutex:
            if not self.inside:
                return None
            if not grant.valid(now):
                raise grant.lost(now)
            self.permit(claim)
            if len(self.inside) >= DEPTH:
                raise Misuse(f"{grant.resource} was entered {DEPTH} times by one thread or task; is it a recursion?")
            return self.enter()

    def permit(self, claim: Claim) -> None:
        """Raise `Misuse` where more is claimed than is held: it would wait for itself (RW3)."""
        if self.grant.claim not in (claim, WRITE):
            raise Misuse(
                f"{self.grant.resource} is being read by this thread or task, so writing would wait for itself: leave "
                "the block that reads first, or write from the start and downgrade()"
            )

    def enter(self) -> int:
        """Return the place of a new handle."""
        place = _places()
        self.inside.add(place)
        return place

    def is_last(self, place: int) -> bool:
        """Take a handle away unless it is the only one; return whether it is that."""
        if self.grant.reason == "forked":  # a thread of the parent may have held the mutex at the fork
            self.inside.discard(place)
            return False
        with self.mutex:
            if self.inside == {place}:
                return True
            self.inside.discard(place)
            return False

    async def release(self, place: int) -> None:
        """Take a handle away, and give the lock back if it was the last.

        Raises:
            LockLost: the lease had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; calling again is safe.
        """
        if place not in self.inside:  # a cancelled release that went through
            return
        if self.is_last(place):
            try:
                await self.protocol.release(self.grant)
            finally:
                if self.grant.state not in (HELD, State.RELEASING):
                    self.inside.discard(place)
            return
        now = self.protocol.runtime.now()
        if not self.grant.valid(now):
            raise self.grant.lost(now)

    async def leave(self, place: int) -> LockLost | None:
        """Take a handle away at the end of its block; an unanswered release goes to the keeper."""
        if self.is_last(place):
            self.inside.discard(place)
            return await self.protocol.leave(self.grant)
        now = self.protocol.runtime.now()
        return None if self.grant.valid(now) else self.grant.lost(now)

    def alone(self, what: str) -> None:
        """Refuse what changes the grant under other handles.

        Raises:
            Misuse: there are others.
        """
        if len(self.inside) > 1:
            raise Misuse(f"{self.grant.resource} was entered {len(self.inside)} times: {what} is for the outermost")


class Holds:
    """What the threads and tasks of this process hold and may enter again."""

    __slots__ = ("__weakref__", "_mutex", "_of")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._of: weakref.WeakKeyDictionary[Any, weakref.WeakValueDictionary[Resource, Hold]]
        self._of = weakref.WeakKeyDictionary()
        fork.watch(self)

    def enter(self, resource: Resource, claim: Claim) -> tuple[Hold, int] | None:
        """Return another place on what the running thread or task holds of a resource; None where it holds nothing.

        Raises:
            LockLost, Misuse: as `Hold.join` says.
        """
        hold = self.find(resource)
        place = None if hold is None else hold.join(claim)
        return None if hold is None or place is None else (hold, place)

    def find(self, resource: Resource) -> Hold | None:
        """Return what the running thread or task holds of a resource."""
        who = asker()
        with self._mutex:
            mine = self._of.get(who)
            return None if mine is None else mine.get(resource)

    def add(self, hold: Hold) -> tuple[Hold, int]:
        """Let the running thread or task enter `hold` again; return the place of the first handle."""
        self.note(hold)
        return hold, hold.enter()

    def note(self, hold: Hold) -> None:
        """Let the running thread or task enter `hold` again."""
        who = asker()
        with self._mutex:
            mine = self._of.get(who)
            if mine is None:
                mine = self._of[who] = weakref.WeakValueDictionary()
            mine[hold.grant.resource] = hold

    def refuse_upgrade(self, resource: Resource, claim: Claim) -> None:
        """Raise `Misuse` where the running thread or task reads what it wants to write."""
        hold = self.find(resource)
        if hold is not None and hold.inside:
            hold.permit(claim)

    def forked(self) -> None:
        """In a forked child: what the parent holds can be entered by nobody (O5)."""
        self._mutex = threading.Lock()
        self._of = weakref.WeakKeyDictionary()


def asker() -> Any:
    """Return who runs this line: the task, where there is one, else the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    return task or threading.current_thread()


class ReentrantLease(Lease):
    """A lease that stands on a hold, perhaps beside others: they share the fence and the deadline."""

    __slots__ = ("_hold", "_place")

    def __init__(self, hold: Hold, place: int, site: Site) -> None:
        super().__init__(hold.protocol, hold.grant, site)
        self._hold, self._place = hold, place

    @property
    def hold(self) -> Hold:
        """What this handle stands on."""
        return self._hold

    @property
    def lost(self) -> Loss:
        """The event that tells of a loss: `lost.is_set()`, `lost.wait(timeout)`, `lost.call(function)`."""
        loss = self._hold.loss
        if not isinstance(loss, Loss):
            loss = self._hold.loss = Loss(self._protocol.runtime, self._hold.grant)
        return loss

    def detach(self, ttl: Duration | None = None) -> str:
        self._hold.alone("detach()")
        return super().detach(ttl)

    def release(self) -> None:
        """Leave; the last handle that leaves gives the lock back. A second call does nothing.

        Raises:
            LockLost: the lease had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; call again, or let the ttl end it (R6).
        """
        if self._grant is self._hold.grant:
            try:
                drive(self._hold.release(self._place))
            except LockLost:
                self._grant = self._grant.parted()
                raise
            self._grant = self._grant.parted()

    def _leave(self) -> LockLost | None:
        if self._grant is not self._hold.grant:
            return None
        self._grant = self._grant.parted()
        return drive(self._hold.leave(self._place))

    def __del__(self) -> None:
        hold: Hold | None = getattr(self, "_hold", None)
        if hold is None or self._place not in hold.inside:
            return
        hold.inside.discard(self._place)  # no mutex: the collector may run this in the midst of a line that holds it
        if not hold.inside:
            super().__del__()


class AsyncReentrantLease(AsyncLease):
    """A lease that stands on a hold, perhaps beside others: they share the fence and the deadline."""

    __slots__ = ("_hold", "_place")

    def __init__(self, hold: Hold, place: int, site: Site) -> None:
        super().__init__(hold.protocol, hold.grant, site)
        self._hold, self._place = hold, place

    @property
    def hold(self) -> Hold:
        """What this handle stands on."""
        return self._hold

    @property
    def lost(self) -> AsyncLoss:
        """The event that tells of a loss: `lost.is_set()`, `await lost`, `await lost.wait(timeout)`, `lost.call(f)`."""
        loss = self._hold.loss
        if not isinstance(loss, AsyncLoss):
            loss = self._hold.loss = AsyncLoss(self._protocol.runtime, self._hold.grant)
        return loss

    async def detach(self, ttl: Duration | None = None) -> str:
        self._hold.alone("detach()")
        return await super().detach(ttl)

    async def release(self) -> None:
        """Leave; the last handle that leaves gives the lock back. A second call does nothing.

        Raises:
            LockLost: the lease had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; call again, or let the ttl end it (R6).
        """
        if self._grant is self._hold.grant:
            try:
                await self._hold.release(self._place)
            except LockLost:
                self._grant = self._grant.parted()
                raise
            self._grant = self._grant.parted()

    async def _leave(self) -> LockLost | None:
        if self._grant is not self._hold.grant:
            return None
        self._grant = self._grant.parted()
        return await self._hold.leave(self._place)

    def __del__(self) -> None:
        hold: Hold | None = getattr(self, "_hold", None)
        if hold is None or self._place not in hold.inside:
            return
        hold.inside.discard(self._place)  # no mutex: the collector may run this in the midst of a line that holds it
        if not hold.inside:
            super().__del__()


class ReentrantMutex(Mutex):
    """A lock that one thread has at a time, as often as it likes.

    Who holds it is the asyncio task where one is running, else the thread; a handle that goes to another thread does
    not take that with it. The terms of the outermost acquisition count. An inner handle has the same fence, and
    leaving it neither frees nor shortens anything.

        with locks.mutex("order:42", reentrant=True) as outer:
            with locks.mutex("order:42", reentrant=True) as inner:
                assert inner.fence == outer.fence
    """

    __slots__ = ("_holds",)

    _holds: Holds

    @classmethod
    def held_in(cls, holds: Holds, reach: Reach, name: str, terms: Terms) -> ReentrantMutex:
        """Return the lock of that name, counted in `holds`."""
        mutex = cls(reach, Resource(checked_name(name)), MUTEX, terms, Lease)
        mutex._holds = holds
        return mutex

    def _take(self, site: Site) -> Lease:
        found = self._holds.enter(self._resource, self._claim)
        if found is None:
            protocol = self._reach()
            hold = Hold(protocol, drive(asked(protocol, self._resource, self._claim, self._terms)))
            found = self._holds.add(hold)
        return ReentrantLease(*found, site)


class AsyncReentrantMutex(AsyncMutex):
    """A lock that one task has at a time, as often as it likes.

    Who holds it is the running task: `asyncio.gather` and, before Python 3.12, `asyncio.wait_for` run what they are
    given in others. The terms of the outermost acquisition count. An inner handle has the same fence, and leaving it
    neither frees nor shortens anything.

        async with locks.mutex("order:42", reentrant=True) as outer:
            async with locks.mutex("order:42", reentrant=True) as inner:
                assert inner.fence == outer.fence
    """

    __slots__ = ("_holds",)

    _holds: Holds

    @classmethod
    def held_in(cls, holds: Holds, reach: Reach, name: str, terms: Terms) -> AsyncReentrantMutex:
        """Return the lock of that name, counted in `holds`."""
        mutex = cls(reach, Resource(checked_name(name)), MUTEX, terms, AsyncLease)
        mutex._holds = holds
        return mutex

    async def _take(self, site: Site) -> AsyncLease:
        found = self._holds.enter(self._resource, self._claim)
        if found is None:
            protocol = self._reach()
            hold = Hold(protocol, await asked(protocol, self._resource, self._claim, self._terms))
            found = self._holds.add(hold)
        return AsyncReentrantLease(*found, site)
