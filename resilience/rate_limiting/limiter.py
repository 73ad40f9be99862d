"""Rate limiters as services use them: `RateLimiter` for blocking code, `AsyncRateLimiter` for asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

from backstay.asynchronous import AsyncioRuntime
from backstay.blocking import BlockingRuntime, drive
from backstay.runtime import Runtime

from ..forks import Guard
from .backend import AsyncBuckets, Buckets, StoreFailed
from .backends.memory import MemoryBuckets
from .connect import Algorithm, async_buckets, blocking_buckets
from .decision import Decision
from .face import Face
from .failure import FailureMode
from .rate import Rate
from .reserved import AsyncReservation, Reservation
from .waiting import Waiting

__all__ = ["AsyncRateLimiter", "RateLimiter"]

_guard = Guard()
_THREADS, _ASYNCIO = BlockingRuntime(), AsyncioRuntime()


class RateLimiter(Face):
    """An exact token bucket a key, for blocking code.

    Guarantees: over any stretch of time the cost admitted for a key is at most burst + rate x time, and a
    caller that keeps asking gets that much, to the token (RL-1, RL-2); on Redis that holds over all processes
    that use the same namespace and name, on the server's clock (RL-3, RL-4). Callers that wait are served in the
    order in which they asked (RL-10). Not guaranteed: an order among those that do not wait, and the limit itself
    while the store is down, where `on_store_failure` decides.

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
        runtime: Runtime = _THREADS,
    ) -> None:
        super().__init__(
            buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share
        )
        self._runtime = runtime
        self._waiting: Waiting | None = None
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
        algorithm: Algorithm = "token-bucket",
        lease: int | None = None,
        announce: bool = False,
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
            algorithm: `token-bucket`, or `sliding-window`: never more than the rate's count in any period, and no
                burst on top. A window can neither wait, take back nor change its rate, and forgets a call up to a
                twentieth of the period late.
            lease: on Redis: take so many tokens at once and spend them without a round trip. Up to `lease` tokens a
                process are then spent late, or held back from the others; see the guide. Such a limiter can neither
                wait nor change its rate.
            announce: tell `http.collecting()` of every decision, for `RateLimit` fields on allowed answers.

        Raises:
            Misuse: any of these is wrong, or a limiter of that name has another rate in this process.
            MissingExtra: the store needs a package that is not installed.
        """
        buckets = blocking_buckets(
            store, rate=Rate.of(rate), name=name, namespace=namespace, budget=budget, time=time, max_keys=max_keys,
            algorithm=algorithm, lease=lease, announce=announce,
        )  # fmt: skip
        return cls(buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share)

    def acquire(self, key: str = "", cost: int = 1, *, wait: float = 0.0) -> None:
        """Take tokens or refuse.

        Args:
            key: whose bucket: `household:7`; one bucket for all where it is left out.
            cost: tokens, at most the burst.
            wait: seconds that the tokens may be away. Callers that wait are served in the order in which they asked;
                one whose tokens would come too late is refused at once. A call that is interrupted while it waits
                gives its tokens back.

        Raises:
            RateLimited: they are not there; `retry_after` says in how many seconds they will be.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, or the key is no text.
        """
        if wait:
            return drive(self._line().acquire(key, cost, wait))
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
        rated = self.rated()
        try:
            balance = self.charge(key, cost)
        except StoreFailed as failure:
            return self.decision_alone(key, cost, failure)
        return self.decision(balance, cost, rated)

    def reserve(self, key: str = "", cost: int = 1, *, max_wait: float) -> Reservation:
        """Take tokens that are there within `max_wait` seconds, and say when.

        They are promised: whoever asks later gets his later. `cancel()` before that moment is as if they had never
        been asked for.

        Args:
            key: whose bucket.
            cost: tokens, at most the burst.
            max_wait: seconds; 0 for tokens that are there now.

        Raises:
            RateLimited: they would come later; nothing was taken.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, the key is no text, or this algorithm cannot reserve.
        """
        line = self._line()
        ticket = drive(line.reserve(key, cost, max_wait))
        if ticket.taken is not None:
            self.admitted()
        return Reservation(line, ticket, self._runtime)

    def refund(self, key: str = "", cost: int = 1) -> bool:
        """Give tokens back that were taken and not used.

        The bucket becomes full at most, so that a refund which comes late gives nothing. Giving back more than was
        taken gives others that much more: keep count.

        Returns:
            Whether the bucket took any. False where it was full, or the store did not answer: then nothing was given
            back as far as is known.

        Raises:
            Misuse: the cost is above the burst, the key is no text, or this algorithm cannot take back.
        """
        return drive(self._line().refund(key, cost))

    def _line(self) -> Waiting:
        with _guard.lock:  # one line, or those in two of them would not move forward together
            if self._waiting is None:
                self._waiting = Waiting(self, self._runtime)
            return self._waiting

    def close(self) -> None:
        """Give back what was leased, and close connections at rest; the limiter may be used again."""
        give_back = getattr(self.buckets, "give_back", None)
        if give_back is not None:
            give_back()
        store = getattr(self.buckets, "store", None)
        if store is not None:
            store.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRateLimiter(Face):
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
        runtime: Runtime = _ASYNCIO,
    ) -> None:
        super().__init__(
            buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share
        )
        self._runtime = runtime
        self._waiting: Waiting | None = None
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
        algorithm: Algorithm = "token-bucket",
        lease: int | None = None,
        announce: bool = False,
    ) -> AsyncRateLimiter:
        """Return a limiter on a store. Nothing is sent before the first call.

        Arguments and errors are those of `RateLimiter.connect`.
        """
        buckets = async_buckets(
            store, rate=Rate.of(rate), name=name, namespace=namespace, budget=budget, time=time, max_keys=max_keys,
            algorithm=algorithm, lease=lease, announce=announce,
        )  # fmt: skip
        return cls(buckets, name=name, resource=resource, on_store_failure=on_store_failure, local_share=local_share)

    async def charge(self, key: str, cost: int) -> int:
        """Take tokens and return the balance, as the port `AsyncBuckets` says."""
        if self._remote is None:
            assert self.charge_at_once is not None
            return self.charge_at_once(key, cost)
        return await self._remote.charge(key, cost)

    async def acquire(self, key: str = "", cost: int = 1, *, wait: float = 0.0) -> None:
        """Take tokens or refuse.

        Args:
            key: whose bucket: `household:7`; one bucket for all where it is left out.
            cost: tokens, at most the burst.
            wait: seconds that the tokens may be away. Callers that wait are served in the order in which they asked;
                one whose tokens would come too late is refused at once. A call that is interrupted while it waits
                gives its tokens back.

        Raises:
            RateLimited: they are not there; `retry_after` says in how many seconds they will be.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, or the key is no text.
        """
        if wait:
            return await self._line().acquire(key, cost, wait)
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
        rated = self.rated()
        try:
            balance = await self.charge(key, cost)
        except StoreFailed as failure:
            return self.decision_alone(key, cost, failure)
        return self.decision(balance, cost, rated)

    async def reserve(self, key: str = "", cost: int = 1, *, max_wait: float) -> AsyncReservation:
        """Take tokens that are there within `max_wait` seconds, and say when.

        They are promised: whoever asks later gets his later. `cancel()` before that moment is as if they had never
        been asked for.

        Args:
            key: whose bucket.
            cost: tokens, at most the burst.
            max_wait: seconds; 0 for tokens that are there now.

        Raises:
            RateLimited: they would come later; nothing was taken.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: the cost can never be granted, the key is no text, or this algorithm cannot reserve.
        """
        line = self._line()
        ticket = await line.reserve(key, cost, max_wait)
        if ticket.taken is not None:
            self.admitted()
        return AsyncReservation(line, ticket, self._runtime)

    async def refund(self, key: str = "", cost: int = 1) -> bool:
        """Give tokens back that were taken and not used.

        The bucket becomes full at most, so that a refund which comes late gives nothing. Giving back more than was
        taken gives others that much more: keep count.

        Returns:
            Whether the bucket took any. False where it was full, or the store did not answer: then nothing was given
            back as far as is known.

        Raises:
            Misuse: the cost is above the burst, the key is no text, or this algorithm cannot take back.
        """
        return await self._line().refund(key, cost)

    def _line(self) -> Waiting:
        with _guard.lock:  # one line, or those in two of them would not move forward together
            if self._waiting is None:
                self._waiting = Waiting(self, self._runtime)
            return self._waiting

    async def close(self) -> None:
        """Give back what was leased, and close the running loop's connection; the limiter may be used again."""
        give_back = getattr(self.buckets, "give_back", None)
        if give_back is not None:
            await give_back()
        store = getattr(self.buckets, "store", None)
        if store is not None:
            await store.aclose()

    async def __aenter__(self) -> AsyncRateLimiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
