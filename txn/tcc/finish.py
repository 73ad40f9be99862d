"""Phase two: carry a decision out, branch by branch, until every branch has acknowledged (T6 to T8)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from backstay.errors import BackstayError
from backstay.runtime import Runtime
from backstay.telemetry import span

from ..journal import BranchRecord, BranchUpdate, Journal
from ..telemetry import Measures
from ..values import Answer, Branch, Phase, Reply, load
from .settings import Settings
from .states import OPEN, BranchEvent, BranchState, State
from .transport import Request, Transport
from .work import Work

__all__ = ["Finisher"]

_log = logging.getLogger("backstay.txn")
_AT_REST = frozenset({BranchState.CONFIRMED, BranchState.CANCELLED, BranchState.DEAD})


class Finisher:
    """Drives decided transactions, and knows which ones this process is driving right now."""

    def __init__(
        self,
        *,
        journal: Journal,
        transport: Transport,
        runtime: Runtime,
        settings: Settings,
        measures: Callable[[Callable[[], float]], Measures],
        left: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._transport = transport
        self._runtime = runtime
        self._settings = settings
        self._active: set[str] = set()
        self._left = left
        self.measures = measures(self._count)

    # Adding to, removing from and asking a set are single steps for other threads.

    def _count(self) -> float:
        return len(self._active)

    def hold(self, gtrid: str) -> None:
        """Keep recovery away from a transaction that a block is running."""
        self._active.add(gtrid)

    def release(self, gtrid: str) -> None:
        """Leave whatever is unfinished to recovery."""
        self._active.discard(gtrid)

    def holds(self, gtrid: str) -> bool:
        """Return whether a block is running the transaction."""
        return gtrid in self._active

    @property
    def active(self) -> frozenset[str]:
        """The transactions that blocks are running."""
        return frozenset(self._active.copy())

    def report(self, gtrid: str, error: BaseException) -> None:
        """Log trouble that nobody else will hear of; recovery goes on with the transaction."""
        self.measures.trouble.n += 1
        _log.warning("transaction %s is left to recovery: %s", gtrid, error)
        self._left()

    async def send(self, request: Request) -> Reply:
        """Send one request, measured."""
        phase, started = request.branch.phase, self._runtime.now()
        with span(f"txn.{phase.value}", gtrid=request.branch.gtrid, branch=request.branch.id):
            reply = await self._transport.send(request)
        self.measures.latency[phase].record(self._runtime.now() - started)
        self.measures.requests[phase, reply.answer].n += 1
        if reply.answer is Answer.ALARM:
            self.measures.alarms.n += 1
            _log.error(
                "%s of branch %s %s of transaction %s raised an alarm: %s",
                phase.value,
                request.branch.id,
                request.target,
                request.branch.gtrid,
                reply.text,
            )
        return reply

    async def carry_out(self, work: Work, state: State) -> State:
        """Confirm or cancel at the end of a block, for at most `patience` seconds and the length of one pass."""
        if self._settings.patience == 0:
            self._left()
            return state
        until = self._runtime.now() + self._settings.patience
        records: list[BranchRecord] = [record for record in work.branches if record.id not in work.unsent]
        while True:
            try:
                state, records, delay = await self._round(work.gtrid, state, records)
            except BackstayError as error:
                self.report(work.gtrid, error)
                return state
            if state not in OPEN:
                return state
            if not records or self._runtime.now() + delay > until:
                self._left()
                return state
            await self._runtime.sleep(delay)

    async def finish(self, gtrid: str, state: State, records: Iterable[BranchRecord]) -> State:
        """Make one pass over the branches of a decided transaction, for recovery."""
        return (await self._round(gtrid, state, list(records)))[0]

    async def _round(
        self, gtrid: str, state: State, records: list[BranchRecord]
    ) -> tuple[State, list[BranchRecord], float]:
        phase = Phase.CONFIRM if state is State.CONFIRMING else Phase.CANCEL
        pending = [record for record in records if record.state not in _AT_REST]
        replies: list[Reply | Exception] = []
        if phase is Phase.CONFIRM:
            replies.extend(await self._runtime.gather(*(self._request(gtrid, phase, record) for record in pending)))
        else:
            pending.reverse()  # what was tried last is cancelled first
            for record in pending:
                replies.extend(await self._runtime.gather(self._request(gtrid, phase, record)))
        updates: list[BranchUpdate] = []
        left: list[BranchRecord] = []
        for record, reply in zip(pending, replies, strict=True):
            update, attempts = self._judge(gtrid, phase, record, reply)
            updates.append(update)
            if update.event is None:
                left.append(replace(record, attempts=attempts))
        # Nothing left, and yet not ended: either only dead branches keep it open, or the journal knows of more
        # branches than this process, and the next look at it will show them.
        delay = math.inf if self._any_dead(records, updates) else 0.0
        if left:
            most = max(record.attempts for record in left)
            delay = self._settings.backoff.delay(most, self._runtime.uniform)
        settled = await self._journal.settle(gtrid, updates, delay)
        return settled or state, left, delay

    @staticmethod
    def _any_dead(records: list[BranchRecord], updates: list[BranchUpdate]) -> bool:
        return any(record.state is BranchState.DEAD for record in records) or any(
            update.event is BranchEvent.SPENT for update in updates
        )

    def _request(self, gtrid: str, phase: Phase, record: BranchRecord) -> Callable[[], Coroutine[Any, Any, Reply]]:
        async def send() -> Reply:
            branch = Branch(gtrid=gtrid, id=record.id, phase=phase, payload=load(record.payload))
            return await self.send(Request(target=record.target, branch=branch, timeout=self._settings.timeout))

        return send

    def _judge(
        self, gtrid: str, phase: Phase, record: BranchRecord, reply: Reply | Exception
    ) -> tuple[BranchUpdate, int]:
        if isinstance(reply, Reply) and reply.answer is Answer.DONE:
            event = BranchEvent.CONFIRM_ACKED if phase is Phase.CONFIRM else BranchEvent.CANCEL_ACKED
            return BranchUpdate(id=record.id, event=event), record.attempts
        text = f"{reply.answer.value}: {reply.text}" if isinstance(reply, Reply) else repr(reply)
        attempts = record.attempts + 1
        if attempts < self._settings.backoff.attempts:
            return BranchUpdate(id=record.id, event=None, error=text), attempts
        self.measures.dead.n += 1
        _log.error(
            "branch %s %s of transaction %s is dead after %d attempts to %s; mend it and run: backstay txn retry %s",
            record.id,
            record.target,
            gtrid,
            attempts,
            phase.value,
            gtrid,
        )
        return BranchUpdate(id=record.id, event=BranchEvent.SPENT, error=text), attempts
