"""`protect` on every kind of callable, in both colours; mistakes are found at decoration (CO-3, AS-2, AS-3, IN-3)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from backstay.errors import Degraded, Misuse, OutcomeUnknown, RateLimited, Rejected, Unavailable
from backstay.resilience import AsyncRateLimiter, Rate, RateLimiter, Switches, protect
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.testing import measured

SLOW = "2/day"


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of either colour."""
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def coloured(colour: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of that colour with the signature of `household_id, note`."""
    if colour == "def":

        def plain(household_id: int = 0, *, note: str = "") -> Any:
            return body(household_id, note)

        return plain

    async def asynchronous(household_id: int = 0, *, note: str = "") -> Any:
        await asyncio.sleep(0)
        return body(household_id, note)

    return asynchronous


@pytest.fixture(params=["def", "async def"])
def colour(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A resource name of the test's own: limiters of one name are one limiter."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:100]


def test_a_limit_refuses_and_says_when(colour: str, name: str) -> None:
    calls: list[int] = []
    purchase = protect(name, limit=SLOW)(coloured(colour, lambda household_id, note: calls.append(household_id)))
    call(purchase, 1)
    call(purchase, 2)
    with pytest.raises(RateLimited) as refusal:
        call(purchase, 3)
    assert calls == [1, 2]
    assert refusal.value.retry_after == pytest.approx(43_200, abs=5)


@pytest.mark.parametrize("key", ["household:{household_id}", lambda household_id, note="": f"h{household_id}"])
def test_a_key_gives_each_its_bucket(colour: str, name: str, key: Any) -> None:
    purchase = protect(name, limit="1/day", key=key)(coloured(colour, lambda household_id, note: household_id))
    assert [call(purchase, 1), call(purchase, household_id=2)] == [1, 2]
    for arguments in ((1,), (2,)):
        with pytest.raises(RateLimited):
            call(purchase, *arguments)


def test_cost_is_charged_once_a_call(colour: str, name: str) -> None:
    buckets = MemoryBuckets(Rate.of("10/day"), clock_ns=lambda: 0)
    limiter: RateLimiter | AsyncRateLimiter = (
        RateLimiter(buckets, name=name) if colour == "def" else AsyncRateLimiter(buckets, name=name)
    )
    purchase = protect(name, limit=limiter, cost=4)(coloured(colour, lambda household_id, note: None))
    call(purchase)
    call(purchase)
    with pytest.raises(RateLimited):
        call(purchase)
    assert call(limiter.try_acquire, cost=2).remaining == 0


def test_a_blocking_limiter_in_memory_serves_async_code_too(name: str) -> None:
    limiter = RateLimiter(MemoryBuckets(Rate.of("1/day")), name=name)
    purchase = protect(name, limit=limiter)(coloured("async def", lambda household_id, note: "done"))
    assert call(purchase) == "done"
    with pytest.raises(RateLimited):
        call(purchase)


def test_a_switch_that_is_off_refuses_before_anything_is_charged(colour: str, name: str) -> None:
    switches = Switches.connect("memory://", defaults={"catalogue": True}, interval=None)
    guarded = protect(name, limit="1/day", switch="catalogue", switches=switches)(
        coloured(colour, lambda household_id, note: "real")
    )
    switches.override("catalogue", False, reason="stock database down")
    for _ in range(3):
        with pytest.raises(Degraded, match="stock database down"):
            call(guarded)
    switches.override("catalogue", None)
    assert call(guarded) == "real"


@pytest.mark.parametrize("value", [None, [], {"products": []}, 0])
def test_a_value_answers_while_the_switch_is_off(colour: str, name: str, value: Any) -> None:
    switches = Switches.connect("memory://", defaults={"catalogue": False}, interval=None)
    guarded = switches.degradable("catalogue", fallback=value)(coloured(colour, lambda household_id, note: "real"))
    assert call(guarded) == value
    switches.override("catalogue", True)
    assert call(guarded) == "real"


def test_a_fallback_gets_the_arguments_and_the_refusal(colour: str, name: str) -> None:
    seen: list[Exception] = []

    def static(household_id: int = 0, *, note: str = "", refusal: Exception) -> str:
        seen.append(refusal)
        return f"static {household_id} {note}"

    guarded = protect(name, limit="1/day", fallback=static)(coloured(colour, lambda household_id, note: "real"))
    assert call(guarded, 1) == "real"
    assert call(guarded, 7, note="n") == "static 7 n"
    assert [type(refusal) for refusal in seen] == [RateLimited]


@pytest.mark.parametrize("raised", [Unavailable("down"), Rejected("no"), Degraded("off")])
def test_CO3_the_fallback_answers_refusals_and_unavailable_dependencies(
    colour: str, name: str, raised: Exception
) -> None:
    answers: list[str] = []

    def body(household_id: int, note: str) -> None:
        raise raised

    def static(*args: Any, **kwargs: Any) -> str:
        answers.append("once")
        return "static"

    assert call(protect(name, fallback=static)(coloured(colour, body))) == "static"
    assert answers == ["once"]


@pytest.mark.parametrize(
    "raised",
    [OutcomeUnknown("it may have happened"), ValueError("a bug"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()],
)
def test_AS3_the_fallback_hides_nothing_else(colour: str, name: str, raised: BaseException) -> None:
    def body(household_id: int, note: str) -> None:
        raise raised

    guarded = protect(name, fallback="static")(coloured(colour, body))

    def go() -> None:
        started: Any = guarded()
        started.send(None)  # by hand: asyncio.run has its own way with these exceptions
        started.send(None)

    with pytest.raises(type(raised)):
        go()


def test_AS3_a_cancellation_passes_and_is_counted_as_one(name: str) -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(protect(name, limit=SLOW, fallback="static")(work)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with measured() as seen:
        asyncio.run(main())
    assert seen.count("operation.duration", resource=name, outcome="cancelled") == 1
    assert seen.count("operation.active", resource=name) == 0


def test_CO3_an_error_in_the_fallback_carries_the_refusal(colour: str, name: str) -> None:
    def static(household_id: int = 0, *, note: str = "") -> None:
        raise LookupError("no static copy")

    def body(household_id: int, note: str) -> None:
        raise Unavailable("down")

    with pytest.raises(LookupError) as failure:
        call(protect(name, fallback=static)(coloured(colour, body)))
    assert isinstance(failure.value.__cause__, Unavailable)


def test_an_async_fallback_is_awaited(name: str) -> None:
    async def static(household_id: int = 0, *, note: str = "") -> str:
        await asyncio.sleep(0)
        return "static"

    switches = Switches.connect("memory://", defaults={"a": False}, interval=None)
    guarded = protect(name, limit="1/day", switch="a", switches=switches, fallback=static)(
        coloured("async def", lambda household_id, note: "real")
    )
    assert call(guarded) == "static"
    switches.override("a", True)
    assert [call(guarded), call(guarded)] == ["real", "static"]


def test_fallback_on_chooses_the_errors(colour: str, name: str) -> None:
    def body(household_id: int, note: str) -> None:
        raise LookupError

    guarded = protect(name, fallback="static", fallback_on=(LookupError,), limit="1/day")(coloured(colour, body))
    assert call(guarded) == "static"
    with pytest.raises(RateLimited):
        call(guarded)


def test_golden_signals_every_call_is_counted_once_under_its_outcome(colour: str, name: str) -> None:
    def body(household_id: int, note: str) -> str:
        if note == "bug":
            raise LookupError
        if note == "refuse":
            raise Rejected("no")
        return "real"

    guarded = protect(name, limit="4/day")(coloured(colour, body))
    degraded = protect(name, limit=RateLimiter(MemoryBuckets(Rate.of("1/day")), name=name), fallback="static")(
        coloured("def", body)
    )
    with measured() as seen:
        for note in ("", "", "bug", "refuse", "limited", "limited"):
            try:
                call(guarded, note=note)
            except (LookupError, Rejected):
                pass
        assert [degraded(), degraded()] == ["real", "static"]
    outcomes = {
        outcome: seen.count("operation.duration", resource=name, outcome=outcome)
        for outcome in ("ok", "error", "rejected", "degraded", "cancelled")
    }
    assert outcomes == {"ok": 3, "error": 1, "rejected": 3, "degraded": 1, "cancelled": 0}
    assert seen.count("operation.duration", resource=name) == 8
    assert seen.count("operation.duration", resource=name, error_type="LookupError") == 1
    assert seen.count("operation.active", resource=name) == 0
    results = {
        result: seen.count("rate_limiter.requests", policy_name=name, result=result)
        for result in ("acquired", "limited")
    }
    assert results == {"acquired": 5, "limited": 3}


class Till:
    """Methods of all kinds."""

    @protect("till.instance", limit="1000/second", key="{self.number}:{household_id}")
    def sell(self, household_id: int) -> int:
        return household_id

    number = 3

    @classmethod
    @protect("till.class", limit="1000/second")
    def of_class(cls, household_id: int) -> str:
        return f"{cls.__name__} {household_id}"

    @staticmethod
    @protect("till.static", limit="1000/second")
    async def of_nobody(household_id: int) -> int:
        return household_id


class Sells:
    """Callable objects."""

    def __call__(self, household_id: int) -> int:
        return household_id


class SellsAsync:
    async def __call__(self, household_id: int) -> int:
        return household_id


@protect("module.level", limit="1000/second", key="{household_id}")
def module_level(household_id: int, /, note: str = "n", *rest: int, flag: bool = False, **more: int) -> str:
    """Sell."""
    return f"{household_id}{note}{rest}{flag}{more}"


def test_AS2_methods_partials_and_callable_objects_work() -> None:
    assert Till().sell(7) == 7
    assert Till.of_class(7) == "Till 7"
    assert asyncio.run(Till.of_nobody(7)) == 7
    assert protect("t", limit="1000/second")(Sells())(7) == 7
    partial = functools.partial(module_level, 7, note="p")
    assert protect("t", limit="1000/second")(partial)(flag=True) == "7p()True{}"
    for asynchronous in (SellsAsync(), functools.partial(SellsAsync(), 7), functools.partial(Till.of_nobody, 7)):
        protected = protect("t", limit="1000/second")(asynchronous)
        assert inspect.iscoroutinefunction(protected)
        assert asyncio.run(protected(*() if isinstance(asynchronous, functools.partial) else (7,))) == 7


def test_IN3_name_signature_documentation_colour_and_pickling_survive() -> None:
    assert module_level(1, "a", 2, 3, flag=True, x=4) == "1a(2, 3)True{'x': 4}"
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Sell."
    assert str(inspect.signature(module_level)).startswith("(household_id: 'int', /, note: 'str' = 'n', *rest")
    assert not inspect.iscoroutinefunction(module_level)
    assert inspect.iscoroutinefunction(Till.of_nobody)
    assert inspect.iscoroutinefunction(protect("c")(coloured("async def", lambda household_id, note: None)))
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def generator(household_id: int) -> Iterator[int]:
    yield household_id


async def async_generator(household_id: int) -> AsyncIterator[int]:
    yield household_id


class Generates:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("wrong", [generator, async_generator, Generates(), functools.partial(generator, 1)])
def test_AS2_a_policy_that_cannot_go_round_a_generator_is_refused_at_decoration(wrong: Any) -> None:
    with pytest.raises(Misuse, match="generator"):
        protect("g", limit=SLOW, fallback=None)(wrong)


def test_AS2_a_generator_is_charged_when_its_first_item_is_asked_for(name: str) -> None:
    limited = protect(name, limit="1/day")(generator)
    idle = limited(7)
    assert list(limited(8)) == [8]
    with pytest.raises(RateLimited):
        next(idle)


@pytest.mark.parametrize("wrong", [classmethod(lambda cls: 1), staticmethod(lambda: 1), Till, 7, None, "name"])
def test_AS2_what_is_no_function_is_refused_at_decoration(wrong: Any) -> None:
    with pytest.raises(Misuse):
        protect("g", limit=SLOW)(wrong)


def test_AS2_a_plain_function_that_returns_a_coroutine_is_found_out(name: str) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    with pytest.raises(Misuse, match="returned a coroutine"):
        protect(name)(functools.partial(lambda make: make(), work))()


def takes_two(a: int, b: int) -> int:
    return a + b


SWITCHES = Switches.connect("memory://", defaults={"known": True}, interval=None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"limit": "100/fortnite"}, "known: second"),
        ({"limit": 100}, "written like"),
        ({"limit": SLOW, "key": "x:{c}"}, "has: a, b"),
        ({"limit": SLOW, "key": "x:{}"}, "must name a parameter"),
        ({"limit": SLOW, "key": ""}, "must not be empty"),
        ({"limit": SLOW, "key": 7}, "template"),
        ({"key": "x:{a}"}, "without a limit"),
        ({"limit": SLOW, "cost": 3}, "burst of 2"),
        ({"limit": SLOW, "cost": 0}, "burst of 2"),
        ({"limit": SLOW, "store": "nosuch://x"}, "known:"),
        ({"limit": SLOW, "store": "redis"}, "backend URL"),
        ({"limit": SLOW, "namespace": "a b"}, "namespace"),
        ({"limit": SLOW, "on_store_failure": "ajar"}, "'open', 'closed' or 'local'"),
        ({"switch": "known"}, "go together"),
        ({"switches": SWITCHES}, "go together"),
        ({"switch": "unknown", "switches": SWITCHES}, "known: known"),
        ({"fallback": lambda a: 1}, "does not take 'b'"),
        ({"fallback": lambda b, a: 1}, "does not take 'a'"),
        ({"fallback": lambda a, b, c: 1}, "needs 'c'"),
        ({"fallback": async_generator}, "does not take"),
        ({"fallback": coloured("async def", lambda household_id, note: 1)}, "async def"),
        ({"fallback": 1, "fallback_on": (OutcomeUnknown,)}, "OutcomeUnknown"),
        ({"fallback": 1, "fallback_on": (KeyboardInterrupt,)}, "exception classes"),
        ({"fallback": 1, "fallback_on": (asyncio.CancelledError,)}, "exception classes"),
    ],
)
def test_mistakes_are_found_when_the_module_is_imported(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        protect("mistakes", **options)(takes_two)


def test_a_remote_blocking_limiter_is_refused_on_an_async_function() -> None:
    limiter = RateLimiter.connect("redis://127.0.0.1:1/0", rate=SLOW, name="remote")
    with pytest.raises(Misuse, match="AsyncRateLimiter"):
        protect("remote", limit=limiter)(coloured("async def", lambda household_id, note: 1))
    with pytest.raises(Misuse, match="RateLimiter"):
        protect("remote", limit=AsyncRateLimiter.connect("redis://127.0.0.1:1/0", rate=SLOW, name="remote"))(takes_two)


def test_forgotten_parentheses_are_told() -> None:
    with pytest.raises(Misuse, match="resource's name first"):
        protect(takes_two)  # type: ignore[arg-type]  # the mistake that is tested


def test_a_name_in_use_with_another_rate_is_refused() -> None:
    kept = RateLimiter.connect(rate="5/day", name="in-use")
    with pytest.raises(Misuse, match="exists in this process with 5 per 86400 second"):
        protect("in-use", limit="6/day")(takes_two)
    assert protect("in-use", limit="5/day;burst=5")(takes_two)(1, 2) == 3
    assert kept.try_acquire().remaining == 3
