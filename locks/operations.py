"""What operators do: see who holds and who waits, and break what a dead holder left, with a record of who did.

Breaking is a decision against a holder that may still be working: it learns of it at its next renewal, at most ttl/3
later, and only its fence keeps its late writes out. So a break is first written into the store's own record, where the
store keeps documents, then done, logged and counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from backstay.blocking import drive
from backstay.errors import Misuse

from .backend import Holding, Survey
from .claims import KINDS, Resource
from .leases.protocol import LeaseProtocol
from .options import checked_name
from .recipes.mutex import Reach
from .register import Next, Register

__all__ = ["KEPT", "AsyncOperations", "BlockingOperations", "Break"]

logger = logging.getLogger("backstay.locks")

KEPT = 100
"""Breaks that the record keeps, the newest."""

_TEXT = 200  # characters of a reason
_RECORD = Resource("breaks", "record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One grant that an operator ended.

    Args:
        at: when, by the wall clock of the operator's machine, ISO 8601; for the eye, nothing is decided by it.
        by: who.
        reason: why.
        kind: the kind of the resource.
        name: its name.
        token: whose grant.
        fence: which grant.
    """

    at: str
    by: str
    reason: str
    kind: str
    name: str
    token: str
    fence: int


class _Form:
    """The record as JSON."""

    def load(self, body: Mapping[str, Any]) -> list[Break]:
        return [Break(**entry) for entry in body["breaks"]]

    def dump(self, state: list[Break]) -> dict[str, Any]:
        return {"breaks": [asdict(entry) for entry in state]}


def checked_resource(name: str, kind: str) -> Resource:
    """Return the resource.

    Raises:
        Misuse: there is no such kind, or nothing can have that name.
    """
    if kind not in KINDS:
        raise Misuse(f"kind must be one of {', '.join(sorted(KINDS))}; got {kind!r}")
    return Resource(checked_name(name), kind)


async def held(protocol: LeaseProtocol, limit: int) -> list[Resource]:
    if limit < 1:
        raise Misuse(f"limit must be >= 1, got {limit}")
    return await protocol.backend.resources(limit, protocol.backend.patience)


async def inspect(protocol: LeaseProtocol, name: str, kind: str) -> Survey:
    return await protocol.backend.inspect(checked_resource(name, kind), protocol.backend.patience)


async def break_lock(
    protocol: LeaseProtocol, name: str, kind: str, token: str | None, by: str, reason: str
) -> list[Holding]:
    resource, backend = checked_resource(name, kind), protocol.backend
    if not by.strip():
        raise Misuse("by must say who breaks the lock, such as 'alice'")
    survey = await backend.inspect(resource, backend.patience)
    chosen = [each for each in survey.holders if token in (None, each.token)]
    if token is not None and not chosen:
        raise Misuse(f"{resource} is not held by {token}; nothing was changed")
    at = datetime.fromtimestamp(time.time_ns() // 10**9, UTC).isoformat(timespec="seconds")
    entries = [
        Break(at=at, by=by[:_TEXT], reason=reason[:_TEXT], kind=kind, name=name, token=each.token, fence=each.fence)
        for each in chosen
    ]
    if entries and backend.documents is not None:
        until = protocol.runtime.now() + backend.patience
        await _record(protocol).change(lambda state, now: Next(None, [*(state or []), *entries][-KEPT:]), until)
    for entry in entries:
        await backend.evict(resource, entry.token, backend.patience)
        protocol.meters[kind].broken.n += 1
        logger.warning("%s (fence %d) of %s was broken by %s: %s", resource, entry.fence, entry.token, by, reason)
    return chosen


async def breaks(protocol: LeaseProtocol) -> list[Break]:
    seen = await _record(protocol).look(protocol.runtime.now() + protocol.backend.patience)
    return [] if seen is None else seen.state


def _record(protocol: LeaseProtocol) -> Register[list[Break]]:
    return Register(protocol.runtime, protocol.backend, _RECORD, _Form(), None)


class BlockingOperations:
    """What operators do, for threads."""

    def _reached(self) -> Reach:
        """Return what finds the protocol."""
        raise NotImplementedError

    def held(self, *, limit: int = 100) -> list[Resource]:
        """Return up to `limit` resources of this namespace that are held or waited for; the store is not halted.

        Raises:
            Misuse: the limit is below 1.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return drive(held(self._reached()(), limit))

    def inspect(self, name: str, *, kind: str = "lock") -> Survey:
        """Return who holds a resource, since when and with which fence, and who waits for it.

        Args:
            name: its name.
            kind: `lock`, `read-write lock`, `semaphore` or `segmented lock`.

        Raises:
            Misuse: there is no such kind.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return drive(inspect(self._reached()(), name, kind))

    def break_lock(
        self, name: str, *, by: str, reason: str = "", kind: str = "lock", token: str | None = None
    ) -> list[Holding]:
        """End the grants of a resource by an operator's word, and return them; those who wait come next.

        The holder learns of it at its next renewal. Until then it may go on: only a fence that is checked at the
        resource keeps its late writes out.

        Args:
            name: its name.
            by: who does it; written into the record.
            reason: why.
            kind: as for `inspect`.
            token: only this holder's.

        Raises:
            Misuse: `by` is empty, the token holds nothing, or the store lets nobody end another's grant.
            Unavailable: nothing was changed, beyond the record perhaps.
            OutcomeUnknown: the store stopped answering; inspect again.
        """
        return drive(break_lock(self._reached()(), name, kind, token, by, reason))

    def breaks(self) -> list[Break]:
        """Return the record of breaks, the newest 100, oldest first.

        Raises:
            Misuse: this store keeps no documents.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return drive(breaks(self._reached()()))


class AsyncOperations:
    """What operators do, for asyncio."""

    def _reached(self) -> Reach:
        """Return what finds the protocol."""
        raise NotImplementedError

    async def held(self, *, limit: int = 100) -> list[Resource]:
        """Return up to `limit` resources of this namespace that are held or waited for; the store is not halted.

        Raises:
            Misuse: the limit is below 1.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return await held(self._reached()(), limit)

    async def inspect(self, name: str, *, kind: str = "lock") -> Survey:
        """Return who holds a resource, since when and with which fence, and who waits for it.

        Args:
            name: its name.
            kind: `lock`, `read-write lock`, `semaphore` or `segmented lock`.

        Raises:
            Misuse: there is no such kind.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return await inspect(self._reached()(), name, kind)

    async def break_lock(
        self, name: str, *, by: str, reason: str = "", kind: str = "lock", token: str | None = None
    ) -> list[Holding]:
        """End the grants of a resource by an operator's word, and return them; those who wait come next.

        The holder learns of it at its next renewal. Until then it may go on: only a fence that is checked at the
        resource keeps its late writes out.

        Args:
            name: its name.
            by: who does it; written into the record.
            reason: why.
            kind: as for `inspect`.
            token: only this holder's.

        Raises:
            Misuse: `by` is empty, the token holds nothing, or the store lets nobody end another's grant.
            Unavailable: nothing was changed, beyond the record perhaps.
            OutcomeUnknown: the store stopped answering; inspect again.
        """
        return await break_lock(self._reached()(), name, kind, token, by, reason)

    async def breaks(self) -> list[Break]:
        """Return the record of breaks, the newest 100, oldest first.

        Raises:
            Misuse: this store keeps no documents.
            Unavailable, OutcomeUnknown: the store did not answer.
        """
        return await breaks(self._reached()())
