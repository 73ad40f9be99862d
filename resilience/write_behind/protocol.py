"""Who accepts an operation, and how the turn goes from the database to the cache and back.

The row of the turn in the database is the authority; a turn of the cache has a fence that only grows.

    database --enter--> entering --> cache --leave--> leaving --> database

`entering`: nobody changes balances. They are loaded under a new fence; a loader that was overtaken is refused by it.
`cache`: written before the cache opens, so that no operation is accepted that a second `enter` would load over.
`leaving`: the cache has closed, the database follows to the last operation, both are compared, and only equality
lets the turn go back. Every step may be repeated by anybody after a crash of whoever took it.
"""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

from backstay.errors import BackstayError, Degraded, Misuse, OutcomeUnknown, Rejected, Unavailable
from backstay.runtime import Runtime

from .cache import Cache
from .database import Database
from .errors import Insufficient, Mismatched, NoSuchBalance
from .ledger import Ledger
from .settings import Settings
from .telemetry import Operations
from .values import Phase, Reading, Receipt, Reply, Source, Status, check_amount, check_text

__all__ = ["Protocol"]

logger = logging.getLogger("backstay.resilience")

_Difference: TypeAlias = dict[str, tuple[int | None, int | None]]
_PAGE = 500
_SOON = 1.0  # s after which a turn that is changing hands may be asked again


