"""Every policy of the vocabulary on every kind of callable, and all of them together (AS-2, CO-1, CO-3, BH-3)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import Misuse, Rejected, Unavailable
from backstay.resilience import Switches, protect
from backstay.resilience.bulkhead import Bulkhead
from backstay.resilience.circuit_breaker import CircuitBreaker, CircuitOpen
from backstay.resilience.fallback import Fallback
from backstay.resilience.pipeline import Pipeline, pipeline_of
from backstay.resilience.pipeline.vocabulary import WORDS
from backstay.resilience.policy import ORDER
from backstay.resilience.rate_limiting.policy import RateLimit
from backstay.resilience.retry import Retry
from backstay.resilience.timeout import remaining
from backstay.testing import measured

VALUES: dict[str, Any] = {
    "switch": "on",
    "fallback": {"answer": "static"},
    "limit": "1000/second",
    "guard": {"max_cpu": 1.0, "max_lag": 1000.0},
    "timeout": 60.0,
    "deadline": 60.0,
    "retry": {"attempts": 2, "first_wait": 0.0001},
    "hedge": {"after": 30.0, "idempotent": True},
    "breaker": True,
    "attempt_timeout": 60.0,
    "concurrency": True,
    "bulkhead": 8,
    "thread_pool": 2,
}
SWITCHES = Switches.connect("memory://", defaults={"on": True}, interval=None)
MAIN = threading.current_thread()


class Engaged:
    """What the function sees of the policy round it, while it runs."""

    def __init__(self, word: str, policy: Any) -> None:
        self.word = word
        self.policy = policy
        self.runs = 0
        self.seen: list[bool] = []

    def look(self) -> str:
        self.runs += 1
        if self.word in ("retry", "hedge", "fallback") and self.runs == 1:
            raise Unavailable("once")
        self.seen.append(self._inside())
        return "real"

    def _inside(self) -> bool:
        if self.word in ("timeout", "deadline", "attempt_timeout"):
            return remaining() is not None
        if self.word in ("guard", "concurrency"):
            return bool(self.policy.in_flight == 1)
        if self.word == "bulkhead":
            return bool(self.policy.in_use == 1)
        if self.word == "thread_pool":
            return threading.current_thread() is not MAIN
        return True

    def proved(self, name: str, answer: Any, seen: Any) -> bool:
        """Return whether the policy did its part in the call that gave `answer`."""
        if self.word == "fallback":
            return bool(answer == "static" and self.runs == 1)
        if self.word in ("retry", "hedge"):
            return self.runs == 2
        if self.word == "limit":
            return bool(seen.count("rate_limiter.requests", policy_name=name, result="acquired") == 1)
        if self.word == "breaker":
            return bool(seen.count("circuit_breaker.calls", policy_name=name) == 1)
        return self.seen == [True]


def shapes(look: Callable[[], str]) -> dict[str, Callable[[], Any]]:
    """Return functions of every kind that call `look`."""

    class Holder:
        def method(self) -> str:
            return look()

        @classmethod
        def of_class(cls) -> str:
            return look()

        @staticmethod
        async def of_nobody() -> str:
            return look()

        def __call__(self) -> str:
            return look()

    class AsyncHolder:
        async def __call__(self) -> str:
            return look()

    async def coroutine() -> str:
        return look()

    def generator() -> Any:
        yield look()

    async def async_generator() -> Any:
        yield look()

    return {
        "def": lambda: f"{look()}",
        "async def": coroutine,
        "generator": generator,
        "async generator": async_generator,
        "method": Holder().method,
        "classmethod": Holder.of_class,
        "async staticmethod": Holder.of_nobody,
        "partial": functools.partial(lambda prefix, /: f"{look()}", "p"),
        "async partial": functools.partial(coroutine),
        "callable object": Holder(),
        "async callable object": AsyncHolder(),
    }


PLAIN = {"def", "method", "classmethod", "partial", "callable object"}
STREAMS = {"generator", "async generator"}
ASYNC = {"async def", "async staticmethod", "async partial", "async callable object"}
REFUSED: dict[str, set[str]] = {
    "fallback": STREAMS,
    "timeout": STREAMS | PLAIN,  # a thread cannot be stopped
    "attempt_timeout": STREAMS | PLAIN,
    "deadline": STREAMS,
    "retry": STREAMS,
    "hedge": STREAMS | PLAIN,  # nobody to run the second attempt
    "thread_pool": STREAMS | ASYNC,
}


def answer(protected: Callable[[], Any]) -> Any:
    made = protected()
    if inspect.isgenerator(made):
        return next(made)
    if inspect.isasyncgen(made):

        async def first() -> Any:
            return [item async for item in made][0]  # noqa: RUF015  # to its end

        return asyncio.run(first())
    return asyncio.run(made) if inspect.iscoroutine(made) else made


@pytest.mark.parametrize("shape", sorted(shapes(lambda: "")))
@pytest.mark.parametrize("word", WORDS)
def test_AS2_every_policy_works_on_every_callable_or_is_refused_at_decoration(word: str, shape: str) -> None:
    name = f"as2-{word}"  # few names: metrics keep 200 of them apart
    policy = WORDS[word].make(name, VALUES[word], SWITCHES)
    engaged = Engaged(word, policy)
    function = shapes(engaged.look)[shape]
    pipeline = Pipeline(name, policy)
    if shape in REFUSED.get(word, ()):
        with pytest.raises(Misuse):
            pipeline(function)
        assert engaged.runs == 0
        return
    with measured() as seen:
        given = answer(pipeline(function))
    assert engaged.proved(name, given, seen), (given, engaged.runs, engaged.seen)


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"timeout", "attempt_timeout", "hedge"}))
def test_AS2_a_plain_function_that_returns_a_coroutine_is_found_out_behind_every_policy(word: str) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    with pytest.raises(Misuse, match="returned a coroutine"):
        Pipeline("lambda", WORDS[word].make(f"lambda-{word}", VALUES[word], SWITCHES))(
            functools.partial(lambda make: make(), work)
        )()


def test_every_word_of_the_vocabulary_is_an_argument_of_protect_and_has_a_place_in_the_order() -> None:
    assert set(WORDS) <= set(inspect.signature(protect).parameters)
    kinds = [word.kind for word in WORDS.values()]
    assert kinds == sorted(kinds, key=ORDER.index)


def together(name: str, **more: Any) -> Any:
    given: dict[str, Any] = {
        "switch": "on", "switches": SWITCHES, "fallback": "static", "limit": "1000/second", "guard": VALUES["guard"],
        "deadline": 60.0, "retry": VALUES["retry"], "breaker": True, "concurrency": True, "bulkhead": 4, **more,
    }  # fmt: skip
    return protect(name, **given)


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_CO1_all_policies_together_stand_in_order_and_answer(colour: str) -> None:
    more: dict[str, Any] = (
        {} if colour == "def" else {"timeout": 50.0, "attempt_timeout": 30.0, "hedge": VALUES["hedge"]}
    )
    more |= {"thread_pool": 2} if colour == "def" else {}
    shaped = shapes(lambda: "real")
    protected = together(f"all-{colour[0]}", **more)(shaped[colour])
    kinds = pipeline_of(protected).order
    assert list(kinds) == sorted(kinds, key=ORDER.index)
    assert set(ORDER) - set(kinds) <= {"level", "load_balancer", "timeout", "hedge", "attempt_timeout"}
    assert answer(protected) == "real"


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_CO1_a_call_is_charged_once_and_the_breaker_sees_each_attempt(colour: str) -> None:
    name = f"charged-{colour[0]}"

    def fails() -> str:
        raise Unavailable("down")

    retry = {"attempts": 3, "first_wait": 0.0001}
    protected = together(name, retry=retry, breaker={"consecutive": 100})(shapes(fails)[colour])
    with measured() as seen:
        assert [answer(protected) for _ in range(4)] == ["static"] * 4
    assert seen.count("rate_limiter.requests", policy_name=name, result="acquired") == 4
    assert seen.count("circuit_breaker.calls", policy_name=name, result="failure") == 12
    assert seen.count("operation.duration", resource=name, outcome="degraded") == 4
    assert seen.count("operation.duration", resource=name) == 4


def test_CO1_breaker_calls_are_the_attempts_less_those_that_a_bulkhead_outside_it_refused() -> None:
    bulkhead = Bulkhead("outside", max_concurrent=1)
    attempts: list[int] = []

    class Counting(Bulkhead):
        """A bulkhead outside that counts what comes to it."""

        def wrap(self, call: Any, target: Any) -> Any:
            inner = super().wrap(call, target)

            def counted(*args: Any, **kwargs: Any) -> Any:
                attempts.append(1)
                return inner(*args, **kwargs)

            return counted

    outside = Counting("outside", max_concurrent=1)
    pipeline = Pipeline("outside", outside, CircuitBreaker("outside"), order=["retry", "bulkhead", "circuit_breaker"])
    work = pipeline(lambda: "real")
    with measured() as seen:
        assert work() == "real"
        with outside.admission():
            for _ in range(3):
                with pytest.raises(Rejected):
                    work()
    assert bulkhead.in_use == 0
    assert seen.count("circuit_breaker.calls", policy_name="outside") == len(attempts) - 3 == 1


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_CO1_no_permit_is_held_between_attempts_and_an_open_breaker_is_not_asked_again(colour: str) -> None:
    bulkhead = Bulkhead("backoff", max_concurrent=1)
    breaker = CircuitBreaker("backoff", consecutive=1)
    held: list[int] = []

    def sleep(seconds: float) -> None:
        held.append(bulkhead.in_use)

    async def sleep_async(seconds: float) -> None:
        held.append(bulkhead.in_use)

    runs: list[int] = []

    def fails() -> str:
        runs.append(bulkhead.in_use)
        raise Unavailable("down")

    retry = Retry("backoff", attempts=5, sleep=sleep, sleep_async=sleep_async)
    with pytest.raises(Unavailable):
        answer(Pipeline("backoff", retry, bulkhead)(shapes(fails)[colour]))
    assert (runs, held) == ([1] * 5, [0] * 4)
    runs.clear()
    with pytest.raises(CircuitOpen):
        answer(Pipeline("backoff", retry, bulkhead, breaker)(shapes(fails)[colour]))
    assert len(runs) == 1


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_CO3_BH3_the_fallback_runs_once_outside_retry_knows_the_refusal_and_keeps_the_context(colour: str) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="lost")
    seen: list[tuple[str, str]] = []

    def fails() -> str:
        seen.append(("attempt", tenant.get()))
        raise Unavailable("down")

    def static(*, refusal: Exception) -> str:
        seen.append((str(refusal), tenant.get()))
        raise LookupError("no copy either")

    name = f"once-{colour[0]}"
    protected = together(name, fallback=static, retry={"attempts": 3, "first_wait": 0.0001})(shapes(fails)[colour])

    def call() -> None:
        tenant.set("shop")
        with pytest.raises(LookupError) as failure:
            answer(protected)
        assert isinstance(failure.value.__cause__, Unavailable)

    contextvars.copy_context().run(call)
    assert seen == [("attempt", "shop")] * 3 + [("down", "shop")]


def test_CO3_the_fallback_answers_for_every_policy_that_refuses() -> None:
    shut: list[tuple[str, Any, Callable[[Any], Any]]] = [
        ("limit", RateLimit("shut", rate="1/day"), lambda policy: Pipeline("drain", policy)(lambda: "drained")()),
        ("breaker", CircuitBreaker("shut"), lambda policy: policy.force_open()),
        ("bulkhead", Bulkhead("shut", max_concurrent=1), lambda policy: policy.admission().__enter__()),
    ]
    for word, policy, shut_it in shut:
        seen: list[Exception] = []

        def static(*, refusal: Exception, seen: list[Exception] = seen) -> str:
            seen.append(refusal)
            return "static"

        protected = Pipeline("shut", policy, Fallback("shut", answer=static))(lambda: "real")
        shut_it(policy)
        assert protected() == "static", word
        assert [isinstance(each, Rejected) for each in seen] == [True]


def test_a_switch_that_is_off_is_answered_by_the_fallback_of_the_pipeline_and_charges_nothing() -> None:
    switches = Switches.connect("memory://", defaults={"feed": False}, interval=None)
    protected = protect("off", switch="feed", switches=switches, fallback="static", limit="1/day")(lambda: "real")
    with measured() as seen:
        assert [protected(), protected()] == ["static", "static"]
    assert seen.count("rate_limiter.requests", policy_name="off") == 0
    assert seen.count("operation.duration", resource="off", outcome="degraded") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bulkhead": 0}, "at least 1"),
        ({"retry": "often"}, "number of attempts"),
        ({"breaker": {"rate": 1}}, "known: "),
        ({"hedge": 0.1}, "idempotent"),
        ({"timeout": 1.0}, "thread_pool"),
        ({"attempt_timeout": -1}, "attempt_timeout of 'wrong'"),
        ({"breaker": Bulkhead("wrong")}, "takes a policy of kind 'circuit_breaker'"),
        ({"limit": Bulkhead("wrong")}, "written like|limit"),
        ({"limit": {"rate": "1/second"}, "key": "x"}, "in the table"),
    ],
)
def test_mistakes_in_policies_are_found_at_decoration(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        protect("wrong", **options)(lambda: 1)


def test_protect_shares_policy_objects_among_functions() -> None:
    breaker, limit = CircuitBreaker("shared-object"), RateLimit("shared-object", rate="1/day")
    first = protect("one", breaker=breaker, limit=limit)(lambda: 1)
    second = protect("two", breaker=breaker, limit=limit, bulkhead=False, retry=None)(lambda: 2)
    assert pipeline_of(second).order == ("operation", "rate_limiter", "circuit_breaker")
    assert first() == 1
    with pytest.raises(Rejected):
        second()
    tabled = protect("three", limit={"rate": "1/day", "key": "{a}"})(lambda a: a)
    assert [tabled(1), tabled(2)] == [1, 2]
    with pytest.raises(Rejected):
        tabled(a=1)


def test_OT9_a_breaker_that_opens_in_a_pipeline_is_a_log_event(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ConnectionError

    protected = protect("event", breaker={"consecutive": 2})(fails)
    with caplog.at_level("WARNING", "backstay.resilience"):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                protected()
    names = [getattr(record, "event_name", None) for record in caplog.records]
    assert names == ["backstay.circuit_breaker.state_changed"]
    assert "'event': closed -> open" in caplog.text
