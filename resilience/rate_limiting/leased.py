"""Tokens taken by the hundred and spent without a round trip: less exact by a stated bound, and opt-in.

A process that runs out of tokens of a key takes a *lease* of `lease` tokens in one step, and serves further calls from
it in memory. What that costs, and no more (N = `lease`, P = processes, W = seconds from empty to full):

- **late**: a token may be spent later than it was taken, so over any stretch the cost admitted is at most
  burst + rate x time + N x P; no token is spent more than W after it was taken;
- **stranded**: at any moment at most N x P tokens of a key are taken and not spent. What is not spent within W is given
  back with the next call, and all of it when the limiter is closed. A process that is killed, and a reply that is
  lost, strand a lease for good; it comes back at the rate, as all tokens do.

Near the limit leases shrink, by halves, down to what a call needs; a refused call therefore means that the bucket
has not enough for it, and not that it could not fill a lease. While one caller fetches a lease, others of the process
that find none pay for themselves alone, so that the process never holds two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import Any

from backstay.clock import Clock, monotonic
from backstay.errors import Misuse

from ..forks import renew_in_child
from .backend import StoreFailed
from .rate import Rate, Scale

__all__ = ["AsyncLeasedBuckets", "LeasedBuckets", "Leases"]

_MOST_KEYS = 10_000
_LOOKS = 16


class _Stock:
    """What this process holds of one key."""

    __slots__ = ("balance", "fetching", "left", "size", "until")

    def __init__(self, size: int) -> None:
        self.left = 0  # tokens
        self.balance = 0  # of the bucket, when the lease was taken
        self.until = 0.0  # the moment after which the tokens are not spent any more
        self.size = size  # of the next lease
        self.fetching = False


class Fetch:
    """A lease that is being fetched for a call that needs `missing` tokens more than were there."""

    __slots__ = ("_held", "_leases", "_stock", "missing", "over", "want")

    def __init__(self, leases: Leases, stock: _Stock, held: int, missing: int, over: list[tuple[str, int]]) -> None:
        self._leases = leases
        self.over = over  # tokens, by key, whose time is over: to be given back
        self._stock = stock
        self._held = held
        self.missing = missing
        self.want = max(missing, stock.size)

    def end(self, got: int, balance: int = 0, started: float = 0.0) -> None:
        """Put into stock what is left over, or what was there if `got` is 0."""
        stock, spare = self._stock, got - self.missing if got else self._held
        with self._leases.lock:
            stock.fetching = False
            stock.left += spare
            if got:
                stock.balance = balance
                stock.until = started + self._leases.longest
                if got == self.want == stock.size:
                    stock.size = min(2 * stock.size, self._leases.lease)

    def shrink(self) -> None:
        """Ask for half as much the next time: the bucket could not fill this lease."""
        self._stock.size = max(1, self.want // 2)


class Leases:
    """The tokens that one process holds, a stock a key.

    Args:
        rate: of the buckets.
        lease: tokens to take at once, from 2 to the burst.
        clock: monotonic seconds.
        max_keys: for how many keys tokens are held; callers of further ones pay call by call.

    Raises:
        Misuse: `lease` is out of range.
    """

    def __init__(self, rate: Rate, lease: int, *, clock: Clock = monotonic, max_keys: int = _MOST_KEYS) -> None:
        if type(lease) is not int or not 2 <= lease <= rate.capacity:
            raise Misuse(
                f"lease must be a whole number from 2 to the burst of {rate.capacity}, got {lease!r}; a larger one "
                "could never be taken"
            )
        self.lease = lease
        self.clock = clock
        self.longest = rate.local.window / rate.local.second
        self.lock = threading.Lock()
        self.stocks: dict[str, _Stock] = {}
        self._most = max_keys
        renew_in_child(self)

    def spend(self, key: str, cost: int, token: int) -> int:
        """Take `cost` tokens from stock, and return the balance of the bucket as far as it is known; 0 if not there."""
        now = self.clock()
        with self.lock:
            stocks = self.stocks
            if key not in stocks:
                return 0
            stock = stocks[key]
            left = stock.left - cost
            if left < 0 or now > stock.until:
                return 0
            stock.left = left
            balance = stock.balance - left * token
        return balance if balance > 0 else 1

    def fetch(self, key: str, cost: int) -> Fetch | None:
        """Begin to fetch a lease for a call that stock did not serve; None where it has to pay alone."""
        now = self.clock()
        with self.lock:
            stock = self.stocks.get(key)
            over: list[tuple[str, int]] = []
            if stock is None:
                if len(self.stocks) >= self._most:
                    over = self._forget(now)
                    if len(self.stocks) >= self._most:
                        return None
                stock = self.stocks[key] = _Stock(self.lease)
            elif stock.fetching or (stock.left >= cost and now <= stock.until):
                return None  # the second: another thread has just put its lease into stock
            if stock.left and now > stock.until:
                # They were not needed in all the time in which a bucket fills: take no more than were.
                stock.size = max(1, stock.size - stock.left)
                over.append((key, stock.left))
                stock.left = 0
            held, stock.left, stock.fetching = stock.left, 0, True
            return Fetch(self, stock, held, cost - held, over)

    def _forget(self, now: float) -> list[tuple[str, int]]:
        """Forget stocks among the oldest that are empty or whose time is over; return what was in the latter."""
        over: list[tuple[str, int]] = []
        for key in list(islice(self.stocks, _LOOKS)):
            stock = self.stocks.pop(key)
            if stock.fetching or (stock.left and now <= stock.until):
                self.stocks[key] = stock
            elif stock.left:
                over.append((key, stock.left))
        return over

    def surrender(self) -> list[tuple[str, int]]:
        """Empty all stocks and return what was in them."""
        with self.lock:
            held = [(key, stock.left) for key, stock in self.stocks.items() if stock.left]
            for stock in self.stocks.values():
                stock.left = 0
        return held

    def held(self) -> int:
        """Return how many tokens are in stock."""
        with self.lock:
            return sum(stock.left for stock in self.stocks.values())

    def renew(self) -> None:
        """Leave the parent's tokens to the parent, in a forked child."""
        self.lock = threading.Lock()
        self.stocks = {}


