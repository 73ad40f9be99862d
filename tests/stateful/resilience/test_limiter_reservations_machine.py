"""Any history of calls, reservations, cancellations, refunds and changes of the rate: three makes decide alike.

RL-1 with everything of RL-10 and RL-11 in between. On Redis a bucket changes at its next call, so each bucket is
touched at the moment of a change; that is the difference between the two that is documented.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.backends.redis import RedisBuckets
from backstay.resilience.rate_limiting.carry import Carry
from unit.resilience.lua_redis import LuaRedis, lua_buckets
from unit.resilience.oracle import Oracle

KEYS = ["", "a"]
RATES = st.builds(Rate, count=st.integers(1, 1000), period=st.sampled_from([1, 7, 60, 3600]), burst=st.integers(1, 50))
CARRIES: st.SearchStrategy[Carry] = st.sampled_from(["proportional", "absolute", "reset"])


class Reservations(RuleBasedStateMachine):
    """Two keys, memory beside two clients of one server."""

    @initialize(rate=RATES)
    def begin(self, rate: Rate) -> None:
        self.rate = rate
        self.server = LuaRedis()
        self.memory = MemoryBuckets(rate, clock_ns=lambda: self.server.now_us * 1000)
        self.remote: list[RedisBuckets] = [lua_buckets(self.server, rate) for _ in range(2)]
        self.oracle = {key: Oracle(rate) for key in KEYS}
        self.promised: list[tuple[str, int, Fraction, int, int]] = []

    @property
    def now(self) -> Fraction:
        return Fraction(self.server.now_us, 1_000_000)

    @rule(key=st.sampled_from(KEYS), cost=st.integers(1, 50), client=st.integers(0, 1))
    def charge(self, key: str, cost: int, client: int) -> None:
        cost = min(cost, self.rate.capacity)
        allowed, wait = self.oracle[key].charge(self.now, cost)
        for buckets in (self.memory, self.remote[client]):
            balance = buckets.charge(key, cost)
            assert (balance > 0) == allowed
            if not allowed:
                assert Fraction(-balance, buckets.scale.second) == wait

    @rule(
        key=st.sampled_from(KEYS),
        cost=st.integers(1, 50),
        ahead_us=st.integers(0, 3_000_000) | st.integers(0, 4 * 10**9),
        client=st.integers(0, 1),
    )
    def reserve(self, key: str, cost: int, ahead_us: int, client: int) -> None:
        cost = min(cost, self.rate.capacity)
        allowed, wait = self.oracle[key].take(self.now, cost, Fraction(ahead_us, 1_000_000))
        dues = []
        for buckets in (self.memory, self.remote[client]):
            taken = buckets.take(key, cost, ahead_us / 1_000_000)
            assert (taken.balance > 0) == allowed
            if not allowed:
                assert Fraction(-taken.balance, taken.scale.second) == wait
            else:
                assert max(Fraction(0), Fraction(taken.balance - taken.scale.window, taken.scale.second)) == wait
            dues.append(taken.due)
        if allowed:
            self.promised.append((key, cost, self.now + wait, dues[0], dues[1]))

    @precondition(lambda self: bool(getattr(self, "promised", [])))
    @rule(data=st.data(), client=st.integers(0, 1))
    def cancel(self, data: st.DataObject, client: int) -> None:
        key, cost, due, in_memory, remote = self.promised.pop(data.draw(st.integers(0, len(self.promised) - 1)))
        cost = min(cost, self.rate.capacity)
        # The store's moments are whole: the nanosecond and the microsecond at or after the exact one.
        given = self.memory.give(key, cost, in_memory) if in_memory > 0 else False
        assert given == self.remote[client].give(key, cost, remote)
        if self.now < due:
            assert given == self.oracle[key].give(self.now, cost)
        elif given:
            self.oracle[key].give(self.now, cost)

    @rule(key=st.sampled_from(KEYS), cost=st.integers(1, 50), client=st.integers(0, 1))
    def refund(self, key: str, cost: int, client: int) -> None:
        cost = min(cost, self.rate.capacity)
        given = self.oracle[key].give(self.now, cost)
        assert self.memory.give(key, cost, 0) == given
        assert self.remote[client].give(key, cost, 0) == given

    @rule(rate=RATES, carry=CARRIES)
    def reconfigure(self, rate: Rate, carry: Carry) -> None:
        self.rate = rate
        self.memory.reconfigure(rate, carry)
        for buckets in self.remote:
            buckets.reconfigure(rate, carry)
        for key in KEYS:
            self.remote[0].give(key, 0, 0)  # touch it
            if str(self.oracle[key].rate) != str(rate):
                self.oracle[key].change(self.now, rate, carry)
                self.oracle[key].rate = rate

    @rule(pause=st.integers(0, 10_000_000) | st.integers(0, 2000))
    def pass_time(self, pause: int) -> None:
        self.server.now_us += pause

    @rule()
    def forget_the_scripts(self) -> None:
        self.server.scripts.clear()

    @invariant()
    def no_bucket_is_ever_more_than_full(self) -> None:
        for oracle in getattr(self, "oracle", {}).values():
            assert oracle.tokens <= oracle.capacity


TestReservations = Reservations.TestCase
TestReservations.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
