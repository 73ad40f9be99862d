"""What `reserve` hands out, in both colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backstay.blocking import drive
from backstay.runtime import Runtime

from .reservation import Ticket

if TYPE_CHECKING:
    from .waiting import Waiting

__all__ = ["AsyncReservation", "Reservation"]


class _Reserved:
    def __init__(self, waiting: Waiting, ticket: Ticket, runtime: Runtime) -> None:
        self._waiting = waiting
        self._ticket = ticket
        self._runtime = runtime

    @property
    def key(self) -> str:
        """Whose bucket."""
        return self._ticket.key

    @property
    def cost(self) -> int:
        """How many tokens."""
        return self._ticket.cost

    @property
    def delay(self) -> float:
        """Seconds from now until the tokens may be used; 0 from then on. Shorter once somebody before has left."""
        return max(0.0, self._ticket.due - self._runtime.now())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key!r}, cost={self.cost}, delay={self.delay:.3g})"


class Reservation(_Reserved):
    """Tokens that are yours from a moment on."""

    def wait(self) -> None:
        """Wait for the moment."""
        drive(self._waiting.line.wait(self._ticket))

    def cancel(self) -> bool:
        """Give the tokens back, if their moment has not come; return whether they were given back."""
        return drive(self._waiting.cancel(self._ticket))


class AsyncReservation(_Reserved):
    """Tokens that are yours from a moment on."""

    async def wait(self) -> None:
        """Wait for the moment. A cancellation gives nothing back by itself: `cancel()` does."""
        await self._waiting.line.wait(self._ticket)

    async def cancel(self) -> bool:
        """Give the tokens back, if their moment has not come; return whether they were given back."""
        return await self._waiting.cancel(self._ticket)
