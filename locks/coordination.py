"""The recipes that are documents: one text for both faces, which differ only in the classes that they give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from backstay.errors import Misuse

from .elections.campaign import Terms, candidacy
from .elections.election import AsyncElection, Election
from .elections.leadership import AsyncLeadership, Leadership
from .elections.standing import Standing
from .options import Duration, terms
from .recipes.barrier import AsyncBarrier, Barrier
from .recipes.latch import AsyncLatch, Latch, kept
from .recipes.mutex import Reach
from .recipes.once import Once, once
from .recipes.singleton import AsyncSingleton, Singleton
from .recipes.stock import AsyncStock, Stock

if TYPE_CHECKING:
    from .connection import AsyncLocks, Locks

__all__ = ["AsyncCoordination", "BlockingCoordination", "Coordination", "Gatherings"]

L = TypeVar("L")
B = TypeVar("B")
E = TypeVar("E")
K = TypeVar("K")
R = TypeVar("R")

WEEK = 7 * 86400.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatherings(Generic[L, B, E, K]):
    """What makes the latches, barriers, elections and stocks of one colour."""

    latch: Callable[[Reach, str, int, Duration], L]
    barrier: Callable[[Reach, str, int, Duration], B]
    election: Callable[[Reach, Standing, str, str | None, Terms], E]
    stock: Callable[[Reach, str, int], K]


class Coordination(Generic[L, B, E, K]):
    """The recipes that are a shared document."""

    _gatherings: Gatherings[L, B, E, K]
    _standing: Standing

    def _reached(self) -> Reach:
        """Return what finds the protocol."""
        raise NotImplementedError

    def _blocking(self) -> Locks:
        """Return locks for plain functions on the same store."""
        raise NotImplementedError

    def _asynchronous(self) -> AsyncLocks:
        """Return locks for `async def` functions on the same store."""
        raise NotImplementedError

    def latch(self, name: str, count: int, *, keep: Duration = WEEK) -> L:
        """Return the latch of that name: a gate that opens when `count` has come down to 0; nothing is sent yet.

        Args:
            name: 1 to 512 characters.
            count: what it counts from; the first caller's number goes into the store, and who says another is refused.
            keep: seconds after its latest change for which it is remembered; a store may keep it longer.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._gatherings.latch(self._reached(), name, count, keep)

    def barrier(self, name: str, parties: int, *, keep: Duration = WEEK) -> B:
        """Return the cyclic barrier of that name, which nobody passes before `parties` have come; nothing is sent yet.

        Args:
            name: 1 to 512 characters.
            parties: how many make a round, at most 256; the first caller's number goes into the store, and who says
                another is refused.
            keep: seconds after its latest change for which it is remembered; a store may keep it longer.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._gatherings.barrier(self._reached(), name, parties, keep)

    def stock(self, name: str, *, segments: int = 8) -> K:
        """Return the stock of that name: a number of units that many take from at once; nothing is sent yet.

        Args:
            name: 1 to 500 characters.
            segments: how many documents it is split over, at most 1,024; more let more take at the same time, and make
                finding out that it is empty dearer. The first caller's number goes into the store.

        Raises:
            Misuse: one of these is out of range.
        """
        return self._gatherings.stock(self._reached(), name, segments)

    def election(
        self,
        name: str,
        *,
        ttl: Duration = 15.0,
        candidate: str | None = None,
        retry: Duration | None = None,
        lock_delay: Duration = 0.0,
        hold_back: Duration = 0.0,
        hold_down: Duration = 30.0,
    ) -> E:
        """Return the election of that name, of one leader at a time; nothing is sent before it is run.

        Args:
            name: 1 to 503 characters; its seat is the mutex `election:NAME`.
            ttl: seconds after which another can lead when a leader dies, and within which one that is cut off is told.
            candidate: what the news call this candidate, such as a host's name; default `host-pid`.
            retry: seconds between two attempts while the store does not answer; default a tenth of the ttl, at most 2.
            lock_delay: seconds that a new leader waits, holding the seat, where the one before did not tell that its
                work had ended; for work that nothing guards by its fence.
            hold_back: seconds that the seat must have been empty before this candidate takes it: 0 for the first
                choice, more for a machine, a zone or a version that shall lead only where no other does.
            hold_down: seconds at most for which a candidate stays away whose terms are lost soon, again and again.

        Raises:
            Misuse: one of these is out of range, or `retry` leaves no time within `ttl`.
        """
        agreed = candidacy(ttl, retry, lock_delay, hold_back, hold_down)
        return self._gatherings.election(self._reached(), self._standing, name, candidate, agreed)

    def once(
        self, template: str, *, keep: Duration = 86400.0, ttl: Duration = 10.0, wait: Duration | None = None
    ) -> Once:
        """Return a decorator for `def` and `async def`: the job runs once for each key, in one of all workers.

        The decorated function returns what the job returned, and None where it had run already. A job that raises, or
        whose worker dies, has not run: whoever waits runs it. At least once, that is: a worker that dies after the
        job and before its mark is written has it run again.

        Args:
            template: the key, with fields that name parameters: `"nightly:{date}"`.
            keep: seconds for which the mark of a job that is done is kept; a store may keep it longer.
            ttl: seconds after which a job counts as not run when its worker dies.
            wait: seconds to wait for a worker that is running it; None waits until it is done, 0 raises `NotAcquired`.

        Raises:
            Misuse: an argument is out of range or the template names no parameter; at import, not at the first call.
        """
        return once(
            lambda: self._blocking()._reached(),
            lambda: self._asynchronous()._reached(),
            template,
            kept(keep),
            terms(ttl=ttl, wait=wait),
        )


class BlockingCoordination(Coordination[Latch, Barrier, Election, Stock]):
    """The recipes that are a shared document, for threads."""

    _gatherings = Gatherings(latch=Latch, barrier=Barrier, election=Election, stock=Stock)

    def singleton(
        self,
        name: str,
        *,
        ttl: Duration = 15.0,
        candidate: str | None = None,
        lock_delay: Duration = 0.0,
        hold_back: Duration = 0.0,
    ) -> Callable[[Callable[[Leadership], object]], Singleton]:
        """Return a decorator for work that one process of all runs: a scheduler, a poller, a cache filler.

        Args:
            name, ttl, candidate, lock_delay, hold_back: as for `election`.

        Raises:
            Misuse: one of these is out of range, or the work is of the other colour.
        """
        election = self.election(name, ttl=ttl, candidate=candidate, lock_delay=lock_delay, hold_back=hold_back)

        def decorate(body: Callable[[Leadership], object]) -> Singleton:
            if inspect.iscoroutinefunction(body):
                raise Misuse(f"singleton {name!r} is async def: give it to AsyncLocks")
            return Singleton(election, body)

        return decorate


class AsyncCoordination(Coordination[AsyncLatch, AsyncBarrier, AsyncElection, AsyncStock]):
    """The recipes that are a shared document, for asyncio."""

    _gatherings = Gatherings(latch=AsyncLatch, barrier=AsyncBarrier, election=AsyncElection, stock=AsyncStock)

    def singleton(
        self,
        name: str,
        *,
        ttl: Duration = 15.0,
        candidate: str | None = None,
        lock_delay: Duration = 0.0,
        hold_back: Duration = 0.0,
    ) -> Callable[[Callable[[AsyncLeadership], Coroutine[Any, Any, R]]], AsyncSingleton[R]]:
        """Return a decorator for work that one process of all runs: a scheduler, a poller, a cache filler.

        Args:
            name, ttl, candidate, lock_delay, hold_back: as for `election`.

        Raises:
            Misuse: one of these is out of range, or the work is of the other colour.
        """
        election = self.election(name, ttl=ttl, candidate=candidate, lock_delay=lock_delay, hold_back=hold_back)

        def decorate(body: Callable[[AsyncLeadership], Coroutine[Any, Any, R]]) -> AsyncSingleton[R]:
            if not inspect.iscoroutinefunction(body):
                raise Misuse(f"singleton {name!r} is a plain function: give it to Locks")
            return AsyncSingleton(election, body)

        return decorate
