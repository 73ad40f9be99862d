"""Any history of answers, failures and pauses: the gate never blocks a store that answers for longer than its pause."""

from __future__ import annotations

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.resilience.rate_limiting.gate import Gate
from backstay.testing import ManualClock

LONGEST = 8.0


class Gates(RuleBasedStateMachine):
    """Calls enter and end in any order."""

    @initialize(draw=st.floats(0, 1))
    def begin(self, draw: float) -> None:
        self.clock = ManualClock()
        self.gate = Gate(
            "store",
            pause=0.5,
            longest=LONGEST,
            clock=self.clock,
            uniform=lambda low, high: low + draw * (high - low),
        )
        self.inside = 0
        self.last_entry = self.clock()

    @rule()
    def call(self) -> None:
        shut = self.gate.shut
        if self.gate.enter():
            if shut:
                # A probe: nobody else comes in until it ends or a pause has passed.
                assert not self.gate.enter()
            self.inside += 1
            self.last_entry = self.clock()

    @rule()
    def answer(self) -> None:
        if self.inside:
            self.inside -= 1
            self.gate.passed()
            assert self.gate.enter()

    @rule()
    def fail(self) -> None:
        if self.inside:
            self.inside -= 1
            self.gate.failed("timeout")

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def a_shut_gate_lets_a_probe_in_after_the_longest_pause(self) -> None:
        if hasattr(self, "gate") and self.gate.shut:
            assert self.gate._until - self.clock() <= LONGEST


TestGates = Gates.TestCase
TestGates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
