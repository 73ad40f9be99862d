"""The last good answer: whose, how old, how many (CO-3)."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.resilience.fallback import CacheSettings, Fallback, FallbackSettings
from backstay.resilience.fallback.cache import LastGood
from backstay.testing import ManualClock, measured


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


class Backend:
    """What is read: answers until it is told to fail."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.answers: dict[int, Any] = {}
        self.error: Exception | None = None

    def read(self) -> Callable[..., Any]:
        def plain(product_id: int) -> Any:
            if self.error is not None:
                raise self.error
            return self.answers[product_id]

        async def asynchronous(product_id: int) -> Any:
            await asyncio.sleep(0)
            return plain(product_id)

        return plain if self.colour == "def" else asynchronous


@pytest.fixture(params=["def", "async def"])
def backend(request: pytest.FixtureRequest) -> Backend:
    assert isinstance(request.param, str)
    return Backend(request.param)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_the_last_good_answer_of_the_same_key_is_served_until_it_is_too_old(
    backend: Backend, clock: ManualClock
) -> None:
    fallback = Fallback.cached("catalogue", max_stale=60, key="product:{product_id}", clock=clock)
    read = fallback(backend.read())
    backend.answers = {1: "one", 2: "two"}
    assert [call(read, 1), call(read, 2)] == ["one", "two"]
    backend.answers[1] = "uno"
    assert call(read, 1) == "uno"
    backend.error = Unavailable("down")
    clock.advance(60)
    assert [call(read, 1), call(read, product_id=2)] == ["uno", "two"]
    clock.advance(0.001)
    with pytest.raises(Unavailable):
        call(read, 1)


def test_what_was_never_read_is_answered_otherwise_or_not_at_all(backend: Backend) -> None:
    backend.error = Unavailable("down")
    alone = Fallback.cached("a", max_stale=60, key="{product_id}")(backend.read())
    with pytest.raises(Unavailable) as failure:
        call(alone, 1)
    assert failure.value is backend.error
    chained = Fallback.cached("b", max_stale=60, key="{product_id}", answer="static")(backend.read())
    assert call(chained, 1) == "static"


def test_none_is_an_answer_like_any_other(backend: Backend) -> None:
    read = Fallback.cached("catalogue", max_stale=60, key="{product_id}")(backend.read())
    backend.answers = {1: "here"}
    call(read, 1)
    backend.answers = {1: None}  # it is gone now, and the outage must not bring it back
    call(read, 1)
    backend.error = Unavailable("down")
    assert call(read, 1) is None


def test_a_failed_call_replaces_nothing(backend: Backend) -> None:
    read = Fallback.cached("catalogue", max_stale=60, key="{product_id}", on=(LookupError,))(backend.read())
    backend.answers = {1: "one"}
    call(read, 1)
    backend.error = Unavailable("not named in on=")
    with pytest.raises(Unavailable):
        call(read, 1)
    backend.error = LookupError()
    assert call(read, 1) == "one"


def test_a_timeout_of_a_read_is_answered(backend: Backend) -> None:
    read = Fallback.cached("catalogue", max_stale=60, key="{product_id}")(backend.read())
    backend.answers = {1: "one"}
    call(read, 1)
    backend.error = OutcomeUnknown("no reply in time")
    assert call(read, 1) == "one"


def test_the_age_is_counted_from_before_the_call_and_shown(clock: ManualClock) -> None:
    shown: list[tuple[Any, float]] = []
    fallback = Fallback.cached(
        "catalogue", max_stale=60, present=lambda answer, age: shown.append((answer, age)) or "shown", clock=clock
    )
    down = False

    @fallback
    def read() -> str:
        if down:
            raise Unavailable("down")
        clock.advance(5)  # what it says may have been read at its very start
        return "answer"

    assert read() == "answer"
    down = True
    clock.advance(2)
    assert read() == "shown"
    assert shown == [("answer", 7.0)]


def test_a_slow_call_does_not_put_an_old_answer_over_a_newer_one() -> None:
    kept = LastGood(10)
    kept.keep("k", "new", 5.0)
    kept.keep("k", "old", 4.0)
    assert kept.last("k") == ("new", 5.0)
    kept.keep("k", "newest", 5.0)
    assert kept.last("k") == ("newest", 5.0)


def test_a_key_is_needed_where_there_are_arguments(backend: Backend) -> None:
    with pytest.raises(Misuse, match="whose answer is kept"):
        Fallback.cached("catalogue", max_stale=60)(backend.read())
    with pytest.raises(Misuse, match="it has: product_id"):
        Fallback.cached("catalogue", max_stale=60, key="{household}")(backend.read())
    by_function = Fallback.cached("catalogue", max_stale=60, key=lambda product_id: f"p{product_id}")(backend.read())
    backend.answers = {1: "one"}
    call(by_function, 1)
    backend.error = Unavailable("down")
    assert call(by_function, 1) == "one"
    with pytest.raises(Unavailable):
        call(by_function, 2)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=60), st.integers(1, 6))
def test_the_number_of_answers_is_bounded_and_what_is_kept_is_the_last(puts: list[tuple[int, int]], most: int) -> None:
    kept, model = LastGood(most), dict[int, int]()
    for now, (key, value) in enumerate(puts):
        kept.keep(str(key), value, float(now))
        model[key] = value  # a key that is known keeps its place in a dict
        if len(model) > most:
            del model[next(iter(model))]
        assert len(kept) == len(model) <= most
    for key in range(10):
        found = kept.last(str(key))
        assert (None if found is None else found[0]) == model.get(key)


def test_the_bound_holds_under_threads() -> None:
    kept = LastGood(50)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def put(worker: int) -> None:
        for number in range(2000):
            kept.keep(str(number % 97 + worker), number, float(number))

    try:
        threads = [threading.Thread(target=put, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(kept) == 50


def test_live_change_keeps_the_answers_that_fit(backend: Backend, clock: ManualClock) -> None:
    fallback = Fallback.cached("catalogue", max_stale=60, key="{product_id}", clock=clock)
    read = fallback(backend.read())
    backend.answers = {1: "one", 2: "two"}
    call(read, 1), call(read, 2)
    backend.error = Unavailable("down")
    fallback.reconfigure(FallbackSettings(cached=CacheSettings(max_stale=600, max_entries=1, key="{product_id}")))
    clock.advance(300)
    assert call(read, 2) == "two"
    with pytest.raises(Unavailable):
        call(read, 1)
    fallback.reconfigure(FallbackSettings(answer="static"))
    assert call(read, 2) == "static"


def test_golden_signals_every_read_is_counted_under_its_source(backend: Backend, clock: ManualClock) -> None:
    name = f"sources-{backend.colour}"
    alone = Fallback.cached(name, max_stale=60, key="{product_id}", clock=clock)(backend.read())
    chained = Fallback.cached(name, max_stale=60, key="{product_id}", answer="static", clock=clock)(backend.read())
    backend.answers = {1: "one"}
    with measured() as seen:
        call(alone, 1)
        backend.error = Unavailable("down")
        clock.advance(30)
        call(alone, 1)
        with pytest.raises(Unavailable):
            call(alone, 2)
        call(chained, 1)
    counts = {
        source: seen.count("read.results", policy_name=name, policy_type="cache", source=source)
        for source in ("origin", "local_cache", "static", "miss")
    }
    assert counts == {"origin": 1, "local_cache": 1, "static": 1, "miss": 1}
    assert seen.count("fallback.age", policy_name=name) == 1
    assert seen.count("fallback.answers", policy_name=name, result="served") == 2
    assert seen.count("fallback.answers", policy_name=name, result="absent") == 1
