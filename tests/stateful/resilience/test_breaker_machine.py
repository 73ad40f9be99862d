"""Any history of calls, pauses and operators: the breaker decides like a model that judges on every record.

The model keeps every result with its time and knows nothing of buckets, episodes, flags or quick ways.
"""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.resilience.circuit_breaker import BreakerSettings, CircuitBreaker, CircuitOpen, State
from backstay.resilience.circuit_breaker.circuit import Ticket
from backstay.testing import ManualClock
from unit.resilience.breaker_ways import WAYS, Down


class Model:
    """A breaker as the criteria describe it: CB-1, CB-2, CB-4, CB-6, CB-7."""

    def __init__(self, rules: BreakerSettings) -> None:
        self.rules = rules
        self.openings = 0
        self.enter(State.CLOSED, 0.0)

    def enter(self, state: State, now: float) -> None:
        self.state = state
        self.round = getattr(self, "round", 0) + 1
        self.results: list[tuple[float, bool, bool]] = []
        self.probes: dict[int, float] = {}
        self.openings = {State.CLOSED: 0, State.OPEN: self.openings + 1}.get(state, self.openings)
        self.until = now + self.rules.wait(max(1, self.openings))

    def admit(self, number: int, now: float) -> tuple[int, bool] | None:
        """Return the round and whether it is a probe, or None where the call is refused."""
        if self.state is State.OPEN and now >= self.until:
            self.enter(State.HALF_OPEN, now)
        if self.state is State.OPEN:
            return None
        if self.state is State.HALF_OPEN:
            self.probes = {probe: end for probe, end in self.probes.items() if end > now}
            if len(self.probes) + len(self.results) >= self.rules.probes:
                return None
            self.probes[number] = now + self.rules.lease
        return self.round, self.state is State.HALF_OPEN

    def end(self, number: int, entered: tuple[int, bool], now: float, failed: bool | None, slow: bool) -> None:
        if entered[0] != self.round:
            return
        if self.state is State.HALF_OPEN and self.probes.pop(number, None) is None:
            return
        if failed is None:
            return
        self.results.append((now, failed, slow))
        if self.state is State.HALF_OPEN:
            self.judge_probes(now)
        elif self.trips(now):
            self.enter(State.OPEN, now)

    def trips(self, now: float) -> bool:
        rules = self.rules
        if rules.consecutive is not None:
            row = 0
            for _, failed, _ in reversed(self.results):
                if not failed:
                    break
                row += 1
            return row >= rules.consecutive
        held = self.held(now)
        if len(held) < rules.minimum_calls:
            return False
        failures, slow = sum(failed for _, failed, _ in held), sum(slow for _, _, slow in held)
        return failures / len(held) >= rules.failure_rate or (
            rules.slow_rate is not None and slow / len(held) >= rules.slow_rate
        )

    def held(self, now: float) -> list[tuple[float, bool, bool]]:
        if self.rules.last_calls is not None:
            return self.results[-self.rules.last_calls :]
        return [result for result in self.results if math.floor(result[0]) > math.floor(now) - self.rules.span]

    def judge_probes(self, now: float) -> None:
        """Open or close when every way in which the missing probes can end leads there."""
        rules, missing = self.rules, self.rules.probes - len(self.results)
        failures, slow = sum(failed for _, failed, _ in self.results), sum(slow for _, _, slow in self.results)

        def opens(failures: int, slow: int) -> bool:
            if rules.consecutive is not None:
                return failures > 0
            share = rules.slow_rate is not None and slow / rules.probes >= rules.slow_rate
            return failures / rules.probes >= rules.failure_rate or share

        ways = {opens(failures + more, slow + late) for more in range(missing + 1) for late in range(missing + 1)}
        if ways == {True}:
            self.enter(State.OPEN, now)
        elif ways == {False}:
            self.enter(State.CLOSED, now)


RULES = st.builds(
    BreakerSettings,
    failure_rate=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]),
    minimum_calls=st.integers(1, 6),
    window=st.integers(1, 4),
    probes=st.integers(1, 4),
    open_for=st.sampled_from([[1.0], [1.0, 2.0, 4.0], [2.5]]),
    open_jitter=st.just(0),
    probe_lease=st.sampled_from([1.0, 3.0]),
    retry_after=st.just(False),
)
KINDS: list[dict[str, Any]] = [
    {},
    {"consecutive": 1},
    {"consecutive": 3},
    {"last_calls": 6},
    {"last_calls": 9, "slow_rate": 0.5, "slow_after": 0.5},
    {"slow_rate": 0.5, "slow_after": 0.5},
    {"slow_rate": 1.0, "slow_after": 0.25},
]


class Breakers(RuleBasedStateMachine):
    """One breaker, all ways to it, and calls that overlap."""

    @initialize(rules=RULES, kind=st.sampled_from(KINDS))
    def begin(self, rules: BreakerSettings, kind: dict[str, Any]) -> None:
        import dataclasses

        rules = dataclasses.replace(rules, **kind)
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("machine", settings=rules, clock=self.clock)
        self.calls = [way(self.breaker) for way in WAYS]
        self.model = Model(rules)
        self.flying: dict[int, tuple[Ticket, tuple[int, bool], float]] = {}
        self.number = 0

    @rule(way=st.integers(0, len(WAYS) - 1), fails=st.booleans(), takes=st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5]))
    def call(self, way: int, fails: bool, takes: float) -> None:
        self.number += 1
        began = self.clock()
        entered = self.model.admit(self.number, began)

        def act() -> None:
            self.clock.advance(takes)
            if fails:
                raise Down

        try:
            self.calls[way](act)
            end = "+"
        except Down:
            end = "-"
        except CircuitOpen:
            end = "x"
        assert end == ("x" if entered is None else "-" if fails else "+")
        if entered is not None:
            now = self.clock()
            self.model.end(self.number, entered, now, fails, now - began >= self.model.rules.slow_from)

    @rule(times=st.integers(1, 8), fails=st.booleans())
    def burst(self, times: int, fails: bool) -> None:
        for _ in range(times):
            self.call(self.number % 2, fails, 0.0)

    @rule()
    def start(self) -> None:
        self.number += 1
        entered = self.model.admit(self.number, self.clock())
        try:
            ticket = self.breaker.circuit.admit()
        except CircuitOpen:
            assert entered is None
        else:
            assert entered is not None
            self.flying[self.number] = ticket, entered, self.clock()

    @rule(end=st.sampled_from([None, Down(), KeyboardInterrupt()]), which=st.integers(0, 100))
    def finish(self, end: BaseException | None, which: int) -> None:
        if self.flying:
            number = list(self.flying)[which % len(self.flying)]
            ticket, entered, began = self.flying.pop(number)
            self.breaker.circuit.settle(ticket, end)
            now = self.clock()
            failed = None if isinstance(end, KeyboardInterrupt) else end is not None
            self.model.end(number, entered, now, failed, now - began >= self.model.rules.slow_from)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 1.0, 2.5, 7.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def close(self) -> None:
        self.breaker.close()
        self.model.enter(State.CLOSED, self.clock())

    @invariant()
    def they_agree(self) -> None:
        if hasattr(self, "model"):
            now = self.breaker.snapshot()
            assert now.state is self.model.state
            assert now.openings == self.model.openings
            if now.state is State.HALF_OPEN:
                assert now.calls == len(self.model.results)
                assert now.calls + now.probes_in_flight <= self.model.rules.probes  # CB-4
            elif now.state is State.CLOSED and self.model.rules.consecutive is None:
                assert now.calls == len(self.model.held(self.clock()))


Breakers.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestBreakers = Breakers.TestCase
