"""The TCC coordinator: steps T1 to T8, once, for threads, asyncio and the simulator.

Theory of operation. A branch is logged (T2) before its try is sent (T3), because nobody can ask a participant
which tries it holds. The outcome is one conditional update (T5); before it is durable everything ends
cancelled, after it everything ends as decided, whatever dies when. A try without a definite answer may have
taken effect, so its branch is cancelled like the others; so is a branch that refused, since a copy of the try
may still be on its way and must meet the cancel's mark. Confirm and cancel are repeated until each branch has
acknowledged (T6, T7), never exchanged for one another, and no branch waits for another that fails.

The happy path of n branches called one after the other costs n + 2 journal writes: T1 rides with the first T2,
T4 with the next write, T8 with the last T7.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.runtime import Runtime

from ..errors import (
    AlreadyCancelled,
    AlreadyConfirmed,
    AlreadyRun,
    JournalUnanswered,
    StillInFlight,
    TransactionCancelled,
    TryRefused,
)
from ..journal import BranchRecord, BranchUpdate, Journal, TransactionRecord
from ..values import Answer, Branch, Phase, Reply, dump, load
from .finish import Finisher
from .seat import Seat
from .settings import Settings
from .states import BranchEvent, Event, Outcome, State, outcome
from .transport import Request
from .work import Call, Work, objection, tried

__all__ = ["Coordinator"]


class Coordinator:
    """Runs transactions of one process; `seat` is its lease, `finisher` its phase two."""

    def __init__(
        self,
        *,
        journal: Journal,
        runtime: Runtime,
        settings: Settings,
        seat: Seat,
        finisher: Finisher,
        gtrids: Callable[[int, float], str],
    ) -> None:
        self._journal = journal
        self._runtime = runtime
        self._settings = settings
        self._seat = seat
        self._finisher = finisher
        self._gtrids = gtrids
        self._measures = finisher.measures

    # --- the transaction -------------------------------------------------------------------------

    async def begin(self, key: str | None, deadline: float | None) -> Work:
        """Start a transaction in memory; the journal learns of it with its first branch.

        Raises:
            AlreadyRun: the journal holds a transaction with this key.
        """
        seconds = self._settings.deadline if deadline is None else deadline
        if not 0 < seconds < float("inf"):
            raise Misuse(f"deadline must be > 0 s and finite, got {seconds}")
        if key is not None and not 0 < len(key) <= 200:
            raise Misuse(f"an idempotency key must have 1 to 200 characters, got {len(key)}")
        lease = await self._seat.take()
        if key is not None:
            found = await self._journal.find(key)
            if found is not None:
                raise repeated(key, found)
        gtrid = self._gtrids(lease.epoch, self._seat.time())
        started = self._runtime.now()
        work = Work(gtrid=gtrid, key=key, lease=lease, deadline=seconds, deadline_at=started + seconds)
        self._finisher.hold(gtrid)
        self._measures.begun.n += 1
        return work

    async def call(self, work: Work, calls: Sequence[Call]) -> list[Any]:
        """T1 to T4 for some branches side by side: log them, try them, return what their tries returned.

        Raises:
            TryRefused, TryFailed, TryInvalid: the first failure, in the order of `calls`, after all have
                answered; from then on the transaction can only be cancelled.
            TransactionCancelled: it was cancelled by others meanwhile.
            Unavailable: the journal did not log the branches, so no try was sent.
        """
        if work.state is not State.TRYING:
            raise Misuse(f"transaction {work.gtrid} is {work.state}; start another for more branches")
        if work.doomed is not None:
            raise work.doomed
        try:
            records = work.number(calls)
            await self._log(work, records)
            replies = await self._runtime.gather(*(self._trying(work, record) for record in records))
        except BaseException as error:
            work.doomed = error
            raise
        results: list[Any] = []
        for record, reply in zip(records, replies, strict=True):
            if isinstance(reply, Exception):  # a transport that breaks its promise: nothing is known
                work.doomed = work.doomed or reply
                continue
            if (update := tried(record, reply)) is not None:
                work.unlogged.append(update)
            failure = objection(record, reply)
            if failure is not None and work.doomed is None:
                failure.__cause__ = reply.error
                work.doomed = failure
            if reply.answer is Answer.UNSENT:
                work.unsent.add(record.id)
            results.append(reply.result)
        if work.doomed is not None:
            raise work.doomed
        return results

    async def _log(self, work: Work, records: list[BranchRecord]) -> None:
        left = work.deadline_at - self._runtime.now()
        if left <= 0:
            raise TransactionCancelled(f"transaction {work.gtrid} missed its deadline of {work.deadline} s")
        unlogged, first = list(work.unlogged), not work.opened
        # From here on the journal may know them, whatever it answers; no try has been sent yet.
        work.opened = True
        work.branches.extend(records)
        work.unsent.update(record.id for record in records)
        try:
            if first:
                logged = await self._journal.open(work.lease, work.gtrid, work.key, left, records)
            else:
                logged = await self._journal.enlist(work.lease, work.gtrid, records, unlogged)
        except JournalUnanswered as error:
            raise Unavailable(f"transaction {work.gtrid} is not begun, no try was sent: {error}") from error
        if logged:
            work.unsent.difference_update(record.id for record in records)
            del work.unlogged[: len(unlogged)]
            return
        if first and work.key is not None:
            found = await self._journal.find(work.key)
            if found is not None and found.gtrid != work.gtrid:
                work.opened = False
                raise repeated(work.key, found)
        raise TransactionCancelled(
            f"transaction {work.gtrid} was cancelled by another process, because of its deadline or a lost lease"
        )

    def _trying(self, work: Work, record: BranchRecord) -> Callable[[], Coroutine[Any, Any, Reply]]:
        async def send() -> Reply:
            left = max(0.001, work.deadline_at - self._runtime.now())
            branch = Branch(gtrid=work.gtrid, id=record.id, phase=Phase.TRY, payload=load(record.payload))
            request = Request(target=record.target, branch=branch, timeout=min(left, self._settings.timeout))
            return await self._finisher.send(request)

        return send

    async def leave(self, work: Work, error: BaseException | None) -> None:
        """T5 to T8, sheltered from cancellation: decide, then confirm or cancel.

        Raises:
            the first failure of a branch, if the block swallowed it.
            TransactionCancelled: the block ended well, and others had cancelled.
            OutcomeUnknown: the decision's write was not answered; ask `outcome(gtrid)`.
        """
        if not work.opened:
            self._finisher.release(work.gtrid)
            if error is None and work.doomed is not None:
                raise work.doomed
            return
        await self._runtime.shield(self._leave(work, error))

    async def _leave(self, work: Work, error: BaseException | None) -> None:
        try:
            failure = error or work.doomed
            if failure is None:
                await self._confirm(work)
            else:
                await self._cancel(work, failure)
                if error is None:
                    raise failure
        finally:
            self._finisher.release(work.gtrid)

    async def _confirm(self, work: Work) -> None:
        try:
            stored = None if work.result is None else dump(work.result, what="tx.result")
        except Misuse as error:
            await self._cancel(work, error)
            raise
        state = await self._decide(work, Event.DECIDE_CONFIRM, result=stored)
        if state is None or outcome(state) is not Outcome.CONFIRMED:
            work.state = state or State.CANCELLED
            self._measures.lost.n += 1
            if state is State.TRYING:  # its deadline has passed, or another process is about to cancel it
                await self._cancel(work, None)
            raise TransactionCancelled(
                f"transaction {work.gtrid} is cancelled: its deadline of {work.deadline} s passed, "
                "or another process took it over"
            )
        self._measures.confirmed.n += 1
        work.state = await self._finisher.carry_out(work, state)

    async def _cancel(self, work: Work, failure: BaseException | None) -> None:
        refused = isinstance(failure, TryRefused)
        reason = "deadline passed" if failure is None else f"{type(failure).__name__}: {failure}"
        # A try that certainly never left needs no cancel, so a participant that is down holds nothing up.
        work.unlogged.extend(BranchUpdate(id=one, event=BranchEvent.CANCEL_ACKED) for one in sorted(work.unsent))
        try:
            state = await self._decide(work, Event.DECIDE_CANCEL, reason=reason, refused=refused)
        except (OutcomeUnknown, Unavailable) as trouble:
            # The caller's own error is the answer: whether or not this write happened, nobody but this block
            # could have confirmed, so the transaction ends cancelled; recovery finds it undecided or decided.
            work.state = State.CANCELLING
            self._finisher.report(work.gtrid, trouble)
            return
        self._measures.cancelled.n += 1
        if state is State.CANCELLING:
            work.state = await self._finisher.carry_out(work, state)
        elif state is not None:
            work.state = state

    async def _decide(
        self, work: Work, event: Event, *, reason: str = "", refused: bool = False, result: str | None = None
    ) -> State | None:
        """Ask until answered: a decision that was written stays, so asking again finds it."""
        until = self._runtime.now() + self._settings.journal_patience
        attempts, unknown = 0, False
        while True:
            try:
                state = await self._journal.decide(
                    work.lease, work.gtrid, event, tried=work.unlogged, reason=reason, refused=refused, result=result
                )
            except (JournalUnanswered, Unavailable) as error:
                unknown = unknown or isinstance(error, JournalUnanswered)
                attempts += 1
                wait = self._settings.backoff.delay(attempts, self._runtime.uniform)
                if self._runtime.now() + wait > until:
                    if not unknown:
                        raise Unavailable(f"transaction {work.gtrid} will be cancelled: {error}") from error
                    raise OutcomeUnknown(
                        f"whether transaction {work.gtrid} is confirmed is unknown, its decision was not answered; "
                        f"ask outcome({work.gtrid!r}) later",
                        ask={"gtrid": work.gtrid},
                    ) from error
                await self._runtime.sleep(wait)
            else:
                return state

    # --- questions -------------------------------------------------------------------------------

    async def outcome(self, gtrid: str) -> Outcome:
        """Return what became of a transaction.

        Raises:
            Misuse: the journal does not know it.
        """
        found = await self._journal.read(gtrid)
        if found is None:
            raise Misuse(f"no transaction {gtrid!r} in this journal; it never logged a branch, or was cleaned up")
        return outcome(found.state)


def repeated(key: str, found: TransactionRecord) -> AlreadyRun:
    """Return the error that tells the recorded outcome of a transaction with the same key."""
    told = outcome(found.state)
    if told is Outcome.CONFIRMED:
        return AlreadyConfirmed(
            f"transaction {key!r} is confirmed already, as {found.gtrid}",
            key=key,
            gtrid=found.gtrid,
            result=load(found.result),
        )
    if told is Outcome.CANCELLED:
        return AlreadyCancelled(
            f"transaction {key!r} was cancelled, as {found.gtrid}: {found.reason or 'no reason recorded'}",
            key=key,
            gtrid=found.gtrid,
            reason=found.reason,
            refused=found.refused,
        )
    return StillInFlight(
        f"transaction {key!r} is in flight at {found.lease.owner}, as {found.gtrid}; ask again later",
        key=key,
        gtrid=found.gtrid,
        retry_after=max(1.0, found.deadline_in),
    )
