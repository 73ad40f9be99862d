"""Token buckets on Redis, both makes: the arithmetic is in the scripts, and this side only splits and joins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from backstay.blocking import drive
from backstay.errors import Misuse
from backstay.telemetry import Histogram, gauge

from ....timeout.errors import DeadlineExceeded
from ...backend import StoreFailed, Taken, Told
from ...carry import Carry
from ...rate import Rate, Scale
from ...telemetry import store_duration
from .steps import give, take_all
from .store import Nearer, Store
from .terms import OTHER_RATE, Terms
from .wire import Script

__all__ = ["AsyncRedisBuckets", "RedisBuckets"]


class _Shared:
    """What both makes have: terms, which are replaced as a whole, and what is measured."""

    def __init__(
        self,
        store: Store,
        rate: Rate,
        *,
        namespace: str,
        name: str,
        time_source: str = "server",
        rule: str | None = None,
    ) -> None:
        if time_source not in {"server", "client"}:
            raise Misuse(f"time must be 'server' or 'client', got {time_source!r}")
        self.store = store
        # Each bucket has a slot of its own; those of a group that is charged in one step share that of its name.
        prefix = (
            f"backstay:{namespace}:limit:1:{{{name}:"
            if rule is None
            else (f"backstay:{namespace}:limits:1:{{{name}}}:{rule}:")
        )
        self.terms = Terms(rate, prefix=prefix, suffix="}" if rule is None else "", lends=time_source == "client")
        self.last: tuple[int, int] = 0, 1
        self.skew = 0.0
        self.took = store_duration(name, name, "redis")
        self._name = name
        self._failures: dict[str, Histogram] = {}
        if self.terms.lends:
            gauge("rate_limiter.clock.skew", "s", self._read_skew, resource=name, policy_name=name)

    @property
    def identity(self) -> object:
        """What is the same for all that charge the same buckets."""
        return self.store.target.identity, self.terms.prefix

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        return self.terms.rate

    @property
    def scale(self) -> Scale:
        """The unit of balances."""
        return self.terms.scale

    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        """Go over to another rate. A bucket changes at its next call, as it stands then; until then it fills as before.

        Other processes go on with theirs until they are told as well, and a bucket then changes with each of their
        calls.
        """
        if rate != self.terms.rate:
            self.terms = self.terms.of(rate, carry)

    def balance(self, terms: Terms, answer: list[Any]) -> int:
        """Return the balance that an answer stands for; a refused call learns of which rate."""
        balance = terms.balance(answer)
        if terms.lends:
            self.skew = (answer[3] - time.time_ns() // 1000) / 1_000_000
        if balance > 0:
            self.last = balance, terms.scale.window
            return balance
        return Told.of(balance, terms.rate, terms.scale)

    def noted(self, taken: Taken) -> Taken:
        """Note how empty a bucket is that was charged."""
        if taken.balance > 0:
            self.last = taken.balance, taken.scale.window
        return taken

    def ended(self, deadline: float) -> None:
        """Note a call that was answered."""
        store = self.store
        if store.gate.troubled:
            store.settle(None)
        self.took.record(store.since(deadline))

    def failed(self, failure: StoreFailed, deadline: float) -> None:
        """Note a call that got no answer.

        Raises:
            DeadlineExceeded: the work in hand is out of time, which no failure mode can mend. It says nothing of the
                store, unless that had half its budget.
        """
        store = self.store
        took = store.since(deadline)
        hurried = isinstance(deadline, Nearer) and (failure.reason == "timeout" or store.clock() >= deadline)
        if not hurried or 2 * took >= store.budget:
            store.settle(failure)
        if failure.reason not in self._failures:
            self._failures[failure.reason] = store_duration(self._name, self._name, "redis", failure.reason)
        self._failures[failure.reason].record(took)
        if hurried:
            raise DeadlineExceeded(
                f"rate limiter {self._name!r}: the deadline passed before the store answered; nothing was called, "
                "and nothing will be charged unless it was already"
            ) from failure

    def _read_skew(self) -> float:
        return self.skew

    def utilization(self) -> float:
        """Return how empty the bucket that was charged last is, 0 to 1."""
        balance, window = self.last
        return balance / window


class RedisBuckets(_Shared):
    """Buckets of one limiter on Redis, blocking make.

    Guarantees: exact on the server's clock under any number of processes (RL-1 to RL-4); one key a bucket
    with two integers and its rate, gone when it is full again (RL-5); at most the store's budget a call (RL-8).

    Args:
        store: the server.
        rate: of each bucket.
        namespace: keeps applications on one server apart.
        name: the limiter's.
        time_source: `server`, or `client` where the server refuses `TIME` to scripts.
        rule: of a group whose buckets are charged in one step, or None.
    """

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key` and return the balance (see `backend`)."""
        terms, store = self.terms, self.store
        deadline = store.enter()
        try:
            answer = store.ask(terms.body(key, cost), terms.moment_and_rate, deadline)
        except StoreFailed as failure:
            self.failed(failure, deadline)
            raise
        self.ended(deadline)
        if answer[0] == OTHER_RATE:
            taken = self.take(key, cost, 0.0)
            return Told.of(taken.balance, taken.rate, taken.scale)
        return self.balance(terms, answer)

    def take(self, key: str, cost: int, ahead: float) -> Taken:
        """Take tokens that are there within `ahead` seconds (see `backend.Reserving`)."""
        terms = self.terms
        answer = self.run(lambda deadline: take_all(self.ask, [(terms, key, cost)], ahead, deadline))
        return self.noted(answer[1][0])

    def give(self, key: str, cost: int, until: int) -> bool:
        """Give tokens back (see `backend.Reserving`)."""
        terms = self.terms
        return bool(self.run(lambda deadline: give(self.ask, terms, key, cost, until, deadline), heeding=False))

    async def ask(self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script) -> list[Any]:
        """Run a script in the calling thread."""
        return self.store.ask(body, borrowed, deadline, script)

    def run(self, step: Callable[[float], Any], *, heeding: bool = True) -> Any:
        """Run one step within the store's budget, and note how it ended; see `Store.enter`."""
        deadline = self.store.enter(heeding=heeding)
        try:
            result = drive(step(deadline))
        except StoreFailed as failure:
            self.failed(failure, deadline)
            raise
        self.ended(deadline)
        return result


