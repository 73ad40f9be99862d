"""Renews leases, announces losses, and insists on withdrawals that were not answered.

One keeper serves all locks of a process (threads) or of an event loop (asyncio), with one heap of due times.
It never talks to a store itself: what is due is handed, in one batch a store, to a worker beside it, so that a
store that does not answer delays neither the other stores nor the announcement of a loss (N1-N3).

The trap it avoids. A lock that is held for a millisecond enters and leaves at once. If closed entries were
taken out of the heap, the next lease would always be due earlier than planned and wake the keeper at every
acquire, which costs more than the acquire. So closed entries stay until they are due, or until they
outnumber the open ones; and the keeper is woken only for a time before its planned one.
"""

from __future__ import annotations

import logging
from heapq import heapify, heappop, heappush
from math import inf
from typing import TypeGuard

from backstay.runtime import Job, Runtime, Signal

from ..claims import Resource
from ..telemetry import Meters
from .lease import HELD, LOST, TICK, Grant, State, first_renewal
from .renewal import Batch, Errand, Lane, Ward

__all__ = ["Keeper", "tell"]

logger = logging.getLogger("backstay.locks")

LINGER = 30.0  # s for which a keeper with nothing to do stays awake
PUT_OFF = 0.1  # s
STUCK = 0.25  # s after which a store that has not answered a batch gets a second worker
SPARE = 64  # closed entries that are always tolerated in the heap


