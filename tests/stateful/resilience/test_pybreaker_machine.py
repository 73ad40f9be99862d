"""The facade beside pybreaker itself: the same steps at the same moments, the same answers, in memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pybreaker
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backstay.resilience import pybreaker as facade
from backstay.testing import ManualClock


class Failed(Exception):
    pass


class Expected(Exception):
    """An error that is excluded: as good as an answer."""


class Listener(pybreaker.CircuitBreakerListener):
    """What a listener hears, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append(("before",))

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.heard.append(("failure", type(exc).__name__))

    def success(self, cb: Any) -> None:
        self.heard.append(("success",))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.heard.append(("state", old_state.name, new_state.name))


class Beside(RuleBasedStateMachine):
    """pybreaker has no clock to inject: instead of time going on, the moment of its opening goes back."""

    @initialize(
        fail_max=st.integers(1, 4),
        threshold=st.integers(1, 3),
        anew=st.booleans(),
        listening=st.booleans(),
        way=st.sampled_from(["call", "decorator", "calling", "async def"]),
    )
    def begin(self, fail_max: int, threshold: int, anew: bool, listening: bool, way: str) -> None:
        self.clock = ManualClock()
        options: dict[str, Any] = {
            "fail_max": fail_max, "reset_timeout": 60, "success_threshold": threshold, "exclude": [Expected],
            "throw_new_error_on_trip": anew,
        }  # fmt: skip
        self.listeners = (Listener(), Listener())
        heard: tuple[list[Any], list[Any]] = ([self.listeners[0]], [self.listeners[1]]) if listening else ([], [])
        self.theirs: Any = pybreaker.CircuitBreaker(listeners=heard[0], **options)
        self.ours: Any = facade.CircuitBreaker(listeners=heard[1], clock=self.clock, **options)
        self.way = way

    def go(self, breaker: Any, error: type[Exception] | None) -> tuple[str, str]:
        """Make one call and say how it ended, in words that are the same for both."""

        def work() -> str:
            if error is not None:
                raise error("bad")
            return "good"

        async def asynchronous() -> str:
            return work()

        try:
            if self.way == "decorator":
                return "returned", breaker(work)()
            if self.way == "calling":
                with breaker.calling():
                    return "returned", work()
            if self.way == "async def" and breaker is self.ours:  # what pybreaker cannot do answers as its `call` does
                return "returned", asyncio.run(breaker(asynchronous)())
            return "returned", breaker.call(work)
        except (Failed, Expected) as raised:
            return "raised", type(raised).__name__
        except pybreaker.CircuitBreakerError as refused:
            return "refused", str(refused)

    @rule(error=st.sampled_from([None, None, Failed, Failed, Expected]))
    def call(self, error: type[Exception] | None) -> None:
        assert self.go(self.ours, error) == self.go(self.theirs, error)

    @rule(error=st.sampled_from([None, Failed]), times=st.integers(2, 5))
    def calls(self, error: type[Exception] | None, times: int) -> None:
        for _ in range(times):
            self.call(error)

    @rule(seconds=st.sampled_from([1, 20, 59, 61]))
    def time_goes_on(self, seconds: int) -> None:
        self.clock.advance(seconds)
        storage = self.theirs._state_storage
        if storage.opened_at is not None:
            storage._opened_at = storage.opened_at - timedelta(seconds=seconds)

    @rule(way=st.sampled_from(["open", "half_open", "close"]))
    def by_hand(self, way: str) -> None:
        getattr(self.theirs, way)()
        getattr(self.ours, way)()

    @rule(fail_max=st.integers(1, 4), threshold=st.integers(1, 3))
    def other_limits(self, fail_max: int, threshold: int) -> None:
        for breaker in (self.theirs, self.ours):
            breaker.fail_max, breaker.success_threshold = fail_max, threshold

    @invariant()
    def both_stand_alike(self) -> None:
        if not hasattr(self, "ours"):
            return
        for what in ("current_state", "fail_counter", "success_counter"):
            assert getattr(self.ours, what) == getattr(self.theirs, what), what
        assert self.ours.state.name == self.theirs.state.name
        assert self.listeners[1].heard == self.listeners[0].heard


TestBeside = Beside.TestCase
TestBeside.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
