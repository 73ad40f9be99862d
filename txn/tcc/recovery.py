"""Recovery: finish what blocks left behind, of this process and of dead ones.

Any number of processes may recover at the same time: a transaction is taken over in one conditional update,
and confirms and cancels that are sent twice meet the barrier. One transaction that cannot be finished never
stands in the way of another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from backstay.errors import BackstayError
from backstay.runtime import Job, Runtime, Signal
from backstay.telemetry import Announcement, announce

from ..journal import Journal, Lease, TransactionRecord
from .finish import Finisher
from .seat import Seat
from .settings import Settings
from .states import Event, State

__all__ = ["Recoverer", "Upkeep"]

_log = logging.getLogger("backstay.txn")


class Recoverer:
    """Makes single rounds of recovery."""

    def __init__(
        self, *, journal: Journal, runtime: Runtime, settings: Settings, seat: Seat, finisher: Finisher
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._settings = settings
        self._seat = seat
        self._finisher = finisher

    async def round(self, *, grace: float | None = None) -> int:
        """Take over what is orphaned, carry on with what is due; return how many transactions were touched.

        Args:
            grace: seconds past its deadline after which an undecided transaction of a living coordinator is
                cancelled; by default one request timeout, so that its own process comes first.
        """
        lease = await self._seat.take()
        patience = self._settings.timeout if grace is None else grace
        taken = await self._journal.take_over(lease, patience, self._settings.batch)
        due = await self._journal.due(lease, self._finisher.active, self._settings.batch)
        # A block that began after the look at `active` may be among them: ask again, now that they are read.
        waiting = [record for record in due if not self._finisher.holds(record.gtrid)]
        pieces: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            (record.gtrid, self._carry_on(lease, record)) for record in waiting
        ]
        there = {gtrid for gtrid, _ in pieces}
        pieces.extend((gtrid, self._carry_on(lease, gtrid)) for gtrid in taken if gtrid not in there)
        width = self._settings.at_once
        for start in range(0, len(pieces), width):
            part = pieces[start : start + width]
            outcomes = await self._runtime.gather(*(piece for _, piece in part))
            for (gtrid, _), result in zip(part, outcomes, strict=True):
                if isinstance(result, Exception):
                    self._finisher.measures.trouble.n += 1
                    _log.warning("recovery of transaction %s failed and will be repeated: %s", gtrid, result)
        touched = len(pieces)  # beside the counter: no call may stand between its load and its store
        self._finisher.measures.recovered.n += touched
        return touched

    def _carry_on(self, lease: Lease, what: TransactionRecord | str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def carry_on() -> None:
            record = await self._journal.read(what) if isinstance(what, str) else what
            if record is None:
                return
            state = record.state
            if state is State.TRYING:
                decided = await self._journal.decide(
                    lease, record.gtrid, Event.DECIDE_CANCEL, reason="its block ended without a decision"
                )
                state = decided or state
            if state in (State.CONFIRMING, State.CANCELLING):
                await self._finisher.finish(record.gtrid, state, record.branches)

        return carry_on


class Upkeep:
    """The background work of a process: one keeper of the lease, one recoverer.

    Two, because a recovery round may wait for dead participants for longer than a lease lasts.
    """

    def __init__(self, *, runtime: Runtime, settings: Settings, seat: Seat, recoverer: Recoverer) -> None:
        self._runtime = runtime
        self._settings = settings
        self._seat = seat
        self._recoverer = recoverer
        self._jobs: list[Job] = []
        self._announced: list[Announcement] = []
        self._watched: list[_Watched] = []
        self._stopping = False
        self._nudges: list[Signal] = []

    def start(self) -> None:
        """Start what does not run; called after each joining of the journal."""
        if self._stopping or any(not job.done for job in self._jobs):
            return
        self._close_announcements()
        work: list[tuple[str, Callable[[], Any], float]] = [
            ("backstay-txn-lease", self._seat.renew, self._settings.lease / 3),
        ]
        if self._settings.recovery:
            work.append(("backstay-txn-recovery", self._recoverer.round, self._settings.recover_every))
        self._nudges = [self._runtime.signal() for _ in work]
        self._jobs = [
            self._runtime.spawn(self._repeat(name, piece, every, nudge), name=name)
            for (name, piece, every), nudge in zip(work, self._nudges, strict=True)
        ]
        self._watched = [_Watched(job) for job in self._jobs]
        for watched, (name, _, _) in zip(self._watched, work, strict=True):
            self._announced.append(announce(name, watched.alive))

    def nudge(self) -> None:
        """Have recovery look now."""
        if len(self._nudges) > 1:
            self._nudges[1].set()

    def _repeat(
        self, name: str, piece: Callable[[], Any], every: float, nudge: Signal
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def repeat() -> None:
            while self._goes_on():
                await nudge.wait(self._runtime.uniform(every * 0.8, every))
                nudge.clear()
                try:
                    if self._goes_on():
                        await piece()
                except BackstayError as error:
                    _log.warning("%s failed and will be repeated: %s", name, error)
                except Exception:
                    _log.exception("%s failed and will be repeated", name)

        return repeat

    def _goes_on(self) -> bool:
        return not self._stopping

    async def stop(self, timeout: float) -> None:
        """Stop the background work, waiting at most `timeout` seconds for what is under way."""
        self._stopping = True
        for nudge in self._nudges:
            nudge.set()
        until = self._runtime.now() + timeout
        for job in self._jobs:
            if not await job.join(max(0.0, until - self._runtime.now())):
                job.cancel()
        self._close_announcements()

    def _close_announcements(self) -> None:
        for announcement in self._announced:
            announcement.close()
        self._announced.clear()


class _Watched:
    """A job as the list of background work sees it; the list does not keep it alive."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def alive(self) -> bool:
        return not self._job.done
