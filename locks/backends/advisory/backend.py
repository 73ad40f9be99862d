"""Locks that PostgreSQL holds for a session: the port over `pg_try_advisory_lock`, in either make.

First come, first served within a process; among processes whoever asks first after the lock came free, since asking
again is the only way to wait without a connection for each waiter. The first of a process asks, the others wait for it.
A grant lives with the session: the server frees it when the connection ends, and the holder is told so at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from backstay.clock import monotonic
from backstay.errors import Misuse, Unavailable
from backstay.locks.backend import Busy, Freed, Holding, Kept, Queued, Renewal, Survey, Watcher
from backstay.locks.backends.sql.letters import Letters, PollingLetter
from backstay.locks.claims import MUTEX, READ, WRITE, Claim, Resource, Unit
from backstay.runtime import Runtime

from .gate import Gate, Holder
from .keys import key_of
from .session import SEQUENCE, SILENCE, Broken, Session
from .turns import Turns

__all__ = ["AdvisoryBackend"]

_HOLDERS = """
SELECT coalesce(json_agg(json_build_object('pid', pid, 'mode', mode)), '[]') FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint) = %s
"""


class AdvisoryBackend:
    """The port over one session."""

    kind = "postgresql-advisory"
    kinds = frozenset({"lock", "read-write lock"})
    session = SILENCE
    documents = None

    def __init__(
        self, runtime: Runtime, session: Callable[[Callable[[], None]], tuple[Session, Turns]], space: str,
        patience: float, tell: Callable[[Callable[[], None]], None],
    ) -> None:  # fmt: skip
        self._space, self.patience, self._tell = space, patience, tell
        self._gate = Gate()
        self._watchers: list[Watcher] = []
        self._letters = Letters(runtime)
        self._session, self._turns = session(self._ended)
        self.label = self._session.label

    def attend(self, watcher: Watcher) -> None:
        self._watchers.append(watcher)

    def _ended(self) -> None:
        """The session is over; called with its turn, before another one begins."""
        self._gate.ended()
        for watcher in self._watchers:
            self._tell(watcher.ended)

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        shared, key = _mode(resource, claim), key_of(self._space, resource)

        def step(until: float) -> int | Busy:
            now, gate = monotonic(), self._gate
            mine = gate.lane(key).holders.get(token)
            if mine is not None and self._session.open:
                return mine.fence
            if gate.is_gone(token, now):
                return Busy(SILENCE, now, 0, "")
            if gate.admits(key, token, claim, now):
                self._session.start(until)
                try:
                    fence = self._try(key, shared, until)
                    if fence is not None:
                        gate.hold(key, token, Holder(resource, claim.units, fence, now))
                        return fence
                except BaseException:  # interrupted: what was won and not noted would stay as long as the session
                    self._session.end()
                    raise
            if address:
                self._letters.stands(token, resource, gate.queue(key, token, resource, claim, now))
            lane = gate.lane(key)
            return Busy(SILENCE, now, len(lane.queue), next(iter(lane.holders), ""))

        return await self._turns.run(step, timeout)

    def _try(self, key: int, shared: bool, until: float) -> int | None:
        function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        try:
            # CASE evaluates in order: the fence is drawn where, and only where, the lock was won (F1).
            fence = self._session.ask(f"SELECT CASE WHEN {function}(%s) THEN nextval('{SEQUENCE}') END", (key,), until)
        except Broken as error:
            raise Unavailable(f"{self.label}: the session ended, and what it may have won with it") from error
        return None if fence is None else int(fence)

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        key = key_of(self._space, resource)

        def step(until: float) -> Freed:
            mine = self._gate.lane(key).holders.get(token)
            if mine is None or mine.fence != fence or not self._give_back(key, token, until):
                return Freed.NOT_OWNER
            return Freed.FREED

        freed = await self._turns.run(step, timeout)
        self._letters.wake(resource)
        return freed

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        key = key_of(self._space, resource)

        def step(until: float) -> None:
            if in_flight:
                self._gate.give_up(token, monotonic())
            self._give_back(key, token, until)

        await self._turns.run(step, timeout)
        self._letters.wake(resource)

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        raise Misuse(
            f"{resource}: an advisory lock ends with the session that holds it; see pg_locks for its pid, and end that "
            "by pg_terminate_backend(pid)"
        )

    def _give_back(self, key: int, token: str, until: float) -> bool:
        """Unlock what a token holds; return whether the server says that it was locked."""
        mine = self._gate.drop(key, token)
        if mine is None:
            return False
        function = "pg_advisory_unlock_shared" if mine.units == READ.units else "pg_advisory_unlock"
        try:
            return bool(self._session.ask(f"SELECT {function}(%s)", (key,), until))
        except Broken:
            return False

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        if not _mode(resource, claim):
            raise Misuse(f"{resource}: an advisory lock can be lessened to reading only")
        key = key_of(self._space, resource)

        def step(until: float) -> Freed:
            mine = self._gate.lane(key).holders.get(token)
            if mine is None or mine.fence != fence:
                return Freed.NOT_OWNER
            if mine.units != claim.units:
                try:
                    self._session.ask("SELECT pg_advisory_lock_shared(%s)::text", (key,), until)
                    self._session.ask("SELECT pg_advisory_unlock(%s)", (key,), until)
                except Broken:
                    return Freed.NOT_OWNER
                mine.units = claim.units
            return Freed.FREED

        freed = await self._turns.run(step, timeout)
        self._letters.wake(resource)
        return freed

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        """See `Backend.renew`. One question for all of them: whether the session goes on."""

        def step(until: float) -> list[Kept]:
            alive = self._session.open and self._session.still_there(until)
            return [Kept.RENEWED if alive and self._holds(lease) else Kept.NOT_OWNER for lease in leases]

        return await self._turns.run(step, timeout)

    def _holds(self, lease: Renewal) -> bool:
        mine = self._gate.lane(key_of(self._space, lease.resource)).holders.get(lease.token)
        return mine is not None and mine.fence == lease.fence

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        return _no_sizes(resource)

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        """See `Backend.inspect`. Holders of other processes are named by the pid of their server process."""
        key = key_of(self._space, resource)

        def step(until: float) -> Survey:
            self._session.start(until)
            try:
                found = self._session.ask(_HOLDERS, (key,), until)
            except Broken as error:
                raise Unavailable(f"{self.label}: the session ended while it was asked") from error
            now, lane = monotonic(), self._gate.lane(key)
            ours = [Holding(token, each.units, each.fence, now - each.since, None)
                    for token, each in lane.holders.items()]  # fmt: skip
            others = [
                Holding(f"postgresql-{each['pid']}", _units(resource, each["mode"]), 0, 0.0, None) for each in found
            ]
            waiters = [Queued(token, each.units) for token, each in lane.queue.items() if each.alive >= now]
            return Survey(0, ours + others, waiters)

        return await self._turns.run(step, timeout)

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        """See `Backend.resources`. Those of this process: the server keeps numbers, not names."""

        def step(until: float) -> list[Resource]:
            found: dict[Resource, None] = {}
            for lane in self._gate.lanes():
                found |= {holder.resource: None for holder in lane.holders.values()}
                found |= {waiter.resource: None for waiter in lane.queue.values()}
            return list(found)[:limit]

        return await self._turns.run(step, timeout)

    def letter(self, token: str) -> PollingLetter:
        return self._letters.write(token)

    async def open(self, timeout: float) -> None:
        """Nothing to open: those who wait ask."""

    async def close(self) -> None:
        self._letters.wake_all()
        await self._turns.close()

    def forked(self) -> None:
        self._gate = Gate()
        self._letters.forked()
        self._session.forked()
        self._turns.forked()


def _mode(resource: Resource, claim: Claim) -> bool:
    """Return whether a claim is a shared one."""
    if resource.kind == "lock" and claim == MUTEX:
        return False
    if resource.kind == "read-write lock" and claim in (READ, WRITE):
        return claim == READ
    return _no_sizes(resource)


def _no_sizes(resource: Resource) -> NoReturn:
    raise Misuse(
        f"{resource}: PostgreSQL's advisory locks are held or shared, and cannot be counted; "
        "use the row leases of 'postgresql+psycopg://' for semaphores and segmented locks"
    )


def _units(resource: Resource, mode: str) -> tuple[Unit, ...]:
    if resource.kind == "lock":
        return MUTEX.units
    return READ.units if mode == "ShareLock" else WRITE.units
