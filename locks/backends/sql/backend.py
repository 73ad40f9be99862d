"""Leases as rows: the port over a database, in either make.

Every method reads one row with the database's clock, runs the rule of `Table` on it, and writes it back if nobody was
faster. What came free is kept for the first of those who wait until it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from backstay.clock import monotonic
from backstay.errors import OutcomeUnknown, Unavailable
from backstay.locks.backend import ALIVE, Busy, Freed, Kept, Renewal, Survey, Watcher
from backstay.locks.claims import KINDS, Claim, Resource
from backstay.locks.table import Table
from backstay.runtime import Runtime

from .documents import SqlDocuments
from .exchange import Desk, Exchanges
from .letters import Letters, PollingLetter
from .packing import resource_of
from .rows import changing, looking

__all__ = ["SqlBackend"]

T = TypeVar("T")

WAITERS = 1000
"""Those who queue for one resource at most; more of them ask again and again without a place."""


class SqlBackend:
    """The port over a database."""

    session = None
    kinds = KINDS

    def __init__(
        self, runtime: Runtime, exchanges: Exchanges, space: str, kind: str, label: str, patience: float
    ) -> None:
        self._exchanges, self._space = exchanges, space
        self.kind, self.label, self.patience = kind, label, patience
        self._letters = Letters(runtime)
        self.documents = SqlDocuments(runtime, exchanges, space)

    def attend(self, watcher: Watcher) -> None:
        """No session here: each grant has its own time."""

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        def work(table: Table, now: float) -> tuple[int | Busy, bool]:
            before = table.queue.get(token)
            heard = 0.0 if before is None else before.alive
            place = address if before is not None or len(table.queue) < WAITERS else ""
            answer = table.take(resource, token, claim, ttl, place, now)
            if not isinstance(answer, Busy):
                return answer, False
            self._letters.stands(token, resource, list(table.queue).index(token) if token in table.queue else WAITERS)
            # Nothing that counts has changed where the queue knows of us and was told so not long ago.
            return answer, token not in table.queue or heard - now > ALIVE / 2

        answer = await self._change(resource, lambda again: work, timeout)
        if resource.kind != "lock" and not isinstance(answer, Busy):
            self._letters.drop(token)
            self._letters.wake(resource)  # there may be room for the next one beside us
        return answer

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        def run(again: bool) -> Callable[[Table, float], tuple[Freed, bool]]:
            def work(table: Table, now: float) -> tuple[Freed, bool]:
                freed = table.release(token, fence, now)
                if freed is Freed.NOT_OWNER and again:
                    return Freed.PERHAPS_EARLIER, True
                return freed, freed is Freed.NOT_OWNER

            return work

        freed = await self._change(resource, run, timeout)
        self._letters.wake(resource)
        return freed

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        def work(table: Table, now: float) -> tuple[Freed, bool]:
            freed = table.lessen(token, fence, claim, now)
            return freed, freed is Freed.NOT_OWNER

        freed = await self._change(resource, lambda again: work, timeout)
        self._letters.wake(resource)
        return freed

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        """See `Backend.renew`. Each is a commit: those that are not reached in time are answered by `FAILED`."""
        kept: list[Kept] = []

        def work(desk: Desk) -> None:
            for lease in leases[len(kept) :]:  # goes on where an earlier run of this exchange has ended
                kept.append(self._renew(desk, lease))
                if monotonic() >= desk.until:
                    return

        try:
            await self._exchanges.run(work, timeout)
        except (Unavailable, OutcomeUnknown):
            if not kept:
                raise
        answered = kept[: len(leases)]
        return answered + [Kept.FAILED] * (len(leases) - len(answered))

    def _renew(self, desk: Desk, lease: Renewal) -> Kept:
        def work(table: Table, now: float) -> tuple[Kept, bool]:
            kept = table.renew(lease.token, lease.fence, lease.ttl, now)
            return kept, kept is not Kept.RENEWED

        return changing(desk, self._space, lease.resource, work)

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        def work(table: Table, now: float) -> tuple[None, bool]:
            known = in_flight or token in table.holders or token in table.queue
            table.withdraw(token, in_flight, now)
            return None, not known

        await self._change(resource, lambda again: work, timeout)
        self._letters.wake(resource)

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        await self.withdraw(resource, token, True, timeout)

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        before = await self._change(
            resource, lambda again: lambda table, now: (table.resize(size, drain, now), False), timeout
        )
        self._letters.wake(resource)
        return before

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        def work(desk: Desk) -> Survey:
            table, now = looking(desk, self._space, resource)
            return table.survey(now)

        return await self._exchanges.run(work, timeout)

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        def work(desk: Desk) -> list[Resource]:
            rows: list[Any] = desk.read_all(desk.statements.busy, space=self._space, most=limit)
            return [resource_of(row[0]) for row in rows]

        return await self._exchanges.run(work, timeout)

    async def _change(
        self, resource: Resource, run: Callable[[bool], Callable[[Table, float], tuple[T, bool]]], timeout: float
    ) -> T:
        return await self._exchanges.run(lambda desk: changing(desk, self._space, resource, run(desk.again)), timeout)

    def letter(self, token: str) -> PollingLetter:
        return self._letters.write(token)

    async def open(self, timeout: float) -> None:
        """Nothing to open: those who wait ask."""

    async def close(self) -> None:
        self._letters.wake_all()
        await self._exchanges.close()

    def forked(self) -> None:
        self._letters.forked()
