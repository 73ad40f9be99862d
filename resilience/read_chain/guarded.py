"""The distributed cache behind its breaker: while that is open, a read skips it at the price of one look (DG-6)."""

from __future__ import annotations

from backstay.clock import Clock
from backstay.errors import Misuse

from ..circuit_breaker import BreakerSettings, CircuitBreaker
from .backend import Looked, Shared
from .settings import RedisTier

__all__ = ["Guarded", "breaker_of"]


def breaker_of(name: str, tier: RedisTier, clock: Clock) -> CircuitBreaker:
    """Return the breaker of a tier: the given one, or one of its own."""
    given = tier.breaker
    if isinstance(given, CircuitBreaker):
        return given
    # A server that refuses our credentials is as useless as one that is down.
    return CircuitBreaker(
        f"{name}.distributed_cache", settings=BreakerSettings.of(given), failure=(Exception, Misuse), clock=clock
    )


class Guarded:
    """`Shared` of either make, in a breaker."""

    def __init__(self, shared: Shared, breaker: CircuitBreaker) -> None:
        self._shared = shared
        self._circuit = breaker.circuit

    async def look(self, key: str, timeout: float, *, claims: bool) -> Looked:
        """See `Shared.look`."""
        ticket = self._circuit.admit()
        try:
            looked = await self._shared.look(key, timeout, claims=claims)
        except BaseException as error:
            self._circuit.settle(ticket, error)
            raise
        self._circuit.settle(ticket, None)
        return looked

    async def keep(self, key: str, packed: bytes, began: float | None, timeout: float, *, lives: float) -> bool:
        """See `Shared.keep`."""
        ticket = self._circuit.admit()
        try:
            kept = await self._shared.keep(key, packed, began, timeout, lives=lives)
        except BaseException as error:
            self._circuit.settle(ticket, error)
            raise
        self._circuit.settle(ticket, None)
        return kept
