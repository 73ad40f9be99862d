"""What both faces of the limiter are made of: counters, checks, and everything that is not on the hot path."""

from __future__ import annotations

from typing import Any

from backstay.errors import Misuse, RateLimited, Unavailable
from backstay.telemetry import gauge

from .backend import AsyncBuckets, AsyncReserving, Buckets, Reserving, StoreFailed, Told
from .carry import Carry, carry_of
from .decision import Decision, Result, decide, wait
from .failure import FailureMode, Outage
from .rate import Rate, Scale
from .telemetry import Requests

__all__ = ["Face"]


class Face:
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
        self.resource = resource or name
        self.buckets = buckets
        rate, _ = self._plain = self.rated()
        self._over = rate, self._text(rate)
        self._requests = Requests(name, resource or name)
        self.acquired = self._requests.acquired
        self._outage = Outage(name, rate, on_store_failure, local_share, self._requests)
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

    @property
    def rate(self) -> Rate:
        """The rate of each bucket."""
        return self.buckets.rate

    @property
    def identity(self) -> object:
        """What is the same for all limiters that charge the same buckets."""
        return getattr(self.buckets, "identity", None) or id(self.buckets)

    def reconfigure(self, rate: object, carry: Carry = "proportional") -> None:
        """Go over to another rate while calls run; each call sees the old one or the new one (RL-11).

        In memory every bucket changes now. On Redis a bucket changes at its next call, as it stands then. Other
        processes keep their rate until they are told as well: while two rates are in use, a bucket is that of the
        call that comes, and holds at most the larger burst.

        Args:
            rate: as for `connect`.
            carry: `proportional` keeps the fill in parts of the burst, `absolute` the tokens, at most the new burst;
                `reset` makes every bucket full. A full bucket stays full. Promised moments stay as they are.

        Raises:
            Misuse: the rate or the way is wrong, or this algorithm cannot change; nothing was changed.
        """
        new, way = Rate.of(rate), carry_of(carry)
        buckets = self.buckets
        if not isinstance(buckets, Reserving | AsyncReserving):
            raise Misuse(f"rate limiter {self.name!r}: {type(buckets).__name__} cannot change its rate while it runs")
        buckets.reconfigure(new, way)
        self._outage.reconfigure(new, way)

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
        """Count a refusal and return the error for it.

        A balance that is not `Told` is of the rate from before any change, whatever the buckets have by now.
        """
        self._requests.limited.n += 1
        return self.refusal(balance, *self._plain)

    def refusal(self, balance: int, rate: Rate, scale: Scale) -> RateLimited:
        """Return the error for a refused call."""
        if isinstance(balance, Told):
            rate, scale = balance.rate, balance.scale
        of, text = self._over  # made once a rate: a refusal must be cheap
        if of is not rate:
            text = self._text(rate)
            self._over = rate, text
        seconds = wait(balance, scale)
        why = text if balance else f"rate limiter {self.name!r}: no room for another key; retry in"
        return RateLimited(f"{why} {seconds:.3g} s", retry_after=seconds)

    def admitted(self) -> None:
        """Count a call that came through after it had been willing to wait."""
        self.acquired.n += 1

    def cancelled(self) -> None:
        """Count a call that was cancelled while it waited."""
        self._requests.canceled.n += 1

    def _text(self, rate: Rate) -> str:
        return f"rate limiter {self.name!r}: over {rate}; retry in"

    def survive(self, key: str, cost: int, failure: StoreFailed) -> None:
        """Answer a call that the store did not answer: return to let it through.

        Raises:
            Unavailable: `on_store_failure` is `closed`.
            RateLimited: it is `local`, and the local share is used up.
        """
        balance, _ = self._outage.answer(key, cost, failure)
        if balance <= 0:
            assert self._outage.local is not None
            raise self.refusal(balance, self.rate, self._outage.local.scale) from failure

    def rated(self) -> tuple[Rate, Scale]:
        """Return the rate of the buckets and its scale."""
        while True:
            rate, scale = self.buckets.rate, self.buckets.scale
            if self.buckets.rate is rate:  # not changed in between
                return rate, scale

    def decision(self, balance: int, cost: int, rated: tuple[Rate, Scale]) -> Decision:
        """Count a call and return the decision that its balance stands for.

        Args:
            balance: what the buckets answered.
            cost: tokens that were asked for.
            rated: the rate from before the buckets were asked.
        """
        rate, scale = (balance.rate, balance.scale) if isinstance(balance, Told) else rated
        if balance > 0:
            self.acquired.n += 1
            if self.buckets.rate is not rate:  # changed meanwhile: by which rate the call came through is not known
                balance = scale.window
        else:
            self._requests.limited.n += 1
        own = getattr(self.buckets, "decide", None)  # another algorithm reads its balances itself
        if own is not None:
            made: Decision = own(balance, cost)
            return made
        return decide(balance, rate, scale, cost)

    def decision_alone(self, key: str, cost: int, failure: StoreFailed) -> Decision:
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
