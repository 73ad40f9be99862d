"""Rate limiters as services use them: `RateLimiter` for blocking code, `AsyncRateLimiter` for asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.telemetry import gauge

from .backend import AsyncBuckets, Buckets, StoreFailed
from .backends.memory import MemoryBuckets
from .connect import async_buckets, blocking_buckets
from .decision import Decision, Result, decide, wait
from .failure import FailureMode, Outage
from .rate import Rate, Scale
from .telemetry import Requests

__all__ = ["AsyncRateLimiter", "RateLimiter"]


class _Face:
    """What both faces are made of, and their slow paths."""

    def __init__(
        self,
        buckets: Buckets | AsyncBuckets,
        *,
        name: str,
        resource: str | None = None,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> None:
        self.name = name
        self.rate: Rate = buckets.rate
        self._over = f"rate limiter {name!r}: over {self.rate}; retry in"  # made once: a refusal must be cheap
        self.buckets = buckets
        self._scale: Scale = buckets.scale
        self._requests = Requests(name, resource or name)
        self.acquired = self._requests.acquired
        self._outage = Outage(name, self.rate, on_store_failure, local_share, self._requests)
        utilization = getattr(buckets, "utilization", None)
        if utilization is not None:
            gauge(
                "rate_limiter.utilization",
                "1",
                utilization,
                resource=resource or name,
                policy_name=name,
                policy_type="rate_limiter",
            )

    def check(self, key: str, cost: int) -> tuple[str, int]:
        """Return key and cost as the buckets want them.

        Raises:
            Misuse: the cost is no whole number from 1 to the burst, so that the call could never succeed, or
                the key is no text.
        """
        given: Any = key  # callers may be untyped
        if not isinstance(given, str):
            raise Misuse(f"rate limiter {self.name!r}: a key must be a str, got {type(given).__name__}")
        if type(cost) is not int or not 1 <= cost <= self.rate.capacity:
            raise Misuse(
                f"rate limiter {self.name!r}: cost must be a whole number from 1 to the burst of "
                f"{self.rate.capacity}, got {cost!r}; a larger cost can never be granted: raise the burst"
            )
        return str.__str__(given), cost

    def refuse(self, balance: int) -> RateLimited:
        """Count a refusal and return the error for it."""
        self._requests.limited.n += 1
        return self._refusal(balance, self._scale)

    def _refusal(self, balance: int, scale: Scale) -> RateLimited:
        seconds = wait(balance, scale)
        why = self._over if balance else f"rate limiter {self.name!r}: no room for another key; retry in"
        return RateLimited(f"{why} {seconds:.3g} s", retry_after=seconds)

    def survive(self, key: str, cost: int, failure: StoreFailed) -> None:
        """Answer a call that the store did not answer: return to let it through.

        Raises:
            Unavailable: `on_store_failure` is `closed`.
            RateLimited: it is `local`, and the local share is used up.
        """
        balance, _ = self._outage.answer(key, cost, failure)
        if balance <= 0:
            assert self._outage.local is not None
            raise self._refusal(balance, self._outage.local.scale) from failure

    def _decide(self, balance: int, cost: int) -> Decision:
        decision = decide(balance, self.rate, self._scale, cost)
        if decision.allowed:
            self.acquired.n += 1
        else:
            self._requests.limited.n += 1
        return decision

    def _decide_alone(self, key: str, cost: int, failure: StoreFailed) -> Decision:
        """Return the decision that the failure mode makes."""
        try:
            balance, mode = self._outage.answer(key, cost, failure)
        except Unavailable:
            return self._unanswered(allowed=False, result="store_error_closed")
        local = self._outage.local
        if mode == "open" or local is None:
            return self._unanswered(allowed=True, result="store_error_open")
        made = decide(balance, local.rate, local.scale, min(cost, local.rate.capacity))
        return Decision(
            allowed=made.allowed,
            retry_after=made.retry_after,
            remaining=made.remaining,
            reset_after=made.reset_after,
            limit=made.limit,
            result="store_error_local",
        )

    def _unanswered(self, *, allowed: bool, result: Result) -> Decision:
        return Decision(allowed=allowed, retry_after=0.0, remaining=0, reset_after=0.0, limit=self.rate, result=result)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {str(self.rate)!r})"


class RateLimiter(_Face):
    """An exact token bucket a key, for blocking code.

    Guarantees: over any stretch of time the cost admitted for a key is at most burst + rate x time, and a
    caller that keeps asking gets that much, to the token (RL-1, RL-2); on Redis that holds over all processes
    that use the same namespace and name, on the server's clock (RL-3, RL-4). Not guaranteed: an order among
    callers, and the limit itself while the store is down, where `on_store_failure` decides.

        limiter = RateLimiter.connect("redis://localhost/0", rate="100/second;burst=200", name="purchase")
        limiter.acquire(f"household:{household_id}")
    """

    def __init__(
        self,
        buckets: Buckets,
        *,
        name: str,
        resource: str | None = None,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> None:
        super().__init__(
            buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share
        )
        self.charge = buckets.charger() if isinstance(buckets, MemoryBuckets) else buckets.charge

    @classmethod
    def connect(
        cls,
        store: object = "memory://",
        *,
        rate: object,
        name: str,
        namespace: str = "default",
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
        budget: float = 0.05,
        time: Literal["server", "client"] = "server",
        max_keys: int = 1_000_000,
        resource: str | None = None,
    ) -> RateLimiter:
        """Return a limiter on a store. Nothing is sent before the first call.

        Args:
            store: `memory://`, `redis://...`, `rediss://...`, `unix://...`, or a redis-py client of either make,
                whose settings are used and which itself is left alone.
            rate: `"100/minute"`, `"7 per 60 second;burst=20"`, a `Rate`, or an item of the `limits` package.
            name: of the limiter: shared by all that charge the same buckets.
            namespace: keeps applications on one server apart.
            on_store_failure: `open`, `closed` or `local`, for calls that the store does not answer in time.
            local_share: for `local`: the share of the rate that this process may use, such as 1/workers.
            budget: seconds that a call to the store may take in all.
            time: `client` where a managed Redis refuses `TIME` to scripts. It trusts the callers' wall clocks.
            max_keys: for `memory://`: how many buckets may be less than full.
            resource: for telemetry, where the limiter belongs to something named otherwise.

        Raises:
            Misuse: any of these is wrong, or a limiter of that name has another rate in this process.
            MissingExtra: the store needs a package that is not installed.
        """
        buckets = blocking_buckets(
            store, rate=Rate.of(rate), name=name, namespace=namespace, budget=budget, time=time, max_keys=max_keys
        )
        return cls(buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share)

    def acquire(self, key: str = "", cost: int = 1) -> None:
        """Take tokens or refuse; never waits for tokens.

        Args:
            key: whose bucket: `household:7`; one bucket for all where it is left out.
            cost: tokens, at most the burst.

        Raises:
            RateLimited: they are not there; `retry_after` says in how many seconds they will be.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, or the key is no text.
        """
        if key.__class__ is not str or cost.__class__ is not int or cost != 1:
            key, cost = self.check(key, cost)
        try:
            balance = self.charge(key, cost)
        except StoreFailed as failure:
            return self.survive(key, cost, failure)
        if balance > 0:
            self.acquired.n += 1
            return None
        raise self.refuse(balance)

    def try_acquire(self, key: str = "", cost: int = 1) -> Decision:
        """Take tokens if they are there, and say how the bucket stands; the answer is true if they were taken.

        Raises:
            Misuse: the cost can never be granted, or the key is no text.
        """
        key, cost = self.check(key, cost)
        try:
            balance = self.charge(key, cost)
        except StoreFailed as failure:
            return self._decide_alone(key, cost, failure)
        return self._decide(balance, cost)

    def close(self) -> None:
        """Close connections at rest; the limiter may be used again."""
        store = getattr(self.buckets, "store", None)
        if store is not None:
            store.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRateLimiter(_Face):
    """An exact token bucket a key, for asyncio; the same guarantees as `RateLimiter`.

    On Redis the tasks of a loop share one connection and its round trips. One limiter may be used from any
    number of loops.
    """

    def __init__(
        self,
        buckets: AsyncBuckets | MemoryBuckets,
        *,
        name: str,
        resource: str | None = None,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> None:
        super().__init__(
            buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share
        )
        self.charge_at_once = buckets.charger() if isinstance(buckets, MemoryBuckets) else None
        self._remote = None if isinstance(buckets, MemoryBuckets) else buckets

    @classmethod
    def connect(
        cls,
        store: object = "memory://",
        *,
        rate: object,
        name: str,
        namespace: str = "default",
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
        budget: float = 0.05,
        time: Literal["server", "client"] = "server",
        max_keys: int = 1_000_000,
        resource: str | None = None,
    ) -> AsyncRateLimiter:
        """Return a limiter on a store. Nothing is sent before the first call.

        Arguments and errors are those of `RateLimiter.connect`.
        """
        buckets = async_buckets(
            store, rate=Rate.of(rate), name=name, namespace=namespace, budget=budget, time=time, max_keys=max_keys
        )
        return cls(buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share)

    async def charge(self, key: str, cost: int) -> int:
        """Take tokens and return the balance, as the port `AsyncBuckets` says."""
        if self._remote is None:
            assert self.charge_at_once is not None
            return self.charge_at_once(key, cost)
        return await self._remote.charge(key, cost)

    async def acquire(self, key: str = "", cost: int = 1) -> None:
        """Take tokens or refuse; never waits for tokens.

        Args:
            key: whose bucket: `household:7`; one bucket for all where it is left out.
            cost: tokens, at most the burst.

        Raises:
            RateLimited: they are not there; `retry_after` says in how many seconds they will be.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, or the key is no text.
        """
        if key.__class__ is not str or cost.__class__ is not int or cost != 1:
            key, cost = self.check(key, cost)
        try:
            at_once = self.charge_at_once
            balance = await self.charge(key, cost) if at_once is None else at_once(key, cost)
        except StoreFailed as failure:
            return self.survive(key, cost, failure)
        if balance > 0:
            self.acquired.n += 1
            return None
        raise self.refuse(balance)

    async def try_acquire(self, key: str = "", cost: int = 1) -> Decision:
        """Take tokens if they are there, and say how the bucket stands; the answer is true if they were taken.

        Raises:
            Misuse: the cost can never be granted, or the key is no text.
        """
        key, cost = self.check(key, cost)
        try:
            balance = await self.charge(key, cost)
        except StoreFailed as failure:
            return self._decide_alone(key, cost, failure)
        return self._decide(balance, cost)

    async def close(self) -> None:
        """Close the running loop's connection; the limiter may be used again."""
        store = getattr(self.buckets, "store", None)
        if store is not None:
            await store.aclose()

    async def __aenter__(self) -> AsyncRateLimiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
