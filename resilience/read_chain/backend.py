"""Port: what a distributed cache must do. Two makes, of which the blocking one never suspends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Looked", "Shared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look brought.

    Attributes:
        data: as it was stored, or None.
        now_us: microseconds of the server's clock when it looked.
        refilling: somebody else fetches the answer anew.
    """

    data: bytes | None
    now_us: int
    refilling: bool = False


class Shared(Protocol):
    """A cache that several processes share. All steps may be repeated."""

    async def look(self, key: str, timeout: float, *, claims: bool) -> Looked:
        """Return what is stored under a key, in one round trip.

        Args:
            key: of the answer.
            timeout: seconds.
            claims: claim the refill of what is not fresh, for a while; who finds it claimed is told.

        Raises:
            Unavailable, OutcomeUnknown: no answer in time.
            Rejected: it was not asked.
        """
        ...

    async def keep(self, key: str, packed: bytes, began: float | None, timeout: float, *, lives: float) -> bool:
        """Store an answer, in one round trip, unless a newer one is there; whether it was.

        Args:
            key: of the answer.
            packed: by `codec.pack`.
            began: when the origin was asked for it, on the local monotonic clock; the server makes a moment of its
                own clock of that, rather too early than too late. None for the moment at which the server hears of it.
            timeout: seconds.
            lives: seconds from that moment.

        Raises:
            Unavailable, OutcomeUnknown, Rejected: as for `look`.
        """
        ...
