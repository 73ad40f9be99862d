"""Oracle: tenacity itself. Seeded schedules of both give the same result, waits and number of attempts (RT-1)."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
import tenacity.asyncio

from backstay.blocking import drive
from backstay.resilience.retry import ResultRefused, Retry
from backstay.resilience.retry.waits import FullJitter

SCHEDULES = 1500


class Time:
    """A clock that is moved by attempts and by waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(float(seconds))
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Script:
    """A function whose attempts take set times and end in set ways."""

    def __init__(self, time: Time, seed: int) -> None:
        chance = random.Random(seed)
        self.time = time
        self.attempts = 0
        self.steps = [
            (
                chance.choice([0.0, 0.25, 1.5]),
                chance.choice([ValueError("v"), KeyError("k"), OSError("o"), "no", "yes"]),
            )
            for _ in range(20)
        ]

    def __call__(self) -> Any:
        took, outcome = self.steps[self.attempts % 20]
        self.attempts += 1
        self.time.now += took
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def strategies(seed: int) -> dict[str, Any]:
    chance = random.Random(seed + 1_000_000)
    t = tenacity
    stops: list[Callable[[], Any]] = [
        lambda: t.stop_after_attempt(chance.randint(1, 6)),
        lambda: t.stop_after_delay(chance.choice([0, 1, 2.5, 7])) | t.stop_after_attempt(9),
        lambda: t.stop_before_delay(chance.choice([1, 3, 7])) | t.stop_after_attempt(9),
        lambda: t.stop_after_attempt(4) & t.stop_after_delay(0),
        lambda: t.stop_any(t.stop_never, t.stop_after_attempt(3)),
    ]
    waits: list[Callable[[], Any]] = [
        t.wait_none,
        lambda: t.wait_fixed(0.5),
        lambda: t.wait_random(0, 2),
        lambda: t.wait_incrementing(0.1, 0.3, 1.0),
        lambda: t.wait_exponential(0.1, 3),
        lambda: t.wait_random_exponential(0.1, 3),
        lambda: t.wait_exponential_jitter(multiplier=0.1, max=3),
        lambda: t.wait_chain(t.wait_fixed(0.1), t.wait_fixed(0.7)),
        lambda: t.wait_fixed(0.2) + t.wait_random(0, 0.1),
    ]
    predicates: list[Callable[[], Any]] = [
        t.retry_if_exception_type,
        lambda: t.retry_if_exception_type((ValueError, OSError)),
        lambda: t.retry_if_not_exception_type(KeyError),
        lambda: t.retry_if_exception(lambda error: "o" in str(error)),
        lambda: t.retry_if_exception_message(match="[vo]"),
        lambda: t.retry_if_result(lambda result: result == "no"),
        lambda: t.retry_if_not_result(lambda result: result == "yes"),
        lambda: t.retry_if_exception_type() | t.retry_if_result(lambda result: result == "no"),
        lambda: t.retry_if_exception_type() & t.retry_if_exception(lambda error: not isinstance(error, KeyError)),
        lambda: t.retry_unless_exception_type(KeyError),
        lambda: t.retry_always,
        lambda: t.retry_never,
    ]
    return {"stop": chance.choice(stops)(), "wait": chance.choice(waits)(), "retry": chance.choice(predicates)()}


def played(seed: int, run: Callable[[Time, Script], Any]) -> tuple[Any, ...]:
    time = Time()
    script = Script(time, seed)
    random.seed(seed)
    ended: object
    try:
        ended = run(time, script)
    except (tenacity.RetryError, ResultRefused):
        ended = "given up on a result"
    except Exception as error:
        ended = (type(error), str(error))
    return ended, time.waits, script.attempts, time.now


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_RT1_schedules_are_those_of_tenacity(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[Any] = set()
    for seed in range(SCHEDULES):
        given = strategies(seed)

        def theirs(time: Time, script: Script, given: dict[str, Any] = given) -> Any:
            monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=time.read))
            if colour == "def":
                return tenacity.Retrying(**given, sleep=time.sleep, reraise=True)(script)

            async def asynchronous() -> Any:
                return script()

            return drive(tenacity.AsyncRetrying(**given, sleep=time.sleep_async, reraise=True)(asynchronous))

        def ours(time: Time, script: Script, given: dict[str, Any] = given) -> Any:
            retry = Retry("o", **given, budget=None, clock=time.read, sleep=time.sleep, sleep_async=time.sleep_async)
            if colour == "def":
                return retry(script)()

            async def asynchronous() -> Any:
                return script()

            return drive(retry(asynchronous)())

        expected = played(seed, theirs)
        assert played(seed, ours) == expected, (seed, given)
        seen.add((expected[0], expected[2]))
    assert len(seen) > 20  # the schedules differ


def test_RT1_the_default_wait_is_tenacity_s_full_jitter() -> None:
    theirs = tenacity.wait_random_exponential(multiplier=0.1, max=10)
    ours = FullJitter(0.1, 10.0)
    for attempt in (*range(1, 40), 5000):
        state: Any = SimpleNamespace(attempt_number=attempt)
        random.seed(attempt)
        expected = theirs(state)
        random.seed(attempt)
        assert ours(retry_state=state) == expected
