"""Ports of the rate limiter: a set of token buckets of one rate, told apart by key.

`charge` answers with one integer, the *balance*, because a result object would cost more than the bucket:

    balance > 0    the tokens were taken; the bucket is `balance` ticks away from full
    balance == 0   refused: the key is new and no more keys may be held (memory only)
    balance < 0    refused, nothing was taken; the tokens are there in `-balance` ticks

A tick is that of `scale`. `StoreFailed` says that no answer came in time, or that the gate is shut. Buckets whose
rate has changed answer refusals with a `Told`, a balance that knows its scale; before that a plain integer will do.

A bucket that can be *in debt* is of the port `Reserving` as well: a caller that is willing to wait takes tokens that
are still to come, and the balance of a bucket is then above its window. Whoever comes later comes behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .carry import Carry
from .rate import Rate, Scale

__all__ = ["AsyncBuckets", "AsyncReserving", "Buckets", "Reserving", "StoreFailed", "Taken", "Told"]


class Told(int):
    """A balance that says which rate it is of: buckets whose rate was changed give it to refused calls."""

    rate: Rate
    scale: Scale

    @classmethod
    def of(cls, balance: int, rate: Rate, scale: Scale) -> Told:
        """Return `balance` with its rate."""
        told = cls(balance)
        told.rate, told.scale = rate, scale
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a bucket answered to a call that may wait.

    Attributes:
        balance: as `charge` gives it; above the window where the tokens are still to come.
        rate: that was applied.
        scale: its unit.
        due: the moment from which the tokens are there, in the store's own time; for `give`.
        second: how many of its moments are a second.
    """

    balance: int
    rate: Rate
    scale: Scale
    due: int
    second: int

    @property
    def delay(self) -> float:
        """Seconds until the tokens are there; 0 where they were at once."""
        return max(0, self.balance - self.scale.window) / self.scale.second


class StoreFailed(Exception):
    """The store gave no answer within the budget. Internal: the limiter's failure mode decides what it means.

    Args:
        reason: a word of a small closed set, for `error.type`: timeout, connection, refused, reply, busy, gate.
        message: what happened, without secrets.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Buckets(Protocol):
    """Token buckets, blocking make."""

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        ...

    @property
    def scale(self) -> Scale:
        """The unit of balances."""
        ...

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key`, all or none, and return the balance.

        Raises:
            StoreFailed: there is no answer. The tokens were not taken, and will not be, unless only the reply
                was lost on its way back.
        """
        ...


class AsyncBuckets(Protocol):
    """Token buckets, asyncio make."""

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        ...

    @property
    def scale(self) -> Scale:
        """The unit of balances."""
        ...

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key`, as `Buckets.charge` does."""
        ...


@runtime_checkable
class Reserving(Protocol):
    """Buckets that can be in debt, take back, and change their rate; blocking make."""

    def take(self, key: str, cost: int, ahead: float) -> Taken:
        """Take tokens that are there within `ahead` seconds, all or none.

        Raises:
            StoreFailed: as for `charge`.
        """
        ...

    def give(self, key: str, cost: int, until: int) -> bool:
        """Give tokens back, before the moment `until` of the store's time, or at any time where it is 0.

        The bucket becomes full at most. Returns whether it was less than full and the time was not over.

        Raises:
            StoreFailed: there is no answer.
        """
        ...

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Go over to another rate; calls see the old one or the new one."""
        ...


@runtime_checkable
class AsyncReserving(Protocol):
    """The same, asyncio make."""

    async def take(self, key: str, cost: int, ahead: float) -> Taken:
        """Take tokens that are there within `ahead` seconds, as `Reserving.take` does."""
        ...

    async def give(self, key: str, cost: int, until: int) -> bool:
        """Give tokens back, as `Reserving.give` does."""
        ...

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Go over to another rate, as `Reserving.reconfigure` does."""
        ...
