"""What a holder holds: the lease of one acquisition, in a blocking and an asyncio make."""

from __future__ import annotations

import warnings
from types import CodeType, TracebackType
from typing import Self

from backstay.blocking import drive

from ..errors import LockLost
from ..options import Duration, seconds, terms
from .hand_over import detached
from .lease import LOST, Grant
from .loss import AsyncLoss, Loss
from .protocol import LeaseProtocol

__all__ = ["AsyncLease", "Held", "Lease", "Site", "longer", "report"]

Site = tuple[CodeType, int]
"""Where in the caller's code a lease was acquired."""


class Held:
    """What can be asked of a lease without asking the store; every answer is computed when it is asked for."""

    __slots__ = ("_grant", "_protocol", "_site")

    def __init__(self, protocol: LeaseProtocol, grant: Grant, site: Site) -> None:
        self._protocol, self._grant, self._site = protocol, grant, site

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._grant.resource.name

    @property
    def fence(self) -> int:
        """A number that is higher than that of every earlier holder; hand it to the resource that you write to."""
        return self._grant.fence

    @property
    def token(self) -> str:
        """The owner's name at the store, `host-pid-...`, as operators see it."""
        return self._grant.token

    @property
    def ttl(self) -> float:
        """Seconds that each renewal promises."""
        return self._grant.ttl

    @property
    def deadline(self) -> float:
        """When the lease ends unless it is renewed, in seconds of `backstay.clock.monotonic`."""
        return self._grant.deadline

    def remaining(self) -> float:
        """Return the seconds until the deadline, 0 where the lease is over."""
        now = self._protocol.runtime.now()
        return max(0.0, self._grant.deadline - now) if self._grant.valid(now) else 0.0

    def is_valid(self) -> bool:
        """Return whether the holder may go on: true before the deadline, false from then on.

        It is computed from the clock, so it turns false in time even where no thread and no loop has run
        since (C3). It cannot protect what happens after it returns: a process may be stopped between this
        answer and the next line. Only the fence, checked by the resource, covers that.
        """
        return self._grant.valid(self._protocol.runtime.now())

    def check(self) -> None:
        """Raise `LockLost` unless the lease is valid."""
        now = self._protocol.runtime.now()
        if not self._grant.valid(now):
            raise self._grant.lost(now)

    def __repr__(self) -> str:
        grant = self._grant
        return f"<{type(self).__name__} of {grant.resource} fence={grant.fence} {grant.state.value}>"

    def __del__(self) -> None:
        grant: Grant | None = getattr(self, "_grant", None)
        # No mutex here: the collector may run this in the midst of a line that holds it.
        if grant is None or not grant.valid(self._protocol.runtime.now()):
            return
        if grant.move(LOST, "abandoned"):
            code, line = self._site
            warnings.warn(
                f"{grant.resource}, acquired at {code.co_filename}:{line}, was dropped without a release; "
                f"it is renewed no more and comes free in {grant.ttl:g} s",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class Lease(Held):
    """A lock that this process holds until it releases it or loses it.

    It is neither copied nor sent: two acquisitions never share a lease, and any thread may use it.
    """

    __slots__ = ("_loss",)

    _loss: Loss

    @property
    def lost(self) -> Loss:
        """The event that tells of a loss: `lost.is_set()`, `lost.wait(timeout)`, `lost.call(function)`."""
        try:
            return self._loss
        except AttributeError:
            self._loss = Loss(self._protocol.runtime, self._grant)
            return self._loss

    def extend(self, ttl: Duration | None = None) -> None:
        """Set the lease to end no earlier than `ttl` seconds from now (default: its own ttl); it never gets shorter.

        Raises:
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; the deadline stays as it was.
        """
        drive(self._protocol.extend(self._grant, longer(self._grant, ttl)))

    def detach(self, ttl: Duration | None = None) -> str:
        """Hand the lock over: end the lease here without giving it back, and return a text that goes on with it.

        `locks.attach(text)`, in another process, or behind a task queue, gives the same lock with the same fence.
        Until then it is held by nobody, for `ttl` seconds (default: its own ttl), then it is free. This handle can
        do nothing any more, and leaving its block is no error.

        Raises:
            Misuse: the store's grants live with its session (ZooKeeper), or other blocks stand on this one.
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; it is held here as before.
        """
        return drive(detached(self._protocol, self._grant, longer(self._grant, ttl)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        report(self._leave(), error, True)

    def release(self) -> None:
        """Give the lock back; a second call does nothing.

        Raises:
            LockLost: the lease had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; call again, or let the ttl end it (R6).
        """
        drive(self._protocol.release(self._grant))

    def _leave(self) -> LockLost | None:
        """Give it back at the end of its block."""
        return drive(self._protocol.leave(self._grant))


class AsyncLease(Held):
    """A lock that this process holds until it releases it or loses it.

    It is neither copied nor sent: two acquisitions never share a lease, and any task of its loop may use it.
    """

    __slots__ = ("_loss",)

    _loss: AsyncLoss

    @property
    def lost(self) -> AsyncLoss:
        """The event that tells of a loss: `lost.is_set()`, `await lost`, `await lost.wait(timeout)`, `lost.call(f)`."""
        try:
            return self._loss
        except AttributeError:
            self._loss = AsyncLoss(self._protocol.runtime, self._grant)
            return self._loss

    async def extend(self, ttl: Duration | None = None) -> None:
        """Set the lease to end no earlier than `ttl` seconds from now (default: its own ttl); it never gets shorter.

        Raises:
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; the deadline stays as it was.
        """
        await self._protocol.extend(self._grant, longer(self._grant, ttl))

    async def detach(self, ttl: Duration | None = None) -> str:
        """Hand the lock over: end the lease here without giving it back, and return a text that goes on with it.

        `locks.attach(text)`, in another process, or behind a task queue, gives the same lock with the same fence.
        Until then it is held by nobody, for `ttl` seconds (default: its own ttl), then it is free. This handle can
        do nothing any more, and leaving its block is no error.

        Raises:
            Misuse: the store's grants live with its session (ZooKeeper), or other blocks stand on this one.
            LockLost: it has ended.
            Unavailable, OutcomeUnknown: the store did not answer; it is held here as before.
        """
        return await detached(self._protocol, self._grant, longer(self._grant, ttl))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        report(await self._leave(), error, True)

    async def release(self) -> None:
        """Give the lock back; a second call does nothing.

        Raises:
            LockLost: the lease had ended before.
            Unavailable, OutcomeUnknown: the store did not answer; call again, or let the ttl end it (R6).
        """
        await self._protocol.release(self._grant)

    async def _leave(self) -> LockLost | None:
        """Give it back at the end of its block."""
        return await self._protocol.leave(self._grant)


def longer(grant: Grant, ttl: Duration | None) -> float:
    """Return the seconds that an extension asks for: the lease's own ttl where none is given."""
    if ttl is None:
        return grant.ttl
    return terms(seconds(ttl, "ttl")).ttl


def report(loss: LockLost | None, error: BaseException | None, raise_on_loss: bool) -> None:
    """End a block whose lease was lost (C6): the block's own error goes first."""
    if loss is None:
        return
    if error is not None:
        error.add_note(f"and meanwhile: {loss}")
    elif raise_on_loss:
        raise loss
