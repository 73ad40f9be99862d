"""What answers in place of a call, when, and how often (CO-3)."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from backstay.errors import (
    BreakerOpen,
    BulkheadFull,
    Degraded,
    Misuse,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Unavailable,
)
from backstay.resilience import Switches
from backstay.resilience.fallback import Fallback, FallbackSettings
from backstay.resilience.policy import compose, target_of
from backstay.resilience.switches.policy import SwitchPolicy
from backstay.testing import measured

COLOURS = ("def", "async def")
TENANT = contextvars.ContextVar("tenant", default="nobody")


class Answered(TimeoutError, OutcomeUnknown):
    """As a timeout of a call is: what it did is unknown."""


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def failing(colour: str, error: BaseException | None = None, result: Any = "real") -> Callable[..., Any]:
    def plain(product_id: int = 0) -> Any:
        if error is not None:
            raise error
        return result

    async def asynchronous(product_id: int = 0) -> Any:
        await asyncio.sleep(0)
        return plain(product_id)

    return plain if colour == "def" else asynchronous


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.mark.parametrize("value", [None, [], {"products": []}, 0, "static"])
def test_a_value_answers_and_a_good_call_is_left_alone(colour: str, value: Any) -> None:
    fallback = Fallback("catalogue", answer=value)
    assert call(fallback(failing(colour, Unavailable("down")))) == value
    assert call(fallback(failing(colour))) == "real"


def test_CO3_it_answers_once_and_knows_which_policy_refused(colour: str) -> None:
    refusal = RateLimited("no tokens", retry_after=3)
    seen: list[tuple[int, Exception]] = []

    def static(product_id: int = 0, *, refusal: Exception) -> str:
        seen.append((product_id, refusal))
        return "static"

    assert call(Fallback("catalogue", answer=static)(failing(colour, refusal)), 7) == "static"
    assert seen == [(7, refusal)]


def test_CO3_an_error_in_the_answer_keeps_the_refusal_as_its_cause(colour: str) -> None:
    refusal = Unavailable("down")

    def static(product_id: int = 0) -> None:
        raise LookupError("no static copy")

    with pytest.raises(LookupError) as failure:
        call(Fallback("catalogue", answer=static)(failing(colour, refusal)))
    assert failure.value.__cause__ is refusal


def test_CO3_a_cause_that_the_answer_gives_itself_is_left(colour: str) -> None:
    root = OSError("disk")

    def static(product_id: int = 0) -> None:
        raise LookupError from root

    with pytest.raises(LookupError) as failure:
        call(Fallback("catalogue", answer=static)(failing(colour, Unavailable("down"))))
    assert failure.value.__cause__ is root


def test_BH3_the_answer_is_made_in_the_callers_context(colour: str) -> None:
    def static(product_id: int = 0) -> str:
        return TENANT.get()

    async def request() -> Any:
        TENANT.set("blue")
        result = Fallback("catalogue", answer=static)(failing(colour, Unavailable("down")))()
        return await result if inspect.isawaitable(result) else result

    assert asyncio.run(request()) == "blue"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("on", [(Exception,), (Rejected, Unavailable)])
def test_AS3_cancellation_and_exit_are_never_answered(colour: str, error: BaseException, on: Any) -> None:
    guarded = Fallback("catalogue", answer="static", on=on)(failing(colour, error))
    with pytest.raises(type(error)):
        started = guarded()
        started.send(None)
        started.send(None)


@pytest.mark.parametrize("error", [OutcomeUnknown("?"), Answered("late")])
@pytest.mark.parametrize("on", [(Exception,), (Rejected, Unavailable), (TimeoutError,)])
def test_an_unknown_outcome_is_answered_only_for_reads(colour: str, error: Exception, on: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        call(Fallback("pay", answer="static", on=on)(failing(colour, error)))
    assert call(Fallback("pay", answer="static", on=on, read_only=True)(failing(colour, error))) == "static"


def test_misuse_is_never_answered(colour: str) -> None:
    with pytest.raises(Misuse):
        call(Fallback("catalogue", answer="static", on=(Exception,))(failing(colour, Misuse("a programmer is needed"))))


def test_on_takes_names_as_documents_give_them(colour: str) -> None:
    settings = FallbackSettings.of({"answer": "static", "on": ["RateLimited", "ConnectionError"]})
    assert settings.on == (RateLimited, ConnectionError)
    guarded = Fallback("catalogue", settings=settings)
    assert call(guarded(failing(colour, ConnectionResetError()))) == "static"
    with pytest.raises(Degraded):
        call(guarded(failing(colour, Degraded("off"))))


def test_settings_are_a_value_a_mapping_or_themselves() -> None:
    settings = FallbackSettings(answer=[])
    assert FallbackSettings.of(settings) is settings
    assert FallbackSettings.of([1]).answer == [1]
    assert FallbackSettings.of({"answer": {"a": 1}}).answer == {"a": 1}
    cached = FallbackSettings.of({"cached": {"max_stale": 60, "key": "p:{product_id}"}})
    assert cached.cached is not None
    assert (cached.cached.max_stale, cached.read_only) == (60.0, True)


def plain_answer(other: int) -> int:
    return other


async def async_answer(product_id: int = 0) -> int:
    return product_id


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs an answer"),
        ({"answer": 1, "on": (KeyboardInterrupt,)}, "exception classes"),
        ({"answer": 1, "on": (asyncio.CancelledError,)}, "exception classes"),
        ({"answer": 1, "on": (OutcomeUnknown,)}, "read_only=True"),
        ({"answer": 1, "on": (Answered,)}, "read_only=True"),
        ({"answer": 1, "on": ("NoSuch",)}, "known: .*BreakerOpen"),
        ({"answer": 1, "on": 7}, "exception classes"),
        ({"answer": 1, "read_only": "yes"}, "True or False"),
        ({"answer": 1, "settings": FallbackSettings(answer=2)}, "not both"),
        ({"answer": plain_answer}, "does not take 'product_id'"),
        ({"answer": async_answer}, "async def"),
    ],
)
def test_mistakes_are_found_when_the_module_is_imported(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        Fallback("catalogue", **options)(failing("def"))


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"anwser": 1}, "no setting 'anwser'; known: answer, cached, on, read_only"),
        ({"cached": {"max_stale": 0}}, "above 0 s"),
        ({"cached": {}}, "needs 'max_stale'"),
        ({"cached": {"max_stale": 1, "max_entries": 0}}, "at least 1"),
        ({"cached": {"max_stale": 1, "key": ""}}, "must not be empty"),
        ({"cached": {"max_stale": 1, "key": 7}}, "template"),
        ({"cached": {"max_stale": 1, "present": 7}}, "present"),
        ({"cached": 60}, "max_stale"),
    ],
)
def test_mistakes_in_a_document_are_told(document: dict[str, Any], told: str) -> None:
    with pytest.raises(Misuse, match=told):
        FallbackSettings.of(document)


def test_a_name_is_needed() -> None:
    with pytest.raises(Misuse, match="needs its name first"):
        Fallback(7, answer=1)  # type: ignore[arg-type]  # the mistake that is tested


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("stream", [generator, async_generator])
def test_AS2_streams_are_refused_clearly(stream: Any) -> None:
    with pytest.raises(Misuse, match=r"fallback .*generator function"):
        Fallback("catalogue", answer=1)(stream)


def test_live_change_answers_otherwise_and_a_change_that_does_not_fit_changes_nothing(colour: str) -> None:
    fallback = Fallback("catalogue", answer="first")
    limited, broken = fallback(failing(colour, RateLimited("no"))), fallback(failing(colour, BreakerOpen("no")))
    fallback.reconfigure(FallbackSettings(answer="second", on=(RateLimited,)))
    assert call(limited) == "second"
    with pytest.raises(BreakerOpen):
        call(broken)
    with pytest.raises(Misuse, match="does not take"):
        fallback.reconfigure(FallbackSettings(answer=plain_answer))
    assert call(limited) == "second"
    assert fallback.settings.answer == "second"


def test_a_call_that_began_before_a_change_ends_by_the_settings_that_it_began_with() -> None:
    fallback = Fallback("catalogue", answer="first")

    @fallback
    def changing() -> str:
        fallback.reconfigure(FallbackSettings(answer="second", on=(LookupError,)))
        raise Unavailable("down")

    assert changing() == "first"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (RateLimited("no"), "rate_limiter"),
        (BreakerOpen("no"), "circuit_breaker"),
        (BulkheadFull("no"), "bulkhead"),
        (Degraded("no"), "degrade"),
        (Rejected("no"), "other"),
        (Unavailable("down"), "dependency"),
        (OutcomeUnknown("?"), "unknown"),
        (LookupError("bug"), "error"),
    ],
)
def test_golden_signals_answers_are_counted_by_what_refused(colour: str, error: Exception, word: str) -> None:
    name = f"counted-{colour}-{word}"

    def broken(product_id: int = 0) -> None:
        raise ZeroDivisionError

    def fallback(answer: Any) -> Fallback:
        return Fallback(name, answer=answer, on=(Exception,), read_only=True)

    with measured() as seen:
        call(fallback("static")(failing(colour, error)))
        with pytest.raises(ZeroDivisionError):
            call(fallback(broken)(failing(colour, error)))
        call(fallback("static")(failing(colour)))
    for result in ("served", "failed"):
        assert seen.count("fallback.answers", policy_name=name, result=result, refused_by=word) == 1
    assert seen.count("fallback.answers", policy_name=name, policy_type="fallback") == 2


def test_a_switch_shares_what_is_kept() -> None:
    switches = Switches.connect("memory://", defaults={"catalogue": True}, interval=None)
    fallback = Fallback.cached("catalogue", max_stale=60, key="{product_id}")
    target = target_of(failing("def"), "catalogue")
    guarded = compose([SwitchPolicy(switches, "catalogue", fallback), fallback], target)
    assert guarded(product_id=1) == "real"
    switches.override("catalogue", False, reason="database down")
    assert guarded(product_id=1) == "real"
    with pytest.raises(Degraded, match="database down"):
        guarded(product_id=2)
