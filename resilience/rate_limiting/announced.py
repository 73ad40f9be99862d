"""Buckets that tell the request's collector what they answered, for the fields of allowed answers (RL-12)."""

from __future__ import annotations

from typing import Any

from .backend import AsyncBuckets, Buckets
from .decision import Decision, decide
from .http import collector

__all__ = ["AnnouncedBuckets", "AsyncAnnouncedBuckets"]


class _Announced:
    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        self.rate = inner.rate
        self.scale = inner.scale
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # whatever else these buckets can do

    def decide(self, balance: int, cost: int) -> Decision:
        """Return the decision that a balance stands for."""
        own = getattr(self.inner, "decide", None)
        made: Decision = decide(balance, self.rate, self.scale, cost) if own is None else own(balance, cost)
        return made

    def _told(self, balance: int, cost: int) -> int:
        collected = collector()
        if collected is not None:
            collected.note(self._name, self.decide(balance, cost))
        return balance


class AnnouncedBuckets(_Announced):
    """Buckets of the blocking make, announced."""

    def __init__(self, inner: Buckets, name: str) -> None:
        super().__init__(inner, name)

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, as `Buckets.charge` does."""
        return self._told(self.inner.charge(key, cost), cost)


class AsyncAnnouncedBuckets(_Announced):
    """Buckets of the asyncio make, announced."""

    def __init__(self, inner: AsyncBuckets, name: str) -> None:
        super().__init__(inner, name)

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, as `Buckets.charge` does."""
        return self._told(await self.inner.charge(key, cost), cost)