class AsyncRedisBuckets(_Shared):
    """Buckets of one limiter on Redis, asyncio make: as `RedisBuckets`, and usable from any number of loops."""

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens from the bucket of `key` and return the balance (see `backend`)."""
        terms, store = self.terms, self.store
        deadline = store.enter()
        try:
            answer = await store.ask_async(terms.body(key, cost), terms.moment_and_rate, deadline)
        except StoreFailed as failure:
            self.failed(failure, deadline)
            raise
        self.ended(deadline)
        if answer[0] == OTHER_RATE:
            taken = await self.take(key, cost, 0.0)
            return Told.of(taken.balance, taken.rate, taken.scale)
        return self.balance(terms, answer)

    async def take(self, key: str, cost: int, ahead: float) -> Taken:
        """Take tokens, as `RedisBuckets.take` does."""
        terms = self.terms
        answer = await self.run(lambda deadline: take_all(self.ask, [(terms, key, cost)], ahead, deadline))
        return self.noted(answer[1][0])

    async def give(self, key: str, cost: int, until: int) -> bool:
        """Give tokens back, as `RedisBuckets.give` does."""
        terms = self.terms
        return bool(await self.run(lambda deadline: give(self.ask, terms, key, cost, until, deadline), heeding=False))

    async def ask(self, body: bytes, borrowed: Callable[[], bytes], deadline: float, script: Script) -> list[Any]:
        """Run a script over the running loop's lane."""
        return await self.store.ask_async(body, borrowed, deadline, script)

    async def run(self, step: Callable[[float], Any], *, heeding: bool = True) -> Any:
        """Run one step within the store's budget, and note how it ended; see `Store.enter`."""
        deadline = self.store.enter(heeding=heeding)
        try:
            result = await step(deadline)
        except StoreFailed as failure:
            self.failed(failure, deadline)
            raise
        self.ended(deadline)
        return result