class _Leased:
    """What both makes have."""

    def __init__(self, inner: Any, lease: int, clock: Clock) -> None:
        self.inner = inner
        self.leases = Leases(inner.rate, lease, clock=clock)

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

    @property
    def store(self) -> Any:
        """Where the buckets are."""
        return self.inner.store

    @property
    def utilization(self) -> Callable[[], float]:
        """Reads how empty the bucket is that was charged last."""
        read: Callable[[], float] = self.inner.utilization
        return read


class LeasedBuckets(_Leased):
    """Buckets of the blocking make, charged by leases; see the top for what is guaranteed.

    Args:
        inner: the buckets, on a store that costs a round trip.
        lease: tokens to take at once.
        clock: monotonic seconds.
    """

    def __init__(self, inner: Any, lease: int, *, clock: Clock = monotonic) -> None:
        super().__init__(inner, lease, clock)

    def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, from stock if they are there, and return the balance."""
        balance: int = self.leases.spend(key, cost, self.scale.token)
        if balance:
            return balance
        fetch = self.leases.fetch(key, cost)
        if fetch is None:
            alone: int = self.inner.charge(key, cost)
            return alone
        got, started = 0, self.leases.clock()
        try:
            balance = self.inner.charge(key, fetch.want)
            if balance > 0:
                got = fetch.want
            elif fetch.want > fetch.missing:
                fetch.shrink()
                balance = self.inner.charge(key, fetch.missing)
                got = fetch.missing if balance > 0 else 0
        finally:
            fetch.end(got, balance, started)
        if fetch.over:
            self._give(fetch.over)
        return balance

    def give_back(self) -> None:
        """Give back what was not spent, as far as the store answers."""
        self._give(self.leases.surrender())

    def _give(self, held: list[tuple[str, int]]) -> None:
        try:
            for key, tokens in held:
                self.inner.give(key, tokens, 0)
        except StoreFailed:
            return  # they come back at the rate, as all tokens do


class AsyncLeasedBuckets(_Leased):
    """Buckets of the asyncio make, charged by leases; as `LeasedBuckets`."""

    def __init__(self, inner: Any, lease: int, *, clock: Clock = monotonic) -> None:
        super().__init__(inner, lease, clock)

    async def charge(self, key: str, cost: int) -> int:
        """Take `cost` tokens, from stock if they are there, and return the balance."""
        balance: int = self.leases.spend(key, cost, self.scale.token)
        if balance:
            return balance
        fetch = self.leases.fetch(key, cost)
        if fetch is None:
            alone: int = await self.inner.charge(key, cost)
            return alone
        got, started = 0, self.leases.clock()
        try:
            balance = await self.inner.charge(key, fetch.want)
            if balance > 0:
                got = fetch.want
            elif fetch.want > fetch.missing:
                fetch.shrink()
                balance = await self.inner.charge(key, fetch.missing)
                got = fetch.missing if balance > 0 else 0
        finally:
            fetch.end(got, balance, started)
        if fetch.over:
            await self._give(fetch.over)
        return balance

    async def give_back(self) -> None:
        """Give back what was not spent, as far as the store answers."""
        await self._give(self.leases.surrender())

    async def _give(self, held: list[tuple[str, int]]) -> None:
        try:
            for key, tokens in held:
                await self.inner.give(key, tokens, 0)
        except StoreFailed:
            return  # they come back at the rate, as all tokens do
