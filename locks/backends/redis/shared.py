"""The scripts of what several can hold at once or in part: their keys, arguments and answers."""

from __future__ import annotations

from backstay.locks.backend import ALIVE, TOMBSTONE, Busy, Freed, Renewal
from backstay.locks.claims import WHOLE, Claim, Resource, Unit
from backstay.locks.errors import SizeDiffers

from .answers import Request, Wire
from .keys import shared_keys
from .reading import busy, freed, milliseconds, units_text
from .scripts import LESSEN, RELEASE_SHARED, RENEW_SHARED, RESIZE, TAKE_SHARED, WITHDRAW_SHARED

__all__ = ["ALIVE_MS", "TOMBSTONE_MS", "SharedScripts"]

ALIVE_MS = int(ALIVE * 1000)
TOMBSTONE_MS = int(TOMBSTONE * 1000)


FILLED = units_text((Unit("*", WHOLE, WHOLE),))
"""What a holder of the old size has while it is waited for: everything."""


class SharedScripts:
    """The port's methods for all kinds but the lock, over a wire."""

    def __init__(self, wire: Wire, space: str) -> None:
        self._call, self._space = wire.call, space

    async def take(
        self, resource: Resource, token: str, claim: Claim, ttl: float, address: str, timeout: float
    ) -> int | Busy:
        """See `Backend.take`."""
        keys = shared_keys(self._space, resource)
        answer, _ = await self._call(
            TAKE_SHARED,
            (*keys, keys.tombstone(token)),
            (token, milliseconds(ttl), address, ALIVE_MS, units_text(claim.units), claim.size),
            timeout,
        )
        if type(answer) is bytes and answer != b"withdrawn":
            return int(answer)
        if type(answer) is int:
            raise SizeDiffers(resource, claim.size, answer)
        return busy(answer)

    async def release(self, resource: Resource, token: str, fence: int, timeout: float) -> Freed:
        """See `Backend.release`."""
        return freed(*await self._call(RELEASE_SHARED, shared_keys(self._space, resource), (token, fence), timeout))

    async def lessen(self, resource: Resource, token: str, fence: int, claim: Claim, timeout: float) -> Freed:
        """See `Backend.lessen`: a second copy changes nothing, so its answer is good."""
        answer, _ = await self._call(
            LESSEN, shared_keys(self._space, resource), (token, fence, units_text(claim.units)), timeout
        )
        return Freed.FREED if answer == 1 else Freed.NOT_OWNER

    def renewal(self, lease: Renewal) -> Request:
        """Return the request that renews one lease."""
        keys = shared_keys(self._space, lease.resource)
        return Request(RENEW_SHARED, (keys.holders, keys.ends), (lease.token, lease.fence, milliseconds(lease.ttl)))

    async def withdraw(self, resource: Resource, token: str, in_flight: bool, timeout: float) -> None:
        """See `Backend.withdraw`."""
        keys = shared_keys(self._space, resource)
        await self._call(
            WITHDRAW_SHARED, (*keys, keys.tombstone(token)), (token, TOMBSTONE_MS if in_flight else 0), timeout
        )

    async def resize(self, resource: Resource, size: int, drain: bool, timeout: float) -> int:
        """See `Backend.resize`."""
        arguments = (size, "drain" if drain else "", FILLED)
        answer, _ = await self._call(RESIZE, shared_keys(self._space, resource), arguments, timeout)
        return int(answer)