class Keeper:
    """The one background worker of all leases in a process or loop; started at first use, ends when idle."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_heap",
        "_job",
        "_lanes",
        "_mutex",
        "_order",
        "_planned",
        "_runtime",
        "_signal",
        "wakes",
    )

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._mutex = self._runtime.mutex()
        self._heap: list[tuple[float, int, Ward, Grant | Errand]] = []
        self._closed = 0  # entries of the heap that need nothing any more, nearly enough
        self._order = 0
        self._planned = inf
        self._signal: Signal | None = None
        self._job: Job | None = None
        self._lanes: dict[int, Lane] = {}
        self.wakes = 0

    @property
    def entries(self) -> int:
        """How many entries the heap has, closed ones included."""
        return len(self._heap)

    def is_alive(self) -> bool:
        """Return whether the background worker runs; it does not before the first lease and after an idle time."""
        return self._job is not None and not self._job.done

    def watch(self, ward: Ward, grant: Grant, sent: float) -> None:
        """Keep a lease from now on: part of acquiring it, never later (N5)."""
        # The fence spreads renewals as well as a random number does, and costs a tenth.
        chance = grant.fence * 0.618033988749895 % 1.0
        due = first_renewal(sent, grant.ttl, chance) if grant.renew else grant.deadline
        self.plan(ward, grant, min(due, grant.deadline))

    def insist(self, ward: Ward, resource: Resource, token: str, ttl: float) -> None:
        """Withdraw a token as soon as the store answers; after `ttl` seconds the store has done so by itself.

        A store where grants live with a session has not, so there the answer is waited for to the end (Z4).
        """
        now = self._runtime.now()
        ward.meters[resource.kind].errands.n += 1
        until = now + ttl * 1.1 + 1.0 if ward.backend.session is None else inf
        self.plan(ward, Errand(resource, token, ttl, until), now)

    def forget(self, grant: Grant, to: State = State.RELEASING) -> Signal | None:
        """Keep a lease no longer: it is being released. Return what to wait for if a renewal is under way (N4)."""
        with self._mutex:
            if grant.move(to):
                self._closed += 1
            return grant.renewing

    def expire(self, ward: Ward, grant: Grant) -> None:
        """Announce that a lease has ended by the clock; a store where grants live with a session is told as well."""
        self.lose(grant, grant.ending, ward.meters)
        if ward.backend.session is not None:
            self.insist(ward, grant.resource, grant.token, grant.ttl)

    def lose(self, grant: Grant, reason: str, meters: Meters) -> None:
        """Announce that a lease is gone; the first call counts (C5)."""
        with self._mutex:
            first = grant.state is not LOST and grant.move(LOST, reason)
            self._closed += 1
        if first:
            meters[grant.resource.kind].lost[reason].n += 1
            logger.warning("%s (fence %d) lost: %s", grant.resource, grant.fence, reason)
            tell(grant)

    def begin_renewal(self, due: list[Grant]) -> tuple[list[Grant], Signal]:
        """Return those that are still held; a release waits for the signal from now on (N4)."""
        signal = self._runtime.signal()
        with self._mutex:
            held = [grant for grant in due if grant.state is HELD]
            for grant in held:
                grant.renewing = signal
        return held, signal

    def end_renewal(self, grants: list[Grant], signal: Signal) -> None:
        """Let the releases that wait go on."""
        with self._mutex:
            for grant in grants:
                grant.renewing = None
        signal.set()

    def next_batch(self, ward: Ward, now: float) -> list[Grant | Errand]:
        """Return what came due for a store while its worker was busy; with nothing to return the worker ends."""
        with self._mutex:
            lane = self._lanes.get(id(ward))
            if lane is None:
                return []
            batch, lane.waiting, lane.began = lane.waiting, [], now
            if not batch:
                lane.workers -= 1
                if not lane.workers:
                    del self._lanes[id(ward)]
            return batch

    def abandon(self, ward: Ward) -> None:
        """Forget the workers of a store; what waited for them is asked again or runs out."""
        with self._mutex:
            self._lanes.pop(id(ward), None)

    def grants(self, ward: Ward) -> list[Grant]:
        """Return the leases of `ward` that are held or being released."""
        with self._mutex:
            found = {id(what): what for _, _, whose, what in self._heap if whose is ward and isinstance(what, Grant)}
        return [grant for grant in found.values() if grant.state in (HELD, State.RELEASING)]

    def forked(self) -> None:
        """In a forked child: disown every lease, forget the thread that does not exist here (O5)."""
        for _, _, _, what in self._heap:
            if isinstance(what, Grant) and what.move(LOST, "forked"):
                what.notice = None  # its listeners are threads of the parent
        self._begin_empty()

    # -- planning

    def plan(self, ward: Ward, what: Grant | Errand, due: float) -> None:
        """Put something in the heap; an entry of the same thing with another time becomes void."""
        with self._mutex:
            what.due = due
            self._order += 1
            heappush(self._heap, (due, self._order, ward, what))
            if self._closed > SPARE and self._closed * 3 > len(self._heap) * 2:
                self._compact()
            if due >= self._planned:
                return
            self._planned = due
            if self._signal is None:
                self._signal = self._runtime.signal()
            self._signal.set()
            if self._job is None or self._job.done:
                self._planned = inf  # unless it starts: a keeper that could not be started must not look planned
                self._job = self._runtime.spawn(self._run, name="backstay-locks-keeper")
                self._planned = due

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if _open(entry[3], entry[0]) or _abandoned(entry[3], entry[0])]
        heapify(self._heap)
        self._closed = 0

    async def _run(self) -> None:
        while True:
            try:
                if not await self._round():
                    return
            except Exception:
                logger.exception("the keeper of locks goes on after an error")
                await self._runtime.sleep(PUT_OFF)
            except BaseException:  # a loop that ends cancels its tasks; the next lease must start another worker
                self._job, self._signal, self._planned = None, None, inf
                raise

    async def _round(self) -> bool:
        """Do what is due and wait for the next; return whether to go on."""
        with self._mutex:
            signal, now = self._signal, self._runtime.now()
            if signal is None:  # forked: this is the copy of a worker that belongs to the parent
                return False
            self.wakes += 1
            due = self._due(now)
            self._planned = self._heap[0][0] if self._heap else inf
            signal.clear()
            pause = self._planned - now if self._heap else LINGER
        for ward, batch in due:
            self._hand_out(ward, batch, now)
        if await signal.wait(max(TICK, pause)):
            return True
        with self._mutex:
            if self._heap or signal.is_set():
                return True
            self._job, self._signal = None, None
            return False

    def _hand_out(self, ward: Ward, due: list[Grant | Errand], now: float) -> None:
        batch: list[Grant | Errand] = []
        for what in due:
            if isinstance(what, Grant) and now >= what.deadline:
                self.expire(ward, what)
            else:
                batch.append(what)
        if not batch:
            return
        with self._mutex:
            lane = self._lanes.get(id(ward))
            if lane is not None and now - lane.began < STUCK:
                lane.waiting += batch  # the worker of this store takes them next, all in one go
                return
            lane = lane or self._lanes.setdefault(id(ward), Lane(ward))
            lane.began = now
            lane.workers += 1
        try:
            self._runtime.spawn(Batch(self, self._runtime, ward, batch).run, name="backstay-locks-renewal")
        except RuntimeError:  # no thread to be had: the next round may have one, and the deadlines stay watched
            logger.exception("renewal of %d locks is put off by %.1f s", len(batch), PUT_OFF)
            batch += self.next_batch(ward, now)
            for what in batch:
                self.plan(ward, what, now + PUT_OFF)

    def _due(self, now: float) -> list[tuple[Ward, list[Grant | Errand]]]:
        """Take what is due out of the heap, by ward. Called with the mutex held."""
        wards: dict[int, tuple[Ward, list[Grant | Errand]]] = {}
        while self._heap and self._heap[0][0] <= now:
            due, _, ward, what = heappop(self._heap)
            if _abandoned(what, due) and ward.backend.session is not None:
                what = Errand(what.resource, what.token, what.ttl, inf)
                what.due = due
                ward.meters[what.resource.kind].errands.n += 1
            if not _open(what, due):
                self._closed = max(0, self._closed - 1)
                continue
            if isinstance(what, Grant) and now < what.deadline:
                # Whatever becomes of the renewal, the deadline is watched.
                what.due = what.deadline
                self._order += 1
                heappush(self._heap, (what.deadline, self._order, ward, what))
                ward.meters[what.resource.kind].lateness.record(now - due)
            wards.setdefault(id(ward), (ward, []))[1].append(what)
        return list(wards.values())


def _open(what: Grant | Errand, due: float) -> bool:
    return what.due == due and (isinstance(what, Errand) or what.state is HELD)


def _abandoned(what: Grant | Errand, due: float) -> TypeGuard[Grant]:
    """Return whether the collector took the handle of a lease; it could only mark it, the store must still be told.

    Elsewhere the ttl ends it; a grant that lives with a session would stay as long as the process (N10).
    """
    return isinstance(what, Grant) and what.reason == "abandoned" and what.due == due


def tell(grant: Grant) -> None:
    """Wake whoever waits for news of a lease; a listener that fails is its own trouble (N2)."""
    if grant.notice is not None:
        try:
            grant.notice()
        except Exception:
            logger.exception("telling the holder of %s failed", grant.resource)
