"""Several rules that are charged together, all or none: `JointRateLimiter` and its asyncio twin (RL-6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .backend import StoreFailed, Taken
from .backends.memory_steps import take_all
from .failure import FailureMode
from .jointly import JointDecision, Jointly
from .limiter import AsyncRateLimiter, RateLimiter
from .rules import announced_in, joined, made

__all__ = ["AsyncJointRateLimiter", "JointRateLimiter"]


class JointRateLimiter(Jointly):
    """Rules that a call must pass together, for blocking code: every bucket is charged, or none is.

    Guarantees: one exchange with Redis however many rules; a call that one rule refuses takes nothing from the others,
    so nobody who is over his own limit uses up one that all share; each bucket is exact as a `RateLimiter` is. In a
    Cluster all buckets of a group are on one server, by a hash tag of its name.

        limits = JointRateLimiter.connect("redis://localhost/0", rules={"app": "100/minute", "user": "1/minute"},
                                          name="api")
        limits.acquire({"app": "", "user": f"user:{user_id}"})
    """

    @classmethod
    def connect(
        cls,
        store: object = "memory://",
        *,
        rules: Mapping[str, object],
        name: str,
        namespace: str = "default",
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
        budget: float = 0.05,
        time: Literal["server", "client"] = "server",
        max_keys: int = 1_000_000,
        resource: str | None = None,
        announce: bool = False,
    ) -> JointRateLimiter:
        """Return rules on a store. Nothing is sent before the first call.

        Args:
            store: as for `RateLimiter.connect`, and so are all that are not named here.
            rules: names and rates.
            name: of the group: shared by all that charge the same buckets.
            namespace: see there.
            on_store_failure: see there.
            local_share: see there.
            budget: see there.
            time: see there.
            max_keys: see there; for each rule.
            resource: see there.
            announce: see there; each rule under `name.rule`.

        Raises:
            Misuse: any of these is wrong.
        """
        buckets = made(store, rules, name, namespace, budget, time, max_keys, asynchronous=False)
        names = {rule: f"{name}.{rule}" for rule in rules} if announce else None
        return cls(buckets, name, resource, on_store_failure, local_share, names)

    @classmethod
    def of(
        cls,
        rules: Mapping[str, RateLimiter],
        *,
        name: str,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> JointRateLimiter:
        """Join limiters that exist, over the same store: their buckets stay theirs, and are charged together here.

        Those that announce are announced here as well, under their own names.

        Raises:
            Misuse: they are not on one store, one is there twice, or they are on a Cluster, where buckets of different
                limiters are on different servers: use `connect`.
        """
        return cls(joined(rules, name), name, None, on_store_failure, local_share, announced_in(rules))

    def acquire(self, keys: Mapping[str, str | None], cost: int | Mapping[str, int] = 1) -> None:
        """Take tokens from all buckets, or refuse.

        Args:
            keys: for each rule whose bucket: `{"app": "", "user": "user:7"}`; None leaves the rule out of this call.
            cost: tokens for each rule, or one number for all.

        Raises:
            RateLimited: a rule has too few; `rule` names the one that has longest, `retry_after` how long.
            Unavailable: the store did not answer and `on_store_failure` is `closed`.
            Misuse: a rule is missing or unknown, or a cost can never be granted.
        """
        self.demand(self.try_acquire(keys, cost))

    def try_acquire(self, keys: Mapping[str, str | None], cost: int | Mapping[str, int] = 1) -> JointDecision:
        """Take tokens from all buckets if all have them, and say how each stands; true if they were taken.

        Raises:
            Misuse: a rule is missing or unknown, or a cost can never be granted.
        """
        steps = self.steps(keys, cost)
        try:
            taken = self._take(steps)
        except StoreFailed as failure:
            return self.alone(steps, failure)
        return self.told(steps, taken)

    def _take(self, steps: list[tuple[str, str, int]]) -> list[Taken]:
        if self.in_memory:
            return take_all([(self.buckets[rule], key, cost) for rule, key, cost in steps], 0.0)[1]
        from .backends.redis.steps import take_all as take_all_remotely

        first: Any = self.buckets[steps[0][0]]
        asked = [(self.buckets[rule].terms, key, cost) for rule, key, cost in steps]

        def step(deadline: float) -> Any:
            return take_all_remotely(first.ask, asked, 0.0, deadline)

        return self.noted(steps, *first.run(step))


class AsyncJointRateLimiter(Jointly):
    """Rules that a call must pass together, for asyncio; the same guarantees as `JointRateLimiter`."""

    @classmethod
    def connect(
        cls,
        store: object = "memory://",
        *,
        rules: Mapping[str, object],
        name: str,
        namespace: str = "default",
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
        budget: float = 0.05,
        time: Literal["server", "client"] = "server",
        max_keys: int = 1_000_000,
        resource: str | None = None,
        announce: bool = False,
    ) -> AsyncJointRateLimiter:
        """Return rules on a store. Nothing is sent before the first call.

        Arguments and errors are those of `JointRateLimiter.connect`.
        """
        buckets = made(store, rules, name, namespace, budget, time, max_keys, asynchronous=True)
        names = {rule: f"{name}.{rule}" for rule in rules} if announce else None
        return cls(buckets, name, resource, on_store_failure, local_share, names)

    @classmethod
    def of(
        cls,
        rules: Mapping[str, AsyncRateLimiter],
        *,
        name: str,
        on_store_failure: FailureMode = "open",
        local_share: float = 1.0,
    ) -> AsyncJointRateLimiter:
        """Join limiters that exist, as `JointRateLimiter.of` does."""
        return cls(joined(rules, name), name, None, on_store_failure, local_share, announced_in(rules))

    async def acquire(self, keys: Mapping[str, str | None], cost: int | Mapping[str, int] = 1) -> None:
        """Take tokens from all buckets, or refuse, as `JointRateLimiter.acquire` does."""
        self.demand(await self.try_acquire(keys, cost))

    async def try_acquire(self, keys: Mapping[str, str | None], cost: int | Mapping[str, int] = 1) -> JointDecision:
        """Take tokens from all buckets if all have them, as `JointRateLimiter.try_acquire` does."""
        steps = self.steps(keys, cost)
        try:
            taken = await self._take(steps)
        except StoreFailed as failure:
            return self.alone(steps, failure)
        return self.told(steps, taken)

    async def _take(self, steps: list[tuple[str, str, int]]) -> list[Taken]:
        if self.in_memory:
            return take_all([(self.buckets[rule], key, cost) for rule, key, cost in steps], 0.0)[1]
        from .backends.redis.steps import take_all as take_all_remotely

        first: Any = self.buckets[steps[0][0]]
        asked = [(self.buckets[rule].terms, key, cost) for rule, key, cost in steps]

        def step(deadline: float) -> Any:
            return take_all_remotely(first.ask, asked, 0.0, deadline)

        return self.noted(steps, *await first.run(step))
