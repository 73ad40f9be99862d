"""Buckets that tell the request's collector what they answered, for the fields of allowed answers (RL-12)."""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any

from .backend import Taken, Told
from .carry import Carry
from .decision import Decision, decide
from .http import collector
from .rate import Rate, Scale

__all__ = ["AnnouncedBuckets", "AsyncAnnouncedBuckets", "announced", "announced_async"]


class _Announced:
    """What both makes have. What these buckets can do besides, their owner asks for by name (`__getattr__`)."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        self._name = name

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        rate: Rate = self.inner.rate
        return rate

    @property
    def scale(self) -> Scale:
        """The unit of balances."""
        scale: Scale = self.inner.scale
        return scale

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _decided(self, balance: int, cost: int) -> Decision:
        own = getattr(self.inner, "decide", None)
        if own is not None:
            made: Decision = own(balance, cost)
            return made
        rate, scale = (balance.rate, balance.scale) if isinstance(balance, Told) else (self.rate, self.scale)
        return decide(balance, rate, scale, cost)

    def _told(self, balance: int, cost: int) -> int:
        collected = collector()
        if collected is not None:
            collected.note(self._name, self._decided(balance, cost))
        return balance


class AnnouncedBuckets(_Announced):
    """Buckets of the blocking make, announced."""

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, as `Buckets.charge` does."""
        return self._told(self.inner.charge(key, cost), cost)


class AsyncAnnouncedBuckets(_Announced):
    """Buckets of the asyncio make, or in memory, announced."""

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, as `Buckets.charge` does."""
        answer = self.inner.charge(key, cost)
        return self._told(await answer if isawaitable(answer) else answer, cost)


class _Reserving(_Announced):
    """The steps of buckets that can be in debt (see `backend.Reserving`), of either make."""

    def take(self, key: str, cost: int, ahead: float) -> Any:
        """Take tokens that are there within `ahead` seconds."""
        answer = self.inner.take(key, cost, ahead)
        return self._told_later(answer, cost) if isawaitable(answer) else self._taken(answer, cost)

    def give(self, key: str, cost: int, until: int) -> Any:
        """Give tokens back."""
        return self.inner.give(key, cost, until)

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Go over to another rate."""
        self.inner.reconfigure(rate, carry)

    async def _told_later(self, answer: Awaitable[Taken], cost: int) -> Taken:
        return self._taken(await answer, cost)

    def _taken(self, taken: Taken, cost: int) -> Taken:
        collected = collector()
        if collected is not None:
            collected.note(self._name, decide(taken.balance, taken.rate, taken.scale, cost))
        return taken


class _AnnouncedReserving(_Reserving, AnnouncedBuckets):
    """Announced buckets that can be in debt."""


class _AsyncAnnouncedReserving(_Reserving, AsyncAnnouncedBuckets):
    """The same, asyncio make."""


def announced(inner: Any, name: str) -> AnnouncedBuckets:
    """Return `inner` so that it tells what it answers; it can do what `inner` can."""
    return (_AnnouncedReserving if hasattr(inner, "take") else AnnouncedBuckets)(inner, name)


def announced_async(inner: Any, name: str) -> AsyncAnnouncedBuckets:
    """Return the same for asyncio; `inner` may be in memory."""
    return (_AsyncAnnouncedReserving if hasattr(inner, "take") else AsyncAnnouncedBuckets)(inner, name)
