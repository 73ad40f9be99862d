"""The rate limit as a policy of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backstay.errors import Misuse
from backstay.keys import Template

from ..policy import AsyncCall, Call, Target
from .backend import StoreFailed
from .backends.memory import MemoryBuckets
from .limiter import AsyncRateLimiter, RateLimiter

__all__ = ["RateLimit"]


class RateLimit:
    """Charges a limiter before each call, once.

    Args:
        blocking: makes the limiter for a plain function.
        asynchronous: makes the limiter for an `async def`.
        key: a template such as `household:{household_id}`, a function of the call's arguments, or None for one
            bucket for all.
        cost: tokens a call.
    """

    kind = "rate_limiter"

    def __init__(
        self,
        blocking: Callable[[], RateLimiter | AsyncRateLimiter],
        asynchronous: Callable[[], RateLimiter | AsyncRateLimiter],
        *,
        key: str | Callable[..., str] | None = None,
        cost: int = 1,
    ) -> None:
        self._blocking = blocking
        self._asynchronous = asynchronous
        self._key = key
        self._cost = cost

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the limit."""
        limiter = self._blocking()
        charge = limiter.charge if isinstance(limiter, RateLimiter) else limiter.charge_at_once
        if charge is None:
            raise Misuse(f"{target.label}() is a plain function: give it a RateLimiter, not {limiter!r}")
        key = self._keys(target)
        _, cost = limiter.check("", self._cost)
        acquired = limiter.acquired

        def limited(*args: Any, **kwargs: Any) -> Any:
            bucket = key(args, kwargs)
            try:
                balance = charge(bucket, cost)
            except StoreFailed as failure:
                limiter.survive(bucket, cost, failure)
            else:
                if balance <= 0:
                    raise limiter.refuse(balance)
                acquired.n += 1
            return call(*args, **kwargs)

        if self._key is not None or not isinstance(limiter.buckets, MemoryBuckets):
            return limited
        charge_one = limiter.buckets.charger_of_one()

        def limited_as_one(*args: Any, **kwargs: Any) -> Any:
            balance = charge_one(cost)
            if balance <= 0:
                raise limiter.refuse(balance)
            acquired.n += 1
            return call(*args, **kwargs)

        return limited_as_one

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the limit."""
        limiter = self._asynchronous()
        key = self._keys(target)
        _, cost = limiter.check("", self._cost)
        acquired = limiter.acquired
        if isinstance(limiter, RateLimiter):
            if not isinstance(limiter.buckets, MemoryBuckets):
                raise Misuse(f"{target.label}() is async def: give it an AsyncRateLimiter, {limiter!r} would block it")
            limiter = AsyncRateLimiter(limiter.buckets, name=limiter.name)
        at_once, remote = limiter.charge_at_once, limiter.charge

        async def limited(*args: Any, **kwargs: Any) -> Any:
            bucket = key(args, kwargs)
            try:
                balance = at_once(bucket, cost) if at_once is not None else await remote(bucket, cost)
            except StoreFailed as failure:
                limiter.survive(bucket, cost, failure)
            else:
                if balance <= 0:
                    raise limiter.refuse(balance)
                acquired.n += 1
            return await call(*args, **kwargs)

        if self._key is not None or not isinstance(limiter.buckets, MemoryBuckets):
            return limited
        charge_one = limiter.buckets.charger_of_one()

        async def limited_as_one(*args: Any, **kwargs: Any) -> Any:
            balance = charge_one(cost)
            if balance <= 0:
                raise limiter.refuse(balance)
            acquired.n += 1
            return await call(*args, **kwargs)

        return limited_as_one

    def _keys(self, target: Target) -> Callable[[tuple[Any, ...], Mapping[str, Any]], str]:
        given = self._key
        if given is None:
            return lambda args, kwargs: ""
        if isinstance(given, str):
            return Template(given).bind(target.function)
        if not callable(given):
            raise Misuse(f"{target.label}(): key must be a template, a function or None, got {given!r}")
        return lambda args, kwargs: given(*args, **kwargs)
