"""Several locks at once, all or none: in one order for everybody, under one deadline, blocking and asyncio.

The names are taken one after the other, sorted, each once (M1). Whoever needs some of them takes them in that order,
and each queue is fair, so nobody can hold what another waits for and wait for what that one holds (M2). If one cannot
be had, those that were are given back, all of them, whatever becomes of the single releases (M3). Each lock keeps its
own fence. The loss of one is the loss of the whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import MappingProxyType

from backstay.blocking import drive
from backstay.errors import BackstayError, Misuse

from ..claims import MUTEX, Resource
from ..errors import LockLost
from ..leases.handle import Site, longer
from ..leases.lease import LOST, Grant
from ..leases.loss import AsyncLoss, Loss
from ..leases.protocol import LeaseProtocol
from ..options import Duration, Terms, checked_name, waiting_less
from .mutex import AsyncBlock, Block, Reach, asked

__all__ = ["AsyncMulti", "AsyncMultiLease", "Multi", "MultiLease"]

MOST = 256  # names: each costs an exchange


def _ordered(names: Sequence[str]) -> tuple[str, ...]:
    ordered = tuple(sorted({checked_name(name) for name in names}))
    if not 1 <= len(ordered) <= MOST:
        raise Misuse(f"multi() takes 1 to {MOST} names, got {len(ordered)}")
    return ordered


async def acquire_all(protocol: LeaseProtocol, names: Sequence[str], terms: Terms) -> list[Grant]:
    """Acquire the locks in the order given, within one wait.

    Raises:
        NotAcquired, Unavailable, OutcomeUnknown: one could not be had; the others were given back.
        LockLost: one was lost while others were being waited for; the others were given back.
    """
    runtime = protocol.runtime
    until = runtime.now() + terms.wait
    grants: list[Grant] = []
    try:
        for name in names:
            left = waiting_less(terms, until - runtime.now())
            grants.append(await asked(protocol, Resource(name), MUTEX, left))  # those before an error are known
        now = runtime.now()
        for grant in grants:
            if not grant.valid(now):
                raise grant.lost(now)
    except GeneratorExit:
        raise
    except BaseException as error:
        await runtime.shield(_roll_back(protocol, grants, error))
        raise
    return grants


async def _roll_back(protocol: LeaseProtocol, grants: Sequence[Grant], error: BaseException) -> None:
    for grant in reversed(grants):
        try:
            failure: BaseException | None = await protocol.leave(grant)
        except Exception as raised:  # a store's own fault must not keep the other locks from being given back (M3)
            failure = raised
        if failure is not None and failure is not error:
            error.add_note(f"and giving back {grant.resource}: {failure}")


async def release_all(protocol: LeaseProtocol, grants: Sequence[Grant]) -> None:
    """Give all back; what fails keeps none of the others, and is raised at the end.

    Raises:
        Unavailable, OutcomeUnknown: the store did not answer for one of them; calling again is safe.
        LockLost: one had ended before.
    """
    failures: list[BackstayError] = []
    for grant in reversed(grants):
        try:
            await protocol.release(grant)
        except BackstayError as error:
            failures.append(error)
    if failures:
        failures.sort(key=lambda error: isinstance(error, LockLost))  # what can be repeated goes first
        for other in failures[1:]:
            failures[0].add_note(f"and: {other}")
        raise failures[0]


async def leave_all(protocol: LeaseProtocol, grants: Sequence[Grant]) -> LockLost | None:
    """Give all back at the end of a block; return the loss, with the others as notes."""
    losses = [loss for grant in reversed(grants) if (loss := await protocol.leave(grant)) is not None]
    for other in losses[1:]:
        losses[0].add_note(f"and: {other}")
    return losses[0] if losses else None


async def extend_all(protocol: LeaseProtocol, grants: Sequence[Grant], ttl: Duration | None) -> None:
    """Extend each; the deadline of the whole is the earliest of them."""
    for grant in grants:
        await protocol.extend(grant, longer(grant, ttl))


class _Together:
    """What can be asked of several leases that count as one."""

    __slots__ = ("_grants", "_protocol", "_site")

    def __init__(self, protocol: LeaseProtocol, grants: Sequence[Grant], site: Site) -> None:
        self._protocol, self._grants, self._site = protocol, tuple(grants), site

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the locks, in order."""
        return tuple(grant.resource.name for grant in self._grants)

    @property
    def fences(self) -> MappingProxyType[str, int]:
        """The fence of each lock, by its name; each rises for itself, and no two can be compared."""
        return MappingProxyType({grant.resource.name: grant.fence for grant in self._grants})

    @property
    def ttl(self) -> float:
        """Seconds that each renewal promises."""
        return min(grant.ttl for grant in self._grants)

    @property
    def deadline(self) -> float:
        """When the first of them ends unless it is renewed, in seconds of `backstay.clock.monotonic`."""
        return min(grant.deadline for grant in self._grants)

    def remaining(self) -> float:
        """Return the seconds until the deadline, 0 where one of them is over."""
        return max(0.0, self.deadline - self._protocol.runtime.now()) if self.is_valid() else 0.0

    def is_valid(self) -> bool:
        """Return whether the holder may go on: true as long as every one of them is valid, computed as for one."""
        now = self._protocol.runtime.now()
        return all(grant.valid(now) for grant in self._grants)

    def check(self) -> None:
        """Raise `LockLost`, naming the lock that was lost, unless all are valid."""
        now = self._protocol.runtime.now()
        for grant in self._grants:
            if not grant.valid(now):
                raise grant.lost(now)

    def __repr__(self) -> str:
        held = ", ".join(f"{grant.resource.name!r} {grant.state.value}" for grant in self._grants)
        return f"<{type(self).__name__} of {held}>"

    def __del__(self) -> None:
        grants: tuple[Grant, ...] = getattr(self, "_grants", ())
        now = self._protocol.runtime.now() if grants else 0.0
        dropped = [grant for grant in grants if grant.valid(now) and grant.move(LOST, "abandoned")]
        if dropped:  # no mutex here: the collector may run this in the midst of a line that holds it
            code, line = self._site
            names = ", ".join(repr(grant.resource.name) for grant in dropped)
            warnings.warn(
                f"locks {names}, acquired at {code.co_filename}:{line}, were dropped without a release; "
                f"they are renewed no more and come free in {dropped[0].ttl:g} s",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class MultiLease(_Together):
    """Several locks that this process holds until it releases them or loses one."""

    __slots__ = ("_loss",)

    _loss: Loss

    @property
    def lost(self) -> Loss:
        """The event that tells of the first loss: `lost.is_set()`, `lost.wait(timeout)`, `lost.call(function)`."""
        try:
            return self._loss
        except AttributeError:
            self._loss = Loss(self._protocol.runtime, *self._grants)
            return self._loss

    def extend(self, ttl: Duration | None = None) -> None:
        """Set each to end no earlier than `ttl` seconds from now (default: its own ttl); none gets shorter.

        Raises:
            LockLost: one has ended.
            Unavailable, OutcomeUnknown: the store did not answer for one; its deadline stays as it was.
        """
        drive(extend_all(self._protocol, self._grants, ttl))

    def release(self) -> None:
        """Give all back; a second call does nothing.

        Raises:
            LockLost: one had ended before.
            Unavailable, OutcomeUnknown: the store did not answer for one; call again, or let the ttl end it.
        """
        drive(release_all(self._protocol, self._grants))

    def _leave(self) -> LockLost | None:
        return drive(leave_all(self._protocol, self._grants))


class AsyncMultiLease(_Together):
    """Several locks that this process holds until it releases them or loses one."""

    __slots__ = ("_loss",)

    _loss: AsyncLoss

    @property
    def lost(self) -> AsyncLoss:
        """The event that tells of the first loss: `lost.is_set()`, `await lost`, `lost.call(function)`."""
        try:
            return self._loss
        except AttributeError:
            self._loss = AsyncLoss(self._protocol.runtime, *self._grants)
            return self._loss

    async def extend(self, ttl: Duration | None = None) -> None:
        """Set each to end no earlier than `ttl` seconds from now (default: its own ttl); none gets shorter.

        Raises:
            LockLost: one has ended.
            Unavailable, OutcomeUnknown: the store did not answer for one; its deadline stays as it was.
        """
        await extend_all(self._protocol, self._grants, ttl)

    async def release(self) -> None:
        """Give all back; a second call does nothing.

        Raises:
            LockLost: one had ended before.
            Unavailable, OutcomeUnknown: the store did not answer for one; call again, or let the ttl end it.
        """
        await self._protocol.runtime.shield(release_all(self._protocol, self._grants))

    async def _leave(self) -> LockLost | None:
        return await self._protocol.runtime.shield(leave_all(self._protocol, self._grants))


class Multi(Block[MultiLease]):
    """Several locks that are taken together, or none of them.

        with locks.multi("account:1", "account:2") as lease:
            move(fences=lease.fences)

    They are the locks that `mutex` gives by the same names.
    """

    __slots__ = ("_names",)

    def __init__(self, reach: Reach, names: Sequence[str], terms: Terms) -> None:
        super().__init__(reach, terms)
        self._names = _ordered(names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the locks, in the order in which they are taken, each once."""
        return self._names

    def _take(self, site: Site) -> MultiLease:
        protocol = self._reach()
        return MultiLease(protocol, drive(acquire_all(protocol, self._names, self._terms)), site)


class AsyncMulti(AsyncBlock[AsyncMultiLease]):
    """Several locks that are taken together, or none of them.

        async with locks.multi("account:1", "account:2") as lease:
            await move(fences=lease.fences)

    They are the locks that `mutex` gives by the same names.
    """

    __slots__ = ("_names",)

    def __init__(self, reach: Reach, names: Sequence[str], terms: Terms) -> None:
        super().__init__(reach, terms)
        self._names = _ordered(names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the locks, in the order in which they are taken, each once."""
        return self._names

    async def _take(self, site: Site) -> AsyncMultiLease:
        protocol = self._reach()
        return AsyncMultiLease(protocol, await acquire_all(protocol, self._names, self._terms), site)
