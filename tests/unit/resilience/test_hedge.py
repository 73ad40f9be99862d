"""The race of attempts, on virtual time: when the next one starts, who wins, and what becomes of the others.

The same table runs over the asyncio make (tasks on a loop of virtual time) and over a blocking make whose attempts
end when a script says so; threads are real in test_hedge_threads.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.blocking import drive
from backstay.errors import BulkheadFull, Misuse, OutcomeUnknown, Rejected
from backstay.resilience.hedge import Hedge, HedgeSettings
from backstay.resilience.hedge.budget import Budget
from backstay.resilience.hedge.latency import Latencies
from backstay.resilience.hedge.race import Ended, race
from backstay.testing import ManualClock, measured
from unit.resilience.virtual_loop import pause, run_virtually

TENANT = contextvars.ContextVar("tenant", default="nobody")
Script = list[tuple[float, Any]]
"""For each attempt: after how many seconds it ends, and what it returns or raises."""


@dataclass
class Played:
    """What came of a race."""

    answer: Any = None
    error: BaseException | None = None
    took: float = 0.0
    started: list[float] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)


class Scripted:
    """The port `Attempts` on a clock of its own: no real attempt can be made to end at an exact moment."""

    def __init__(self, script: Script) -> None:
        self.script, self.now, self.started = script, 0.0, list[float]()
        self.ends: list[tuple[float, int, Any]] = []

    def start(self) -> None:
        lasts, result = self.script[len(self.started)]
        self.started.append(self.now)
        heapq.heappush(self.ends, (self.now + lasts, len(self.started), result))

    async def next(self, wait: float | None) -> Ended | None:
        if wait is not None and (not self.ends or self.ends[0][0] > self.now + wait):
            self.now += wait
            return None
        at, number, result = heapq.heappop(self.ends)
        self.now = max(self.now, at)
        failed = isinstance(result, BaseException)
        return Ended(number=number, value=None if failed else result, error=result if failed else None)

    def abandon(self) -> None:
        self.ends.clear()


def by_script(script: Script, rules: HedgeSettings, tokens: int) -> Played:
    attempts, played = Scripted(script), Played()

    def spend(reason: str) -> bool:
        played.spent.append(reason)
        return len(played.spent) <= tokens

    try:
        played.answer = drive(race(attempts, rules, rules.after, spend)).value
    except BaseException as error:
        played.error = error
    played.took, played.started = attempts.now, attempts.started
    return played


def by_tasks(script: Script, rules: HedgeSettings, tokens: int) -> Played:
    played = Played()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began, steps = loop.time(), iter(script)

        async def attempt() -> Any:
            lasts, result = next(steps)
            played.started.append(round(loop.time() - began, 9))
            await pause(lasts)
            if isinstance(result, BaseException):
                raise result
            return result

        hedge = Hedge("race", settings=rules)
        hedge._budget._saved = tokens * 1_000_000  # as many tokens as the row of the table gives
        hedge._budget._share = 0
        try:
            played.answer = await hedge(attempt)()
        except BaseException as error:
            played.error = error
        played.took = round(loop.time() - began, 9)

    run_virtually(main())
    return played


MAKES = {"blocking": by_script, "asyncio": by_tasks}
REFUSED, BROKEN, FIRST, UNKNOWN = BulkheadFull("full"), Misuse("bug"), LookupError("first"), OutcomeUnknown("late")


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(
    ("script", "options", "tokens", "answer", "took", "started"),
    [
        ([(1, "a")], {}, 9, "a", 1, [0]),
        ([(9, "a"), (1, "b")], {}, 9, "b", 3, [0, 2]),
        ([(4, "a"), (3, "b")], {}, 9, "a", 4, [0, 2]),
        ([(9, "a"), (1, "b")], {}, 0, "a", 9, [0]),  # no budget
        ([(9, "a"), (9, "b"), (1, "c")], {"at_most": 3}, 9, "c", 5, [0, 2, 4]),
        ([(9, "a"), (9, "b"), (1, "c")], {"at_most": 3}, 1, "a", 9, [0, 2]),
        ([(1, FIRST), (1, "b")], {}, 9, "b", 2, [0, 1]),  # a failure starts the next at once
        ([(1, UNKNOWN), (1, "b")], {}, 9, "b", 2, [0, 1]),
        ([(1, FIRST), (1, "b")], {}, 0, FIRST, 1, [0]),
        ([(1, FIRST), (1, ValueError("second"))], {}, 9, FIRST, 2, [0, 1]),  # all fail: the first error
        ([(9, FIRST), (1, ValueError("second"))], {}, 9, ValueError, 3, [0, 2]),  # ... to happen
        ([(1, REFUSED), (1, "b")], {}, 9, REFUSED, 1, [0]),  # a refusal starts nothing
        ([(5, "a"), (1, REFUSED)], {}, 9, "a", 5, [0, 2]),  # ... and ends nothing that runs
        ([(1, BROKEN), (1, "b")], {}, 9, BROKEN, 1, [0]),
        ([(1, FIRST), (1, "b")], {"on": (OSError,)}, 9, FIRST, 1, [0]),  # an error that is an answer
        ([(9, "a"), (1, FIRST)], {"on": (OSError,)}, 9, FIRST, 3, [0, 2]),
        ([(9, None)], {"at_most": 1}, 9, None, 9, [0]),
        ([(3, None), (9, "b")], {}, 9, None, 3, [0, 2]),  # None is a good answer
    ],
)
def test_the_race(
    make: Callable[[Script, HedgeSettings, int], Played],
    script: Script,
    options: dict[str, Any],
    tokens: int,
    answer: Any,
    took: float,
    started: list[float],
) -> None:
    if answer is ValueError:
        script = [(9, FIRST), (1, answer := ValueError("second"))]
        took = 9  # the first attempt still runs; the error that came first is raised when it has failed as well
    played = make(script, HedgeSettings(idempotent=True, after=2, **options), tokens)
    if isinstance(answer, BaseException):
        assert played.error is answer
    else:
        assert (played.error, played.answer) == (None, answer)
    assert played.started == started
    assert played.took == took


outcomes = st.one_of(st.integers(0, 99), st.sampled_from([LookupError(), OSError(), REFUSED]))


@given(
    st.lists(st.tuples(st.integers(1, 40).map(lambda n: n * 2 + 1), outcomes), min_size=4, max_size=4),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_both_colours_run_the_same_race(script: Script, at_most: int, tokens: int) -> None:
    # delays are even and durations odd, so that starts and ends of one attempt never fall on one moment
    rules = HedgeSettings(idempotent=True, after=1000, at_most=at_most)
    blocking, tasks = by_script(script, rules, tokens), by_tasks(script, rules, tokens)
    assert (blocking.answer, blocking.error, blocking.took) == (tasks.answer, tasks.error, tasks.took)
    if at_most > 1:
        assert blocking.started == tasks.started


@given(st.lists(st.tuples(st.integers(1, 40), outcomes), min_size=3, max_size=3), st.integers(1, 3), st.integers(0, 3))
def test_a_hedge_is_never_later_than_the_call_alone_would_have_been(script: Script, at_most: int, tokens: int) -> None:
    played = by_script(script, HedgeSettings(idempotent=True, after=7, at_most=at_most), tokens)
    lasts, alone = script[0]
    assert len(played.started) <= min(at_most, tokens + 1)
    if not isinstance(alone, Exception):  # a good first answer is never lost or delayed
        assert played.error is None
        assert played.took <= lasts


def test_AS3_a_cancellation_cancels_every_attempt() -> None:
    ended: list[str] = []

    async def attempt() -> None:
        try:
            await pause(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await Hedge("cancel", after=1, at_most=3, idempotent=True)(attempt)()
        took = loop.time() - began
        await asyncio.sleep(0)
        assert ended == ["cancelled"] * 3  # now, not when the loop is closed
        return took

    with measured() as seen:
        assert run_virtually(main()) == 5
    assert ended == ["cancelled"] * 3
    assert seen.count("hedge.calls", policy_name="cancel", result="canceled", hedged=True) == 1
    assert seen.count("hedge.abandoned", policy_name="cancel") == 0


def test_AS3_an_attempt_that_is_cancelled_from_inside_is_never_hedged() -> None:
    started: list[int] = []

    async def attempt() -> None:
        started.append(1)
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Hedge("inside", after=1, idempotent=True)(attempt)()

    run_virtually(main())
    assert started == [1]


def test_the_loser_is_cancelled_and_not_waited_for() -> None:
    log: list[str] = []

    async def attempt() -> str:
        log.append("start")
        try:
            await pause(10 if log == ["start"] else 1)
        except asyncio.CancelledError:
            await pause(50)  # a slow good-bye
            log.append("gone")
            raise
        return "second"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await Hedge("loser", after=2, idempotent=True)(attempt)() == "second"
        assert loop.time() - began == 3
        await asyncio.sleep(0)
        with measured() as seen:
            await pause(60)
        assert seen.count("hedge.abandoned", policy_name="loser") == -1  # it was counted until it had gone

    run_virtually(main())
    assert log == ["start", "start", "gone"]


def test_an_error_of_the_loser_is_no_complaint_of_the_loop() -> None:
    complaints: list[Any] = []

    async def attempt() -> str:
        try:
            await pause(10 if not seen.append(1) and len(seen) == 1 else 1)
        except asyncio.CancelledError:
            raise LookupError("on its way out") from None
        return "second"

    seen: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        assert await Hedge("loser-error", after=2, idempotent=True)(attempt)() == "second"
        await pause(1)

    run_virtually(main())
    assert complaints == []


def test_BH3_each_attempt_has_a_copy_of_the_callers_context() -> None:
    seen: list[str] = []

    async def attempt() -> str:
        seen.append(TENANT.get())
        TENANT.set(f"attempt {len(seen)}")
        await pause(9)
        return TENANT.get()

    async def main() -> None:
        TENANT.set("blue")
        assert await Hedge("context", after=1, idempotent=True)(attempt)() == "attempt 1"
        assert TENANT.get() == "blue"

    run_virtually(main())
    assert seen == ["blue", "blue"]


def test_AS4_a_coroutine_that_is_thrown_away_leaves_no_attempt() -> None:
    cancelled: list[int] = []

    async def attempt() -> None:
        try:
            await pause(100)
        finally:
            cancelled.append(1)

    async def main() -> None:
        work = Hedge("thrown", after=1, idempotent=True)(attempt)()
        work.send(None)
        await asyncio.sleep(0)  # the first attempt has begun
        work.close()
        await asyncio.sleep(0)
        assert cancelled == [1]

    run_virtually(main())


@given(
    st.sampled_from([0.01, 0.05, 0.1, 0.33, 1.0]),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=30),
)
def test_RT2_added_attempts_never_exceed_the_share_and_the_floor(
    share: float, floor: int, rounds: list[tuple[int, int]]
) -> None:
    budget, calls, added = Budget(share, floor), 0, 0
    for some, wanted in rounds:
        for _ in range(some):
            budget.earn()
        calls += some
        added += sum(budget.spend() for _ in range(wanted))
        assert added <= floor + share * calls + 1e-9


def test_RT2_a_total_slowness_adds_the_share_and_no_more() -> None:
    async def slow() -> None:
        await pause(10)

    async def main() -> None:
        hedged = Hedge("budget", after=1, budget=0.1, floor=5, idempotent=True)(slow)
        for _ in range(200):
            await hedged()

    with measured() as seen:
        run_virtually(main())
    started = seen.count("hedge.attempts", policy_name="budget", result="started")
    assert 20 <= started <= 25
    assert seen.count("hedge.attempts", policy_name="budget", result="budget") == 200 - started
    assert seen.count("hedge.calls", policy_name="budget") == 200


def test_the_delay_follows_the_calls_of_late() -> None:
    clock = ManualClock()
    hedge = Hedge("follow", percentile=0.9, minimum_calls=10, idempotent=True, clock=clock)
    assert hedge.delay is None
    for tenth in range(1, 11):
        hedge._latencies.note(tenth / 10)
    assert hedge.delay == 0.9
    for _ in range(256):
        hedge._latencies.note(3.0)
    assert hedge.delay == 3.0
    hedge.reconfigure(HedgeSettings(after=0.5, idempotent=True))
    assert hedge.delay == 0.5
    assert Hedge("before", after=0.2, percentile=0.9, idempotent=True).delay == 0.2


@given(st.lists(st.floats(0, 100), min_size=1, max_size=600), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99]))
def test_the_percentile_is_that_of_the_last_256(durations: list[float], share: float) -> None:
    latencies = Latencies()
    for duration in durations:
        latencies.note(duration)
    found = latencies.percentile(share, 1)
    last = sorted(durations[-256:])
    assert found is not None
    assert sum(each <= found for each in last) >= share * len(last)
    assert sum(each < found for each in last) < share * len(last) or found == last[0]


def test_without_a_delay_only_failures_start_another() -> None:
    script = [(50, "a"), (1, "b")]

    async def attempt() -> str:
        lasts, answer = script.pop(0)
        await pause(lasts)
        return str(answer)

    assert run_virtually(Hedge("waiting", percentile=0.9, idempotent=True)(attempt)()) == "a"
    assert len(script) == 1


def test_live_change_holds_from_the_next_call_on() -> None:
    calls: list[int] = []

    async def slow() -> None:
        calls.append(1)
        await pause(10)

    async def main() -> None:
        hedge = Hedge("live", after=1, idempotent=True)
        hedged = hedge(slow)
        under_way = asyncio.ensure_future(hedged())
        await asyncio.sleep(0)
        hedge.reconfigure(HedgeSettings(after=1, at_most=1, idempotent=True))
        await under_way
        assert len(calls) == 2
        await hedged()
        assert len(calls) == 3

    run_virtually(main())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"after": 0.05}, "say idempotent=True"),
        ({"after": 0.05, "idempotent": 1}, "say idempotent=True"),
        ({"idempotent": True}, "needs after="),
        ({"after": 0, "idempotent": True}, "above 0 s"),
        ({"percentile": 1, "idempotent": True}, "below 1"),
        ({"percentile": 95, "idempotent": True}, "at most 1"),
        ({"after": 1, "at_most": 0, "idempotent": True}, "at_most"),
        ({"after": 1, "budget": 0, "idempotent": True}, "budget"),
        ({"after": 1, "budget": 1e-9, "idempotent": True}, "one in a million"),
        ({"after": 1, "floor": -1, "idempotent": True}, "floor"),
        ({"after": 1, "on": (asyncio.CancelledError,), "idempotent": True}, "never hedged"),
        ({"after": 1, "idempotent": True, "delay": 3}, "no setting 'delay'; known: after"),
        ({"after": 1, "idempotent": True, "settings": HedgeSettings(after=1, idempotent=True)}, "not both"),
        ({"after": 1, "idempotent": True, "pool": 8}, "submit"),
    ],
)
def test_mistakes_are_found_at_once(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        Hedge("mistakes", **options)


@pytest.mark.parametrize("short", [0.05, True, 2, "50ms", None])
def test_there_is_no_short_form_since_it_would_not_say_idempotent(short: Any) -> None:
    with pytest.raises(Misuse, match="'idempotent': True"):
        HedgeSettings.of(short)


def test_AS2_a_plain_function_without_threads_and_a_stream_are_refused_at_decoration() -> None:
    async def stream() -> Any:
        yield 1

    hedge = Hedge("colours", after=1, idempotent=True)
    with pytest.raises(Misuse, match="pool=ThreadPoolExecutor"):
        hedge(lambda: 1)
    with pytest.raises(Misuse, match=r"hedge .*async generator function"):
        hedge(stream)


def test_a_refusal_of_the_first_attempt_is_the_callers() -> None:
    async def refused() -> None:
        raise Rejected("no")

    async def main() -> None:
        with pytest.raises(Rejected):
            await Hedge("refused", after=1, idempotent=True)(refused)()

    with measured() as seen:
        run_virtually(main())
    assert seen.count("hedge.calls", policy_name="refused", result="error", hedged=False) == 1
