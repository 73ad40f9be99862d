"""Any history of calls, pauses, evictions and restarts: memory, script and fractions decide alike (RL-1, RL-9)."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.backends.redis import RedisBuckets
from unit.resilience.lua_redis import LuaRedis, lua_buckets
from unit.resilience.oracle import Oracle

KEYS = ["", "a", "b"]


class Limiters(RuleBasedStateMachine):
    """One rate, three keys that count and any number that are noise, in two makes and in fractions."""

    @initialize(count=st.integers(1, 1000), seconds=st.sampled_from([1, 60, 3600]), burst=st.integers(1, 50))
    def begin(self, count: int, seconds: int, burst: int) -> None:
        self.rate = Rate(count=count, period=seconds, burst=burst)
        self.server = LuaRedis()
        self.memory = MemoryBuckets(self.rate, max_keys=100_000, clock_ns=lambda: self.server.now_us * 1000)
        self.remote: list[RedisBuckets] = [lua_buckets(self.server, self.rate) for _ in range(2)]
        self.oracle = {key: Oracle(self.rate) for key in KEYS}
        self.noise = 0
        self.log: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}

    @rule(key=st.sampled_from(KEYS), cost=st.integers(1, 50), client=st.integers(0, 1))
    def charge(self, key: str, cost: int, client: int) -> None:
        cost = min(cost, self.rate.capacity)
        allowed, wait = self.oracle[key].charge(Fraction(self.server.now_us, 1_000_000), cost)
        for buckets in (self.memory, self.remote[client]):
            balance = buckets.charge(key, cost)
            assert (balance > 0) == allowed
            if not allowed:
                assert Fraction(-balance, buckets.scale.second) == wait
        if allowed:
            self.log[key].append((self.server.now_us, cost))

    @rule(pause=st.integers(0, 10_000_000) | st.integers(0, 2000))
    def pass_time(self, pause: int) -> None:
        self.server.now_us += pause

    @rule(key=st.sampled_from(KEYS), cost=st.integers(1, 50), early=st.sampled_from([0, 1]))
    def wait_for_tokens(self, key: str, cost: int, early: int) -> None:
        """Come back at the very microsecond at which the tokens are there, or one before."""
        cost = min(cost, self.rate.capacity)
        oracle = self.oracle[key]
        missing = cost - oracle.tokens
        if missing > 0:
            due = -(-(oracle.at + missing / oracle.per_second) * 1_000_000 // 1)
            self.server.now_us = max(self.server.now_us, int(due) - early)
        self.charge(key, cost, early)

    @rule(keys=st.integers(1, 200))
    def crowd(self, keys: int) -> None:
        """Keys that are never seen again: full ones of them are evicted."""
        for _ in range(keys):
            self.noise += 1
            assert self.memory.charge(f"noise-{self.noise}", 1) > 0

    @rule()
    def forget_the_script(self) -> None:
        self.server.scripts.clear()

    @rule(client=st.integers(0, 1))
    def restart_a_client(self, client: int) -> None:
        self.remote[client] = lua_buckets(self.server, self.rate)

    @invariant()
    def the_law_holds_over_every_interval(self) -> None:
        for log in getattr(self, "log", {}).values():
            if len(log) < 2:
                continue
            moment, _ = log[-1]
            spent = 0
            for earlier, cost in reversed(log[-20:]):
                spent += cost
                passed = moment - earlier
                assert spent * self.rate.period_us <= (
                    self.rate.capacity * self.rate.period_us + self.rate.count * passed
                )


TestLimiters = Limiters.TestCase
TestLimiters.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
