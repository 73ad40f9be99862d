"""The rate limit as a policy: a decorator, a block, a layer of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Unpack

from backstay.errors import Misuse
from backstay.keys import Template

from ..policy import Admission, Admit, AdmitAsync, AsyncCall, Call, Layer, Settle, Target
from . import nesting
from .backend import StoreFailed
from .backends.memory import MemoryBuckets
from .limiter import AsyncRateLimiter, RateLimiter
from .nesting import Mark, Use, innermost, within
from .settings import RateLimitOptions, RateLimitSettings

__all__ = ["RateLimit"]

Keys: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], str]


class RateLimit(Layer):
    """Charges a limiter before each call, once.

        purchases = RateLimit("purchase", rate="100/second;burst=200", key="household:{household_id}")

        @purchases
        async def purchase(household_id: int) -> Receipt: ...

    It may be put round any number of functions, `def`, `async def` and streams, which share its buckets. One limit
    inside itself charges the outermost call only (CO-4); a task that outlives that call is charged again.

    Args:
        name: of the limit, in telemetry, errors and its store.
        settings: all settings at once, instead of the keywords.
        limiter: charge this one, of the colour of what it is put round, instead of one made from the settings.
        options: the settings as keywords; see `RateLimitSettings`.

    Raises:
        Misuse: at construction or decoration, for anything that is wrong.
    """

    kind = "rate_limiter"

    def __init__(
        self,
        name: str,
        *,
        settings: RateLimitSettings | None = None,
        limiter: RateLimiter | AsyncRateLimiter | None = None,
        **options: Unpack[RateLimitOptions],
    ) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise Misuse(f"a rate limit needs its name first, got {name!r:.80}")
        if settings is not None and options:
            raise Misuse(f"rate limit {name!r}: give settings= or {', '.join(sorted(options))}, not both")
        if limiter is not None:
            if settings is not None or options.keys() - {"key", "cost", "wait", "carry"}:
                raise Misuse(f"rate limit {name!r}: with limiter= only key, cost, wait and carry are given here")
            settings = RateLimitSettings.of({**options, "rate": limiter.rate})
        elif settings is None:
            settings = RateLimitSettings.of(options)
        self.name = name
        self._settings = settings
        self._given = limiter
        self._made: dict[bool, RateLimiter | AsyncRateLimiter] = {}
        self._uses: list[Use] = []

    def __repr__(self) -> str:
        return f"RateLimit({self.name!r}, {str(self._settings.rate)!r})"

    @property
    def settings(self) -> RateLimitSettings:
        """The settings in force."""
        return self._settings

    def reconfigure(self, settings: RateLimitSettings) -> None:
        """Go over to other settings while calls run; tokens are carried as they say (see `RateLimiter.reconfigure`).

        Raises:
            Misuse: something else than rate, cost, wait and carry differs, or the rate of a sliding window or of a
                limit that leases; nothing was changed.
        """
        before = self._settings
        if settings.fixed != before.fixed:
            raise Misuse(
                f"rate limit {self.name!r}: key, store, namespace, on_store_failure, local_share, budget, algorithm, "
                "lease and announce cannot change while it runs; make a new limit"
            )
        if settings.steady is not None and settings.rate != before.rate:
            raise Misuse(
                f"rate limit {self.name!r}: {settings.steady} cannot change its rate while it runs; make a new limit "
                "of another name"
            )
        limiters = {id(each): each for each in (self._given, *self._made.values()) if each}
        for limiter in limiters.values() if settings.steady is None else ():
            limiter.reconfigure(settings.rate, settings.carry)
        for use in self._uses:
            use.change(settings.cost, settings.wait)
        self._settings = settings

    def admission(self) -> Admission:
        """Return a context manager that puts the limit round a block: `with` and `async with`."""
        return Admission(self, self.name)

    # -- calls

    def wrap(self, call: Call, target: Target) -> Call:
        """Return `call` behind the limit."""
        limiter = self._blocking(target)
        charge, key, use = limiter.charge, self._keys(target), self._use(limiter)
        acquired, identity = limiter.acquired, limiter.identity

        def slowly(bucket: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            outer, here = innermost.get(), (identity, bucket)
            if outer is not None and within(outer, here):
                return call(*args, **kwargs)
            limiter.acquire(bucket, use.cost, wait=use.wait)
            if not use.shared:
                return call(*args, **kwargs)
            mark = Mark(here, outer)
            token = innermost.set(mark)
            try:
                return call(*args, **kwargs)
            finally:
                mark.live = False
                innermost.reset(token)

        def limited(*args: Any, **kwargs: Any) -> Any:
            bucket = key(args, kwargs)
            if use.slow:
                return slowly(bucket, args, kwargs)
            try:
                balance = charge(bucket, use.cost)
            except StoreFailed as failure:
                limiter.survive(bucket, use.cost, failure)
            else:
                if balance <= 0:
                    raise limiter.refuse(balance)
                acquired.n += 1
            return call(*args, **kwargs)

        if self._settings.key is not None or not isinstance(limiter.buckets, MemoryBuckets):
            return limited
        charge_one = limiter.buckets.charger_of_one()

        def limited_as_one(*args: Any, **kwargs: Any) -> Any:
            if use.slow:
                return slowly("", args, kwargs)
            balance = charge_one(use.cost)
            if balance <= 0:
                raise limiter.refuse(balance)
            acquired.n += 1
            return call(*args, **kwargs)

        return limited_as_one

    def wrap_async(self, call: AsyncCall, target: Target) -> AsyncCall:
        """Return `call` behind the limit."""
        limiter = self._asynchronous(target)
        at_once, remote, key, use = limiter.charge_at_once, limiter.charge, self._keys(target), self._use(limiter)
        acquired, identity = limiter.acquired, limiter.identity

        async def slowly(bucket: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            outer, here = innermost.get(), (identity, bucket)
            if outer is not None and within(outer, here):
                return await call(*args, **kwargs)
            await limiter.acquire(bucket, use.cost, wait=use.wait)
            if not use.shared:
                return await call(*args, **kwargs)
            mark = Mark(here, outer)
            token = innermost.set(mark)
            try:
                return await call(*args, **kwargs)
            finally:
                mark.live = False
                innermost.reset(token)

        async def limited(*args: Any, **kwargs: Any) -> Any:
            bucket = key(args, kwargs)
            if use.slow:
                return await slowly(bucket, args, kwargs)
            cost = use.cost
            try:
                balance = at_once(bucket, cost) if at_once is not None else await remote(bucket, cost)
            except StoreFailed as failure:
                limiter.survive(bucket, cost, failure)
            else:
                if balance <= 0:
                    raise limiter.refuse(balance)
                acquired.n += 1
            return await call(*args, **kwargs)

        if self._settings.key is not None or not isinstance(limiter.buckets, MemoryBuckets):
            return limited
        charge_one = limiter.buckets.charger_of_one()

        async def limited_as_one(*args: Any, **kwargs: Any) -> Any:
            if use.slow:
                return await slowly("", args, kwargs)
            balance = charge_one(use.cost)
            if balance <= 0:
                raise limiter.refuse(balance)
            acquired.n += 1
            return await call(*args, **kwargs)

        return limited_as_one

    def admit(self, target: Target) -> Admit:
        """Return what charges a stream, when its first item is asked for, or a block."""
        limiter = self._blocking(target)
        key, use, identity = self._keys(target), self._use(limiter), limiter.identity

        def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            bucket = key(args, kwargs)
            if use.shared and nesting.charged((identity, bucket)):
                return _unheeded
            limiter.acquire(bucket, use.cost, wait=use.wait)
            return _until_the_end(target, use, (identity, bucket))

        return admitted

    def admit_async(self, target: Target) -> AdmitAsync:
        """Return the same for an event loop."""
        limiter = self._asynchronous(target)
        key, use, identity = self._keys(target), self._use(limiter), limiter.identity

        async def admitted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Settle:
            bucket = key(args, kwargs)
            if use.shared and nesting.charged((identity, bucket)):
                return _unheeded
            await limiter.acquire(bucket, use.cost, wait=use.wait)
            return _until_the_end(target, use, (identity, bucket))

        return admitted

    # -- what they are made of

    def _blocking(self, target: Target) -> RateLimiter:
        found = self._given or self._made.get(False)
        if found is None:
            settings = self._settings
            found = self._made[False] = RateLimiter.connect(settings.store, name=self.name, **_options(settings))
        if isinstance(found, RateLimiter):
            return found
        if isinstance(found.buckets, MemoryBuckets):
            return RateLimiter(found.buckets, name=found.name, resource=found.resource)
        raise Misuse(f"{target.label}() is a plain function: give it a RateLimiter, not {found!r}")

    def _asynchronous(self, target: Target) -> AsyncRateLimiter:
        found = self._given or self._made.get(True)
        if found is None:
            settings = self._settings
            found = self._made[True] = AsyncRateLimiter.connect(settings.store, name=self.name, **_options(settings))
        if isinstance(found, AsyncRateLimiter):
            return found
        if isinstance(found.buckets, MemoryBuckets):
            return AsyncRateLimiter(found.buckets, name=found.name, resource=found.resource)
        raise Misuse(f"{target.label}() is async def: give it an AsyncRateLimiter, {found!r} would block it")

    def _use(self, limiter: RateLimiter | AsyncRateLimiter) -> Use:
        limiter.check("", self._settings.cost)
        use = Use(self._settings.cost, self._settings.wait)
        self._uses.append(use)
        nesting.join(limiter.identity, use)
        return use

    def _keys(self, target: Target) -> Keys:
        given = self._settings.key
        if given is None:
            return lambda args, kwargs: ""
        if isinstance(given, str):
            return Template(given).bind(target.function)
        if not callable(given):
            raise Misuse(f"{target.label}(): key must be a template, a function or None, got {given!r}")
        return lambda args, kwargs: given(*args, **kwargs)


def _options(settings: RateLimitSettings) -> dict[str, Any]:
    return {
        "rate": settings.rate,
        "namespace": settings.namespace,
        "on_store_failure": settings.on_store_failure,
        "local_share": settings.local_share,
        "budget": settings.budget,
        "algorithm": settings.algorithm,
        "lease": settings.lease,
        "announce": settings.announce,
    }


def _until_the_end(target: Target, use: Use, bucket: nesting.Bucket) -> Settle:
    """Return what ends the mark of a block. A stream has none: what runs between its items is its caller's."""
    if not use.shared or target.is_stream:
        return _unheeded
    mark = nesting.enter(bucket)
    return lambda error: mark.leave()


def _unheeded(error: BaseException | None) -> None:
    """Hear of the end of a call: tokens are spent, however it ended."""
