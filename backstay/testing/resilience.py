"""The contracts of rate limiters and of switch sources: what every backend keeps, on both faces."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from backstay.errors import Misuse, RateLimited
from backstay.resilience import AsyncRateLimiter, Decision, Rate, RateLimiter
from backstay.resilience.switches import Source

__all__ = ["RateLimiterContract", "SwitchSourceContract"]


class RateLimiterContract:
    """Subclass it, and give `connect`, `run` and `advance`.

    Time must stand still but for `advance`, or pass so slowly that `slack` covers it.
    """

    slack = 0.0
    """Seconds that may pass by themselves during a test, at most 5."""

    def connect(self, rate: object, *, name: str = "limit", namespace: str = "contract") -> Any:
        """Return a limiter of the face under test; limiters of one test share a store that was empty at its start."""
        raise NotImplementedError

    def run(self, result: Any) -> Any:
        """Return what a method of the limiter gives: the value itself, or that of the awaitable."""
        raise NotImplementedError

    def advance(self, seconds: Fraction) -> None:
        """Let time pass for the buckets; a whole number of microseconds."""
        raise NotImplementedError

    # -- what the limiter promises

    def _try(self, limiter: RateLimiter | AsyncRateLimiter, key: str = "", cost: int = 1) -> Decision:
        decision = self.run(limiter.try_acquire(key, cost))
        assert isinstance(decision, Decision)
        return decision

    def test_a_new_bucket_holds_its_burst_and_no_more(self) -> None:
        limiter = self.connect("1/hour;burst=5")
        assert [self._try(limiter).allowed for _ in range(7)] == [True] * 5 + [False] * 2

    def test_tokens_come_back_at_the_rate_one_by_one(self) -> None:
        limiter = self.connect("24/day;burst=2")
        assert self._try(limiter, cost=2).allowed
        for _ in range(3):
            self.advance(Fraction(3590))
            assert not self._try(limiter).allowed
            self.advance(Fraction(10))
            assert self._try(limiter).allowed
            assert not self._try(limiter).allowed

    def test_a_bucket_at_rest_fills_up_to_its_burst_and_no_further(self) -> None:
        limiter = self.connect("60/hour;burst=3")
        assert self._try(limiter, cost=3).allowed
        self.advance(Fraction(100_000))
        assert [self._try(limiter).allowed for _ in range(4)] == [True] * 3 + [False]

    def test_a_refusal_takes_nothing(self) -> None:
        limiter = self.connect("60/hour;burst=10")
        assert self._try(limiter, cost=8).allowed
        for _ in range(5):
            assert not self._try(limiter, cost=3).allowed
        assert self._try(limiter, cost=2).allowed

    def test_retry_after_is_enough_and_not_too_much(self) -> None:
        limiter = self.connect("7/hour;burst=7")
        assert self._try(limiter, cost=7).allowed
        refused = self._try(limiter, cost=3)
        needed = Fraction(3 * 3600, 7)
        assert refused.retry_after == pytest.approx(float(needed), abs=self.slack + 1e-6)
        told = Fraction(ceil(refused.retry_after * 1_000_000), 1_000_000)
        short = Fraction(ceil((self.slack + 0.001) * 1_000_000), 1_000_000)
        self.advance(told - short)
        assert not self._try(limiter, cost=3).allowed
        self.advance(short)
        assert self._try(limiter, cost=3).allowed

    def test_a_decision_says_how_the_bucket_stands(self) -> None:
        limiter = self.connect("60/hour;burst=10")
        allowed = self._try(limiter, cost=4)
        assert (bool(allowed), allowed.remaining, allowed.retry_after, allowed.result) == (True, 6, 0.0, "acquired")
        assert allowed.reset_after == pytest.approx(240, abs=self.slack + 1e-6)
        refused = self._try(limiter, cost=7)
        assert (bool(refused), refused.remaining, refused.result) == (False, 6, "limited")
        assert refused.retry_after == pytest.approx(60, abs=self.slack + 1e-6)
        assert refused.reset_after == pytest.approx(240, abs=self.slack + 1e-6)
        assert str(refused.limit) == "60 per 3600 second;burst=10"

    def test_acquire_raises_what_try_acquire_says(self) -> None:
        limiter = self.connect("60/hour;burst=2")
        self.run(limiter.acquire())
        self.run(limiter.acquire("", 1))
        with pytest.raises(RateLimited, match="retry in") as refusal:
            self.run(limiter.acquire())
        assert refusal.value.retry_after == pytest.approx(60, abs=self.slack + 1e-6)
        assert limiter.name in str(refusal.value)

    def test_keys_are_buckets_of_their_own(self) -> None:
        limiter = self.connect("1/hour")
        keys = ["", "a", "b", "a ", "A", "a:b", "}", "{a}", "\u00e4\u20ac\U0001f600", "x" * 1000, "x" * 1001]
        assert all(self._try(limiter, key).allowed for key in keys)
        assert not any(self._try(limiter, key).allowed for key in keys)

    def test_limiters_of_one_name_share_their_buckets_and_others_do_not(self) -> None:
        first, second = self.connect("1/hour"), self.connect("1/hour")
        assert self._try(first, "k").allowed
        assert not self._try(second, "k").allowed
        assert self._try(self.connect("1/hour", name="another"), "k").allowed
        assert self._try(self.connect("1/hour", namespace="another"), "k").allowed

    @pytest.mark.parametrize("cost", [0, -1, 6, 10**9, 1.0, 2.5, True, "1", None])
    def test_a_cost_that_can_never_be_granted_is_refused_at_once(self, cost: Any) -> None:
        limiter = self.connect("1/hour;burst=5")
        with pytest.raises(Misuse, match="burst of 5"):
            self.run(limiter.acquire("k", cost))
        with pytest.raises(Misuse, match="burst of 5"):
            self.run(limiter.try_acquire("k", cost))
        assert self._try(limiter, "k", 5).allowed

    @pytest.mark.parametrize("key", [7, None, b"k", ("a",)])
    def test_a_key_that_is_no_text_is_refused(self, key: Any) -> None:
        limiter = self.connect("1/hour")
        with pytest.raises(Misuse, match="must be a str"):
            self.run(limiter.acquire(key))

    @pytest.mark.parametrize("rate", ["999983/day;burst=17", "7 per 60 second", "3/second;burst=1", "1/minute;burst=9"])
    def test_rl1_waits_are_those_of_a_bucket_in_fractions(self, rate: str) -> None:
        limiter = self.connect(rate)
        known = Rate.of(rate)
        per_second = Fraction(known.count * 1_000_000, known.period_us)
        tokens = Fraction(known.capacity)
        for step in range(60):
            pause = Fraction(step * 7919 % 3_000_017, 1_000_000)
            cost = 1 + step * 31 % known.capacity
            self.advance(pause)
            tokens = min(Fraction(known.capacity), tokens + pause * per_second)
            decision = self._try(limiter, "k", cost)
            if abs(tokens - cost) <= self.slack * per_second:  # too near to call while time passes
                tokens = tokens - cost if decision.allowed else tokens
                continue
            assert decision.allowed == (tokens >= cost)
            if decision.allowed:
                tokens -= cost
            else:
                assert decision.retry_after == pytest.approx(float((cost - tokens) / per_second), abs=self.slack + 1e-6)


class SwitchSourceContract:
    """Subclass it, and give `source`, `publish` and `spoil`."""

    def source(self, switches: dict[str, bool]) -> Source:
        """Return a source whose document has these switches."""
        raise NotImplementedError

    def publish(self, source: Source, switches: dict[str, bool]) -> None:
        """Replace its document."""
        raise NotImplementedError

    def test_the_first_poll_gives_the_document_and_the_second_nothing(self) -> None:
        source = self.source({"a": True, "b": False})
        document = source.poll()
        assert document is not None
        assert {name: switch.enabled for name, switch in document.switches.items()} == {"a": True, "b": False}
        assert source.poll() is None

    def test_each_document_is_given_once_and_whole(self) -> None:
        source = self.source({"a": True})
        source.poll()
        for state in (False, True, False):
            self.publish(source, {"a": state, "c": state})
            document = source.poll()
            assert document is not None
            assert {switch.enabled for switch in document.switches.values()} == {state}
            assert source.poll() is None

    def test_only_the_last_of_several_documents_counts(self) -> None:
        source = self.source({"a": True})
        source.poll()
        self.publish(source, {"a": False})
        self.publish(source, {"b": False})
        document = source.poll()
        assert document is not None
        assert list(document.switches) == ["b"]
        assert source.poll() is None

    def test_it_names_itself(self) -> None:
        source = self.source({"a": True})
        assert source.name
        assert source.kind.isidentifier()
