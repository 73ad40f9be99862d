"""Ports of the rate limiter: a set of token buckets of one rate, told apart by key.

`charge` answers with one integer, the *balance*, because a result object would cost more than the bucket:

    balance > 0    the tokens were taken; the bucket is `balance` ticks away from full
    balance == 0   refused: the key is new and no more keys may be held (memory only)
    balance < 0    refused, nothing was taken; the tokens are there in `-balance` ticks

A tick is that of `scale`. `StoreFailed` says that no answer came in time, or that the gate is shut.
"""

from __future__ import annotations

from typing import Protocol

from .rate import Rate, Scale

__all__ = ["AsyncBuckets", "Buckets", "StoreFailed"]


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
        """Take `cost` tokens, as `Buckets.charge` does."""
        ...
