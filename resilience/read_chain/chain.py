"""One read, from the nearest tier to the farthest and back (DG-6). Written once for both colours.

Theory of operation. A read wants a fresh answer from the nearest tier that has one: the process, then the distributed
cache, then the origin. A tier that is asked for fresh answers gives its old one away in the same round trip, so when
the origin fails, that answer is at hand; a tier that never counts as fresh (`fresh=0`) is asked after the failure, and
the time for that is kept back. What is served then is the youngest answer that its tier still allows, else the static
one, else the refusal.

One read of a key at a time goes beyond the process (`flight`). Of several processes that find an answer no longer
fresh, one claims its refill on the distributed cache and the others serve the old answer for that long. After a failure
few reads try the origin again, and more with each success (`recovery`). So neither the end of an outage nor that of a
popular answer sends everybody to the origin.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Any

from backstay.clock import Clock
from backstay.errors import BreakerOpen, Degraded, Rejected

from ..timeout.deadline import DUE, leave
from ..timeout.errors import CallTimedOut, DeadlineExceeded
from .answer import Answer, Found
from .distributed import Distributed
from .flight import HANDED_OVER, Flight, Flights, Landed
from .local import LocalCache
from .make import Make
from .reading import Asked, Reading
from .recovery import Permit, Recovery
from .settings import ReadSettings, RedisTier
from .split import for_origin
from .telemetry import Reads

__all__ = ["Chain"]

_AS_OLD = 0.1  # s within which the answers of two tiers count as equally old: moments of two clocks
_JUST_ABOUT = 0.002  # s before its deadline from which on a call was late: timers and clocks differ a little
_LEADING: ContextVar[frozenset[tuple[int, str, str]]] = ContextVar("backstay_reads_led", default=frozenset())


class Chain:
    """The state of one read chain; see `ReadChain`."""

    def __init__(
        self,
        name: str,
        settings: ReadSettings,
        *,
        local: LocalCache | None,
        tier: RedisTier | None,
        clock: Clock,
    ) -> None:
        self.name = name
        self.settings = settings
        self.local = local
        self.reads = Reads(name)
        self.flights = Flights()
        self.recovery = Recovery(settings.refills)
        self.clock = clock
        self._far = None if tier is None else Distributed(name, tier, settings, self.reads, clock)

    def fresh(self, found: Found) -> Answer[Any] | None:
        """Return what the process has as an answer, and count it, or None where it is not fresh any more."""
        if self.clock() >= found.fresh_until:
            return None
        answer = self._answer(found, joined=False)
        self.reads.served(answer)
        return answer

    async def read(
        self, reading: Reading, make: Make, word: str, key: str, args: Any, kwargs: Any
    ) -> Answer[Any]:  # fmt: skip
        """Return an answer, or raise what kept the origin from answering where no tier has one.

        Args:
            reading: what is read.
            make: the caller's colour.
            word: how far it may go.
            key: of the answer.
            args, kwargs: of the call.
        """
        try:
            answer = await self._read(reading, make, word, key, args, kwargs)
        except Exception:
            self.reads.miss.n += 1
            raise
        self.reads.served(answer)
        return answer

    async def _read(
        self, reading: Reading, make: Make, word: str, key: str, args: Any, kwargs: Any
    ) -> Answer[Any]:  # fmt: skip
        now = self.clock()
        best = None if word == "static" else self._at_hand(key, now)
        refusal: Exception | None = None
        joined = False
        if best is None or best.fresh_until <= now:
            if word in ("origin", "distributed_cache"):
                asked = Asked(reading, make, word, key, args, kwargs, *self._due(now), best)
                landed, joined = await self._beyond(asked)
                best, refusal = landed.found, landed.refusal
            if best is None and refusal is None:
                refusal = Degraded(f"{self.name!r} reads no farther than its {word.replace('_', ' ')} now")
        if best is not None:
            return self._answer(best, joined=joined)
        return await reading.say(refusal or Degraded(), args, kwargs)

    async def forget(self, make: Make, key: str) -> None:
        """Let no tier serve what the origin was asked for before now.

        Raises:
            Unavailable, OutcomeUnknown, Rejected: the distributed cache was not told, or perhaps not.
        """
        now = self.clock()
        self.flights.detach(("origin", key), ("distributed_cache", key))
        if self.local is not None:
            self.local.forget(key, now)
        if make.shared is not None and self._far is not None:
            await self._far.forget(make.shared, key, self._left(self._due(now)[0]))

    # -- the way beyond the process

    async def _beyond(self, asked: Asked) -> tuple[Landed, bool]:
        """Lead, or wait for who leads; return what it brought, and whether another one did."""
        slot, led = (id(self), asked.word, asked.key), _LEADING.get()
        while True:
            if slot in led:  # the origin reads its own key: waiting for itself would not end
                return await self._lead(asked, None), False
            flight, leads = self.flights.enter(slot[1:], asked.make.place())
            if leads:
                return await self._fly(asked, flight, led | {slot}), False
            if not asked.make.may_wait_for(flight.place):
                return await self._lead(asked, None), False
            landed = await self._follow(asked, flight)
            if landed is None:
                late = DeadlineExceeded(f"{self.name!r} waited for another read of this key until its deadline")
                return Landed(self._better(self._at_hand(asked.key, self.clock()), asked.best), late), True
            if landed is HANDED_OVER:
                continue
            self.reads.joined.n += 1
            if landed.fatal and landed.refusal is not None:
                raise landed.refusal
            return Landed(self._better(landed.found, asked.best), landed.refusal), True

    async def _fly(self, asked: Asked, flight: Flight, led: frozenset[tuple[int, str, str]]) -> Landed:
        """Lead, and tell the others how it ended, whatever happens."""
        token = _LEADING.set(led)
        told: Landed = HANDED_OVER
        try:
            landed = await self._lead(asked, flight)
            told = landed if landed.refusal is None or not self._was_hurried(asked, landed.refusal) else HANDED_OVER
            return landed
        except Exception as error:
            told = Landed(refusal=error, fatal=True)
            raise
        finally:
            leave(_LEADING, token)
            self.flights.land(flight, told)

    async def _follow(self, asked: Asked, flight: Flight) -> Landed | None:
        """Return what a flight brought, or None where it did not land in time."""
        while self.flights.board(flight, waiter := asked.make.waiter()):
            try:
                await asked.make.wait(waiter, self._left(asked.due))
            finally:
                self.flights.leave(flight, waiter)
            if (landed := flight.landed) is not None:
                return landed
            if asked.due is not None and self.clock() >= asked.due - _JUST_ABOUT:
                return None
        return flight.landed

    async def _lead(self, asked: Asked, flight: Flight | None) -> Landed:
        """Look at the distributed cache, and ask the origin where that is allowed and needed."""
        known = self._at_hand(asked.key, self.clock())
        if known is not None and known.fresh_until > self.clock():
            return Landed(known)  # another flight has landed between the look before this one and its beginning
        best, looked = self._better(known, asked.best), False
        if self._far is not None and (self._far.tier.fresh > 0 or asked.word != "origin"):
            looked = True
            found, refilling = await self._look(asked, claims=asked.word == "origin")
            best = self._better(found, best)
            if found is not None and found.fresh_until > self.clock():
                return Landed(found)
            if refilling and best is not None:
                self.reads.held_back.n += 1
                return Landed(best)
        if asked.word != "origin":
            return Landed(best)
        permit = self.recovery.enter(can_wait=best is not None)
        if permit is None:
            self.reads.held_back.n += 1
            return Landed(best)
        return await self._ask(asked, flight, permit, best, looked=looked)

    async def _ask(
        self, asked: Asked, flight: Flight | None, permit: Permit, best: Found | None, *, looked: bool
    ) -> Landed:
        """Ask the origin, keep what it says, and where it fails look at what was not looked at yet."""
        began = self.clock()
        given = for_origin(self._left(asked.due), None if self._far is None else self._far.tier.budget)
        asked.origin_due = None if given is None else began + given
        try:
            value = await asked.make.call(
                asked.reading.function, asked.args, asked.kwargs, asked.origin_due, self.clock, self.name
            )
        except Exception as error:
            self._note(permit, error)
            if not self.settings.covering.covers(error):
                raise
            if not looked:
                found, _ = await self._look(asked, claims=False)
                best = self._better(found, best)
            return Landed(best, error)
        except BaseException:
            self.recovery.left(permit)
            self.reads.interrupted.n += 1
            raise
        self.recovery.answered(permit)
        self.reads.fetched.n += 1
        absent = self.settings.is_absent(value)
        landed = Landed(self._from_origin(asked.key, value, began, absent))
        if flight is not None:
            self.flights.land(flight, landed)  # the others need not wait until it is stored elsewhere
        if self._far is not None and asked.make.shared is not None:
            left = self._left(asked.due)
            await self._far.keep(asked.make.shared, asked.key, value, began, left, absent=absent)
        return landed

    def _was_hurried(self, asked: Asked, refusal: Exception) -> bool:
        """Return whether a refusal says only that this caller had less time than others may have."""
        if not asked.hurried or asked.origin_due is None:
            return False
        return isinstance(refusal, DeadlineExceeded | CallTimedOut) and self.clock() >= asked.origin_due - _JUST_ABOUT

    def _note(self, permit: Permit, error: Exception) -> None:
        self.reads.failed.n += 1
        if not self.settings.covering.covers(error):
            self.recovery.answered(permit)
        elif isinstance(error, DeadlineExceeded):
            self.recovery.left(permit)  # the caller's hurry, and no word about the origin; nor is a limit of ours
        elif isinstance(error, Rejected) and not isinstance(error, BreakerOpen):
            self.recovery.left(permit)
        else:
            self.recovery.failed(permit)

    # -- tiers

    def _at_hand(self, key: str, now: float) -> Found | None:
        found = None if self.local is None else self.local.newest(key)
        return None if found is None or found.usable_until <= now else found

    async def _look(self, asked: Asked, *, claims: bool) -> tuple[Found | None, bool]:
        if self._far is None or asked.make.shared is None:
            return None, False
        found, refilling = await self._far.look(
            asked.make.shared, asked.key, self._left(asked.due), claims=claims
        )  # fmt: skip
        if found is not None and self.local is not None:
            known = self.local.newest(asked.key)
            if known is not None and known.usable_until == -math.inf and known.moment > found.moment:
                return None, refilling  # forgotten here, while the distributed cache could not be told
            self.local.keep(asked.key, found.value, found.moment, absent=found.absent)
        return found, refilling

    def _from_origin(self, key: str, value: Any, began: float, absent: bool) -> Found:
        fresh_until = began
        if self.local is not None:
            fresh_until = self.local.keep(key, value, began, absent=absent).fresh_until
        return Found(value, began, "origin", fresh_until, began, absent)

    # -- ages and deadlines

    def _better(self, first: Found | None, second: Found | None) -> Found | None:
        """Return the younger of two answers; the first of two that are as old."""
        if first is None or second is None:
            return first or second
        return second if second.moment > first.moment + _AS_OLD else first

    def _answer(self, found: Found, *, joined: bool) -> Answer[Any]:
        now = self.clock()
        ttl = found.fresh_until - now
        return Answer(
            value=found.value,
            source=found.source,
            age=max(0.0, now - found.moment),
            stale=found.source != "origin" and ttl <= 0,
            ttl=None if found.source == "origin" and ttl <= 0 else ttl,
            absent=found.absent,
            joined=joined,
        )

    def _due(self, now: float) -> tuple[float | None, bool]:
        """Return when a read must have ended, and whether its caller, rather than the chain, says so."""
        outer, budget = DUE.get(), self.settings.budget
        if budget is None or (outer is not None and outer < now + budget):
            return outer, outer is not None
        return now + budget, False

    def _left(self, due: float | None) -> float | None:
        return None if due is None else max(0.0, due - self.clock())
