"""The port over the scripts of Redis: locks by a few of their own, everything else by those of what is shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.locks.backend import Busy, Freed, Kept, Letter, Renewal, Survey, Watcher
from backstay.locks.claims import KINDS, Claim, Resource

from .answers import Request, Wire
from .documents import RedisDocuments
from .keys import keys_of, resource_of, shared_keys, tombstone
from .reading import busy, freed, kept, milliseconds, survey_of_lock, survey_of_shared
from .scripts import INSPECT, INSPECT_SHARED, RELEASE, RENEW, SCAN, TAKE, WITHDRAW
from .shared import ALIVE_MS, TOMBSTONE_MS, SharedScripts

__all__ = ["Mailbox", "RedisBackend"]

BATCH = 256  # renewals in one write
LOOK_AT = 1000  # keys that the server looks at in one step of a listing: well under a millisecond


class Mailbox(Protocol):
    """What the backend needs of a mailbox, in either make."""

    def letter(self, token: str) -> Letter | None: ...
    async def open(self, timeout: float) -> None: ...
    async def close(self) -> None: ...
    def forked(self) -> None: ...


class RedisBackend:
    """The port over the scripts; the wire and the mailbox give it its make."""

    kind = "redis"
    kinds = KINDS
    session = None

    def __init__(
        self, wire: Wire, mailbox: Mailbox, space: str, label: str, patience: float, clock: Clock = monotonic
    ) -> None:
        self._wire, self._mailbox, self._space = wire, mailbox, space
        self._call, self._clock = wire.call, clock
        self._shared = SharedScripts(wire, space)
        self.label, self.patience = label, patience
        self.documents = RedisDocuments(wire, mailbox, space, label, patience, clock)

    def attend(self, watcher: Watcher) -> None:
        """No session here: each grant has its own time."""

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        if resource.kind != "lock":
            return await self._shared.take(resource, token, claim, ttl, address, timeout)
        keys = keys_of(self._space, resource.name)
        answer, _ = await self._call(
            TAKE,
            (*keys, tombstone(keys[0], token)),
            (token, milliseconds(ttl), address, ALIVE_MS),
            timeout,
        )
        if type(answer) is bytes and answer != b"withdrawn":
            return int(answer)
        return busy(answer)

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        if resource.kind != "lock":
            return await self._shared.release(resource, token, fence, timeout)
        return freed(*await self._call(RELEASE, keys_of(self._space, resource.name), (f"{token}|{fence}",), timeout))

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        self._divisible(resource)
        return await self._shared.lessen(resource, token, fence, claim, timeout)

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        outcomes: list[Kept] = []
        for start in range(0, len(leases), BATCH):
            answers = await self._wire.call_all(
                [self._renewal(lease) for lease in leases[start : start + BATCH]], timeout
            )
            if len(leases) == 1 and isinstance(answers[0], (Unavailable, OutcomeUnknown)):
                raise answers[0]
            outcomes.extend(map(kept, answers))
        return outcomes

    def _renewal(self, lease: Renewal) -> Request:
        if lease.resource.kind != "lock":
            return self._shared.renewal(lease)
        owner = keys_of(self._space, lease.resource.name)[0]
        return Request(RENEW, (owner,), (f"{lease.token}|{lease.fence}", milliseconds(lease.ttl)))

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        if resource.kind != "lock":
            await self._shared.withdraw(resource, token, in_flight, timeout)
            return
        keys = keys_of(self._space, resource.name)
        await self._call(
            WITHDRAW, (*keys, tombstone(keys[0], token)), (token, TOMBSTONE_MS if in_flight else 0), timeout
        )

    async def evict(self, resource: Resource, token: str, timeout: float) -> None:
        await self.withdraw(resource, token, True, timeout)

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        self._divisible(resource)
        return await self._shared.resize(resource, size, drain, timeout)

    async def inspect(self, resource: Resource, timeout: float) -> Survey:
        request = self._question(resource)
        answer, _ = await self._call(request.script, request.keys, request.arguments, timeout)
        return survey_of_lock(answer) if resource.kind == "lock" else survey_of_shared(answer)

    async def resources(self, limit: int, timeout: float) -> list[Resource]:
        """See `Backend.resources`; it walks over all keys of the server, some at a time (R13).

        Raises:
            Unavailable: the walk did not come to its end in time.
        """
        until = self._clock() + timeout
        seen: set[Resource] = set()
        found: list[Resource] = []
        for server in await self._wire.servers(timeout):
            cursor, begun = b"0", False
            while len(found) < limit and not (begun and cursor == b"0"):
                left, begun = until - self._clock(), True
                if left <= 0.0:
                    raise Unavailable(f"{self.label} has too many keys to list its locks in {timeout:g} s")
                (cursor, keys), _ = await server.call(
                    SCAN, (), (cursor.decode(), f"backstay:{self._space}:{{*", LOOK_AT), min(left, self.patience)
                )
                told = {it for it in (resource_of(key.decode(errors="replace")) for key in keys) if it is not None}
                fresh = sorted(told.difference(seen))
                seen.update(fresh)
                found.extend(await self._held(fresh, max(until - self._clock(), 0.001)))
        return found[:limit]

    async def _held(self, candidates: Sequence[Resource], timeout: float) -> list[Resource]:
        """Return those that somebody holds or waits for now: their keys stay a little longer than that."""
        if not candidates:
            return []
        answers = await self._wire.call_all([self._question(each) for each in candidates], timeout)
        held: list[Resource] = []
        for resource, answer in zip(candidates, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            survey = survey_of_lock(answer) if resource.kind == "lock" else survey_of_shared(answer)
            if survey.holders or survey.waiters:
                held.append(resource)
        return held

    def _question(self, resource: Resource) -> Request:
        if resource.kind == "lock":
            owner, _, queue, waiters = keys_of(self._space, resource.name)
            return Request(INSPECT, (owner, queue, waiters), ())
        keys = shared_keys(self._space, resource)
        return Request(INSPECT_SHARED, (keys.holders, keys.queue, keys.waiters, keys.ends, keys.size), ())

    @staticmethod
    def _divisible(resource: Resource) -> None:
        if resource.kind == "lock":
            raise Misuse(f"{resource} is held as a whole by one: it has no size and no parts to give back")

    def letter(self, token: str) -> Letter | None:
        return self._mailbox.letter(token)

    async def open(self, timeout: float) -> None:
        await self._mailbox.open(min(timeout, self.patience))

    async def close(self) -> None:
        await self._mailbox.close()
        await self._wire.close()

    def forked(self) -> None:
        self._mailbox.forked()
        self._wire.forked()