class Protocol:
    """The steps, over a cache, a database and a runtime."""

    def __init__(
        self, name: str, cache: Cache, ledger: Ledger, database: Database, settings: Settings, runtime: Runtime
    ) -> None:
        self.name, self.cache, self.ledger = name, cache, ledger
        self._database, self._settings, self._runtime = database, settings, runtime
        self._first: Source = "database"
        counted = Operations(name)
        self.results, self.mismatches = counted.results, counted.mismatches

    # -- operations

    async def deduct(self, op: str, key: str, amount: int) -> Receipt:
        return await self._change(op, key, -check_amount(amount))

    async def give_back(self, op: str, key: str, amount: int) -> Receipt:
        return await self._change(op, key, check_amount(amount))

    async def _change(self, op: str, key: str, delta: int) -> Receipt:
        check_text("operation id", op)
        check_text("key", key)
        # Each of the two knows by itself whether it has the turn; where one refuses, the other is asked.
        first = self._first
        other: Source = "cache" if first == "database" else "database"
        source = first
        failure: Unavailable | None = None
        try:
            reply = await self._asked(first, op, key, delta)
        except Unavailable as error:
            failure, reply = error, Reply(word="closed", detail=first)
        if reply.word == "closed":
            reply, source = await self._asked(other, op, key, delta), other
            if reply.word != "closed":
                self._first = other
            elif failure is not None:
                raise failure
        return self._judged(reply, source, op, key, delta)

    async def _asked(self, source: Source, op: str, key: str, delta: int) -> Reply:
        try:
            if source == "cache":
                return await self.cache.change(op, key, delta)
            return await self._database(lambda: self.ledger.change(op, key, delta))
        except OutcomeUnknown as error:
            self.results[source, "unknown"].n += 1
            raise OutcomeUnknown(
                f"operation {op!r} on {key!r} may be done: {error}; call again with the same id, "
                "which never does it twice",
                ask={"write_behind": self.name, "operation": op, "key": key, "delta": delta},
            ) from error
        except Unavailable:
            self.results[source, "unavailable"].n += 1
            raise

    def _judged(self, reply: Reply, source: Source, op: str, key: str, delta: int) -> Receipt:
        word = reply.word
        if word == "done":
            self.results[source, "repeated" if reply.repeated else "done"].n += 1
            return Receipt(op=op, key=key, delta=delta, left=int(reply.detail), source=source, repeated=reply.repeated)
        self.results[source, "refused" if word == "refused" else "rejected"].n += 1
        what = f"{self.name!r}: {key!r}"
        if word == "refused":
            left = int(reply.detail)
            raise Insufficient(f"{what} has {left}, {-delta} were asked for; nothing was changed", left=left)
        if word == "absent":
            raise NoSuchBalance(f"{what} has no balance; one that is added to the table is seen after the next enter()")
        if word == "other":
            raise Misuse(f"operation id {op!r} belongs to a change of {reply.seq!r} by {reply.detail}; take a new id")
        if word == "beyond":
            raise Rejected(f"{what} has {reply.detail}; {delta} more would be above 10^15")
        if word == "frozen":
            raise Degraded(f"{what} is frozen: {reply.detail}; see `backstay write-behind parked`")
        if word == "full":
            raise Degraded(
                f"{what}: {reply.detail} operations wait for the database; is a consumer running?", retry_after=_SOON
            )
        if word == "replicas":
            raise Degraded(
                f"{what}: {reply.detail} of {self._settings.replicas} replicas are connected; nothing was changed",
                retry_after=_SOON,
            )
        raise Degraded(f"{what}: the turn is changing hands ({reply.detail}); nothing was changed", retry_after=_SOON)

    async def outcome(self, op: str) -> Receipt | None:
        check_text("operation id", op)
        found = await self.cache.outcome(op)
        if found is not None and found.word == "done":
            left, delta = found.detail.split()
            return Receipt(op=op, key=found.seq, delta=int(delta), left=int(left), source="cache", repeated=True)
        return await self._database(lambda: self.ledger.outcome(op))

    async def balance(self, key: str) -> Reading:
        check_text("key", key)
        if self._first == "cache":
            phase, reading = await self.cache.look(key)
            if reading is not None and phase in ("open", "draining"):
                return reading
        try:
            turn, balance = await self._database(lambda: self.ledger.balance(key))
        except (Unavailable, OutcomeUnknown):  # a read: whatever became of it, it may be asked elsewhere
            phase, reading = await self.cache.look(key)
            if reading is None or phase not in ("open", "draining"):
                raise
            self._first = "cache"
            return reading
        if turn not in ("database", "entering"):
            phase, reading = await self.cache.look(key)
            if phase == "none":
                raise self._lost((await self._turn())[1])
            if reading is not None:
                self._first = "cache"
                return reading
            balance = None
        if balance is None:
            raise NoSuchBalance(f"{self.name!r}: {key!r} has no balance")
        return Reading(balance=balance, source="database")

    async def status(self) -> Status:
        return await self.cache.status()

    # -- the turn

    async def enter(self) -> int:
        """Give the turn to the cache; return its fence."""
        phase, fence = await self._turn()
        if phase == "leaving":
            raise Degraded(f"{self.name!r} is on its way back to the database; call leave() first, then enter()")
        if phase != "cache":
            fence = await self._loaded(phase, fence)
        await self._opened(fence)
        self._first = "cache"
        return fence

    async def _loaded(self, phase: str, fence: int) -> int:
        was = fence
        # A database that was restored from an older copy knows less than the cache.
        fence = max(fence, (await self.cache.status()).fence) + 1
        if not await self._database(lambda: self.ledger.step([(phase, was)], "entering", fence)):
            raise self._overtaken()
        word, stands = await self.cache.step("begin", fence)
        if word == "evicts":
            raise Misuse(
                f"{self.name!r}: this Redis may evict balances (maxmemory-policy {stands}); set noeviction, or "
                "eviction='allow'; call leave() to give the turn back to the database"
            )
        if word == "busy":
            raise self._mismatch(
                f"the cache holds operations of an earlier turn ({stands}) that the database does not have; "
                "look at them, then delete the cache's data; leave() gives the turn back to the database",
                {},
            )
        if word != "ok":
            raise self._overtaken()
        for receipts in _pages(await self._database(lambda: self.ledger.latest(self._settings.carry))):
            if not await self.cache.remember(fence, receipts):
                raise self._overtaken()
        pages = self.ledger.load(fence)
        while (rows := await self._database(lambda: next(pages, None))) is not None:
            if not await self.cache.load(fence, rows):
                raise self._overtaken()
        if not await self._database(lambda: self.ledger.step([("entering", fence)], "cache", fence)):
            raise self._overtaken()
        return fence

    async def _opened(self, fence: int) -> None:
        word, stands = await self.cache.step("open", fence)
        if word == "stale":
            raise self._overtaken()
        if word == "lost":
            raise self._lost(fence)
        if stands != "open":
            raise Degraded(f"{self.name!r} is {stands}; call leave()", retry_after=_SOON)

    async def leave(self, timeout: float) -> None:
        """Give the turn back to the database, once both are equal."""
        given: Any = timeout
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e9:
            raise Misuse(f"timeout must be >= 0 s, got {timeout!r}")
        phase, fence = await self._turn()
        if phase == "database":
            self._first = "database"
            return
        if phase == "entering":  # the cache was never opened with this fence, and never will be
            if not await self._database(lambda: self.ledger.step([("entering", fence)], "database", fence + 1)):
                raise self._overtaken()
            return
        wanted = [("cache", fence), ("leaving", fence)]
        if not await self._database(lambda: self.ledger.step(wanted, "leaving", fence)):
            raise self._overtaken()
        word, _ = await self.cache.step("drain", fence)
        if word == "stale":
            raise self._overtaken()
        if word == "lost":
            raise self._lost(fence)
        await self._drained(timeout)
        await self._compared(fence)
        word, stands = await self.cache.step("finish", fence)
        if word != "ok":
            raise Degraded(f"{self.name!r}: the cache is {stands}; call leave() again", retry_after=_SOON)
        if not await self._database(lambda: self.ledger.step([("leaving", fence)], "database", fence)):
            raise self._overtaken()
        self._first = "database"

    async def _drained(self, timeout: float) -> None:
        until = self._runtime.now() + timeout
        while (status := await self.cache.status()).pending:
            if self._runtime.now() >= until:
                raise Degraded(
                    f"{self.name!r}: {status.pending} operations wait for the database, the oldest for "
                    f"{status.lag:.0f} s; the cache stays closed; is a consumer running? call leave() again",
                    retry_after=_SOON,
                )
            await self._runtime.sleep(0.05)
        if status.parked:
            raise self._mismatch(
                f"{status.parked} operations are parked, on {status.frozen} keys: mend the cause, then "
                "`backstay write-behind retry` each key and call leave() again",
                {entry.key: (None, None) for entry, _ in (await self.cache.parked())[:100]},
            )

    async def _compared(self, fence: int) -> None:
        there = await self._database(lambda: self.ledger.rows(fence))
        missing = set(there)
        differing: _Difference = {}
        async for page in self.cache.rows():
            for key, balance, seq in page:
                missing.discard(key)
                if there.get(key) != (balance, seq):
                    differing[key] = balance, there[key][0] if key in there else None
        differing |= {key: (None, there[key][0]) for key in missing}
        if differing:
            shown = ", ".join(
                f"{key}: cache {ours}, database {theirs}" for key, (ours, theirs) in sorted(differing.items())[:5]
            )
            raise self._mismatch(
                f"{len(differing)} balances differ ({shown}): something else has written them; make the rows "
                "right, then call leave() again",
                dict(sorted(differing.items())[:100]),
            )

    async def abandon(self) -> None:
        """Give the turn to the database as it is: what it does not have is lost."""
        phase, fence = await self._turn()
        if phase == "database":
            return
        status = await self.cache.status()
        if status.phase is not Phase.NONE and status.fence == fence:
            raise Misuse(f"{self.name!r}: the cache still has turn {fence}; call leave(), which loses nothing")
        if not await self._database(lambda: self.ledger.step([(phase, fence)], "database", fence + 1)):
            raise self._overtaken()
        logger.error("write-behind %r: turn %d was abandoned; what the database did not have is lost", self.name, fence)
        self._first = "database"

    async def _turn(self) -> tuple[str, int]:
        return await self._database(self.ledger.turn)

    def _overtaken(self) -> BackstayError:
        return Degraded(f"{self.name!r}: another one takes a step of the turn; look again", retry_after=_SOON)

    def _lost(self, fence: int) -> Mismatched:
        return self._mismatch(
            f"the cache knows nothing of turn {fence}: its data is lost. Restore it (AOF, replica), or call abandon(), "
            "which takes the database as it is",
            {},
        )

    def _mismatch(self, text: str, keys: _Difference) -> Mismatched:
        self.mismatches.n += 1
        logger.error("write-behind %r cannot go on: %s", self.name, text)
        return Mismatched(f"{self.name!r}: {text}", keys=keys)


def _pages(receipts: list[Receipt]) -> list[list[Receipt]]:
    return [receipts[at : at + _PAGE] for at in range(0, len(receipts), _PAGE)]
