"""Locks on a single Redis server: scripts in Lua files, wires and mailboxes in two makes.

The guarantee of this store is a *lease*: at most one valid holder while the server keeps what it acknowledged
and clocks run within 1 % of each other. A failover to a replica that had not seen the grant breaks that;
the fence, which is never below the server's time, still rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Protocol

from backstay.errors import BackstayError, OutcomeUnknown, Unavailable
from backstay.locks.backend import ALIVE, TOMBSTONE, Busy, Freed, Kept, Letter, Renewal, Watcher
from backstay.locks.claims import Claim, Resource
from backstay.redis import Target, of_client, of_url
from backstay.url import Url

from .answers import Request, Wire
from .connecting import Connector
from .keys import keys_of, tombstone
from .scripts import RELEASE, RENEW, TAKE, WITHDRAW

__all__ = ["RedisBackend", "RedisSource", "milliseconds"]

ALIVE_MS = int(ALIVE * 1000)
TOMBSTONE_MS = int(TOMBSTONE * 1000)
BATCH = 256  # renewals in one write


class Mailbox(Protocol):
    """What the backend needs of a mailbox, in either make."""

    def letter(self, token: str) -> Letter | None: ...
    async def open(self, timeout: float) -> None: ...
    async def close(self) -> None: ...
    def forked(self) -> None: ...


def milliseconds(ttl: float) -> int:
    """Return a time-to-live in the server's unit: rounded up (C11), plus one for the part of its clock it cuts off."""
    return ceil(ttl * 1000.0) + 1


class RedisBackend:
    """The port over the scripts; the wire and the mailbox give it its make."""

    kind = "redis"
    kinds = frozenset({"lock"})
    session = None

    def __init__(self, wire: Wire, mailbox: Mailbox, space: str, label: str, patience: float) -> None:
        self._wire, self._mailbox, self._space = wire, mailbox, space
        self._call = wire.call
        self.label, self.patience = label, patience

    def attend(self, watcher: Watcher) -> None:
        """No session here: each grant has its own time."""

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
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
        answer, again = await self._call(RELEASE, keys_of(self._space, resource.name), (f"{token}|{fence}",), timeout)
        if answer == 1:
            return Freed.FREED
        return Freed.PERHAPS_EARLIER if again else Freed.NOT_OWNER

    async def renew(self, leases: Sequence[Renewal], timeout: float) -> list[Kept]:
        outcomes: list[Kept] = []
        for start in range(0, len(leases), BATCH):
            answers = await self._wire.call_all(
                [
                    Request(
                        RENEW,
                        keys_of(self._space, lease.resource.name)[:1],
                        (f"{lease.token}|{lease.fence}", milliseconds(lease.ttl)),
                    )
                    for lease in leases[start : start + BATCH]
                ],
                timeout,
            )
            if len(leases) == 1 and isinstance(answers[0], (Unavailable, OutcomeUnknown)):
                raise answers[0]
            outcomes.extend(map(kept, answers))
        return outcomes

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        keys = keys_of(self._space, resource.name)
        await self._call(
            WITHDRAW, (*keys, tombstone(keys[0], token)), (token, TOMBSTONE_MS if in_flight else 0), timeout
        )

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


def busy(answer: Any) -> Busy:
    """Read what `take.lua` answers when the lock is not the caller's."""
    try:
        left, moment, waiters, owner = answer
    except ValueError:  # b"withdrawn": nobody waits for this answer any more
        return Busy(None, 0.0, 0, "")
    holder = owner.decode(errors="replace").partition("|")[0] if isinstance(owner, bytes) else ""
    return Busy(None if left == -1 else max(0.0, left / 1000.0), int(moment) / 1e6, waiters, holder)


def kept(answer: Any) -> Kept:
    """Read what `renew.lua` answers."""
    if isinstance(answer, BackstayError):
        return Kept.FAILED
    return {1: Kept.RENEWED, 0: Kept.NOT_OWNER, -1: Kept.NO_EXPIRY}[answer]


class RedisSource:
    """Redis servers that backends of both makes can be had for: a single one, or those of Sentinel or a Cluster."""

    kind = "redis"

    def __init__(self, target: Target, space: str) -> None:
        self.target, self._space = target, space
        self._connector = Connector(target, space)

    @classmethod
    def from_url(
        cls,
        url: Url,
        space: str,
        answer_within: float | None,
        *,
        min_replicas: int | None = None,
        eviction: str | None = None,
    ) -> RedisSource:
        """Read a URL; `min_replicas` and `eviction` go before what it says."""
        return cls(of_url(url, answer_within).with_demands(min_replicas, eviction), space)

    @classmethod
    def from_client(
        cls,
        client: object,
        space: str,
        answer_within: float | None,
        *,
        min_replicas: int | None = None,
        eviction: str | None = None,
    ) -> RedisSource:
        """Copy a client's connection settings."""
        return cls(of_client(client, answer_within).with_demands(min_replicas, eviction), space)

    def blocking(self) -> RedisBackend:
        """Return a backend for threads."""
        return self._backend(*self._connector.blocking())

    def asynchronous(self) -> RedisBackend:
        """Return a backend for the running event loop."""
        return self._backend(*self._connector.asynchronous())

    def _backend(self, wire: Wire, mailbox: Mailbox) -> RedisBackend:
        return RedisBackend(wire, mailbox, self._space, self.target.label, self.target.patience)
