"""The read chain, tier by tier: who answers, from when, and what is never served (DG-6)."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import pytest

from backstay.errors import BreakerOpen, BulkheadFull, Degraded, Misuse, OutcomeUnknown, RateLimited, Unavailable
from backstay.resilience import CircuitBreaker
from backstay.resilience.circuit_breaker import State
from backstay.resilience.read_chain import Answer, LocalTier, ReadChain, ReadSettings, RedisTier, StaticTier, reads
from backstay.testing import ManualClock, measured
from unit.resilience.lua_read_cache import LuaServer
from unit.resilience.read_chains import COLOURS, Origin, answering, called, on_lua

LOCAL = LocalTier(fresh=5, max_stale=600)


@pytest.fixture(params=COLOURS)
def origin(request: pytest.FixtureRequest) -> Origin:
    assert isinstance(request.param, str)
    return Origin(request.param)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def said(answer: Answer[Any]) -> tuple[Any, str, float | None, bool]:
    return answer.value, answer.source, None if answer.age is None else round(answer.age, 3), answer.stale


def test_DG6_each_answer_says_its_source_and_its_age_down_the_whole_chain(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, local=LOCAL, static=StaticTier(answer="static"))
    read = answering(chain, origin.read())
    other_process, _ = on_lua(clock, server=server, local=LOCAL, static=StaticTier(answer="static"))
    read_there = answering(other_process, origin.read())
    assert said(called(read, 1)) == ("product 1", "origin", 0.0, False)
    clock.advance(4)
    assert said(called(read, 1)) == ("product 1", "local_cache", 4.0, False)
    assert said(called(read_there, 1)) == ("product 1", "distributed_cache", 4.0, False)
    clock.advance(25)
    assert said(called(read, 1)) == ("product 1", "distributed_cache", 29.0, False)
    assert origin.asked == [1]
    clock.advance(1)
    origin.error = Unavailable("down")
    assert said(called(read, 1)) == ("product 1", "distributed_cache", 30.0, True)
    server.down = True
    clock.advance(10)
    assert said(called(read, 1)) == ("product 1", "local_cache", 40.0, True)
    clock.advance(559)
    assert said(called(read, 1)) == ("product 1", "local_cache", 599.0, True)
    clock.advance(1)
    assert said(called(read, 1)) == ("static", "static", None, False)
    assert origin.asked == [1, 1, 1, 1, 1]


def test_DG6_max_stale_is_kept_by_each_tier_to_the_microsecond(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, fresh=0, max_stale=60, local=LocalTier(max_stale=10))
    read = answering(chain, origin.read())
    called(read, 1)
    origin.error = Unavailable("down")
    server.down = True
    clock.advance(9.999_999)
    assert called(read, 1).source == "local_cache"
    clock.advance(0.000_001)
    with pytest.raises(Unavailable):
        called(read, 1)
    server.down = False
    clock.advance(40)  # past the breaker's wait
    assert called(read, 1).source == "distributed_cache"
    clock.advance(10)
    with pytest.raises(Unavailable) as failure:
        called(read, 1)
    assert failure.value is origin.error


def test_DG6_the_younger_of_two_old_answers_is_served(clock: ManualClock) -> None:
    origin = Origin()
    chain, server = on_lua(clock, fresh=0, local=LocalTier(max_stale=600))
    elsewhere, _ = on_lua(clock, server=server, fresh=0)
    origin.answers[1] = "old"
    here, there = answering(chain, origin.read()), answering(elsewhere, origin.read())
    here(1)
    clock.advance(10)
    origin.answers[1] = "new"
    there(1)
    origin.error = Unavailable("down")
    assert said(here(1)) == ("new", "distributed_cache", 0.0, True)
    server.down = True
    clock.advance(1)
    assert said(here(1)) == ("new", "local_cache", 1.0, True), "what was looked up is kept here as well"


def test_DG6_an_old_answer_of_the_cache_does_not_replace_a_younger_one_of_the_process(clock: ManualClock) -> None:
    origin = Origin()
    chain, server = on_lua(clock, fresh=0, local=LocalTier(max_stale=600))
    read = answering(chain, origin.read())
    origin.answers[1] = "old"
    read(1)
    clock.advance(10)
    server.down = True
    origin.answers[1] = "new"
    read(1)
    server.down = False
    origin.error = Unavailable("down")
    clock.advance(1)
    assert said(read(1)) == ("new", "local_cache", 1.0, True)


def test_DG6_max_stale_is_that_of_the_reader_whoever_stored_the_answer(clock: ManualClock) -> None:
    origin = Origin()
    patient, server = on_lua(clock, fresh=0, max_stale=3600)
    strict, _ = on_lua(clock, server=server, fresh=0, max_stale=10)
    patient(origin.read())(1)
    origin.error = Unavailable("down")
    clock.advance(9.999)
    assert answering(strict, origin.read())(1).source == "distributed_cache"
    clock.advance(0.001)
    with pytest.raises(Unavailable):
        strict(origin.read())(1)
    assert answering(patient, origin.read())(1).source == "distributed_cache"


def test_DG6_without_fresh_ages_every_read_asks_the_origin_first(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, fresh=0, local=LocalTier(max_stale=600))
    read = answering(chain, origin.read())
    for _ in range(3):
        assert called(read, 1).source == "origin"
    assert origin.asked == [1, 1, 1]
    assert server.trips == 3, "one exchange a read, to keep what was read"


def test_DG6_negative_answers_are_kept_apart_and_for_their_own_time(origin: Origin, clock: ManualClock) -> None:
    local = LocalTier(fresh=5, max_stale=600, max_entries=10, max_absent=3)
    chain, _ = on_lua(clock, local=local, absent_for=20, max_stale=3600, fresh=30)
    read = answering(chain, origin.read())
    for product_id in range(10):
        called(read, product_id)
    origin.answers = dict.fromkeys(range(100, 200))
    for product_id in range(100, 200):
        assert called(read, product_id).absent
    assert len(chain.chain.local or ()) == 13
    origin.asked.clear()
    assert [called(read, each).source for each in range(10)] == ["local_cache"] * 10, "nothing was pushed out"
    assert called(read, 199).source == "local_cache"
    assert called(read, 150).source == "distributed_cache"
    assert origin.asked == []
    clock.advance(20)
    origin.error = Unavailable("down")
    with pytest.raises(Unavailable):
        called(read, 199)
    assert called(read, 1).value == "product 1"


def test_DG6_a_negative_answer_is_newer_than_what_was_there_before(clock: ManualClock) -> None:
    origin = Origin()
    chain, _ = on_lua(clock, local=LocalTier(max_stale=600), fresh=0, absent_for=20)
    read = answering(chain, origin.read())
    read(1)
    origin.answers[1] = None
    clock.advance(1)
    assert read(1).absent
    origin.error = Unavailable("down")
    clock.advance(1)
    assert (read(1).value, read(1).absent) == (None, True)
    clock.advance(30)
    with pytest.raises(Unavailable):
        read(1)  # and the outage does not bring back what is gone


def test_DG6_what_is_gone_does_not_come_back_when_its_negative_answer_made_room(clock: ManualClock) -> None:
    origin = Origin()
    local = LocalTier(max_stale=600, max_absent=1)
    chain = ReadChain("catalogue", local=local, key="{product_id}", absent_for=60, clock=clock)
    read = answering(chain, origin.read())
    read(1)
    clock.advance(1)
    origin.answers = {1: None, 2: None}
    read(1), read(2)
    origin.error = Unavailable("down")
    with pytest.raises(Unavailable):
        read(1)
    assert read(2).absent


def test_what_is_absent_is_for_the_service_to_say(clock: ManualClock) -> None:
    origin = Origin()
    origin.answers = {1: [], 2: [1]}
    chain, _ = on_lua(clock, local=LOCAL, absent=lambda value: value == [], absent_for=2)
    read = answering(chain, origin.read())
    assert [read(1).absent, read(2).absent] == [True, False]
    clock.advance(2.5)
    assert [read(1).source, read(2).source] == ["origin", "local_cache"]


def test_a_predicate_that_raises_costs_nobody_an_answer(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    chain = ReadChain("catalogue", local=LOCAL, key="{product_id}", absent=lambda value: value.nothing, clock=clock)
    assert chain(Origin().read())(1) == "product 1"
    assert "could not judge an answer" in caplog.text


# -- errors


@pytest.mark.parametrize(
    "error", [Unavailable("x"), OutcomeUnknown("x"), RateLimited("x"), ConnectionError("x"), TimeoutError("x")]
)
def test_DG6_what_says_nothing_was_read_leads_down_the_chain(origin: Origin, error: Exception) -> None:
    read = answering(ReadChain("catalogue", local=LocalTier(max_stale=600), key="{product_id}"), origin.read())
    called(read, 1)
    origin.error = error
    assert said(called(read, 1))[:2] == ("product 1", "local_cache")
    with pytest.raises(type(error)) as failure:
        called(read, 2)
    assert failure.value is error


@pytest.mark.parametrize("error", [ValueError("bug"), Misuse("bug"), KeyError("bug")])
def test_a_bug_of_the_origin_is_not_hidden(origin: Origin, error: Exception) -> None:
    read = ReadChain("catalogue", local=LocalTier(max_stale=600), static="x", key="{product_id}")(origin.read())
    called(read, 1)
    origin.error = error
    with measured() as counts, pytest.raises(type(error)):
        called(read, 1)
    assert counts.count("read.results", resource="catalogue", source="miss") == 1


def test_errors_of_a_driver_lead_down_the_chain_where_they_are_named(origin: Origin) -> None:
    chain = ReadChain("catalogue", local=LocalTier(max_stale=600), key="{product_id}", on=(LookupError,))
    read = chain(origin.read())
    called(read, 1)
    origin.error = LookupError("gone")
    assert called(read, 1) == "product 1"
    origin.error = ConnectionError("not named")
    with pytest.raises(ConnectionError):
        called(read, 1)


def test_the_static_answer_knows_why_it_is_asked(origin: Origin) -> None:
    def from_disk(product_id: int, *, refusal: Exception) -> tuple[int, str]:
        return product_id, type(refusal).__name__

    chain = ReadChain("catalogue", static=from_disk, key="{product_id}")
    origin.error = RateLimited("x")
    assert called(chain(origin.read()), 3) == (3, "RateLimited")
    with pytest.raises(Misuse, match="takes arguments"):
        answering(ReadChain("catalogue", static=from_disk), origin.read())


def test_a_static_answer_that_fails_carries_why_it_was_asked(origin: Origin) -> None:
    def broken(product_id: int) -> str:
        raise KeyError(product_id)

    chain = ReadChain("catalogue", static=broken, key="{product_id}")
    origin.error = Unavailable("down")
    with measured() as counts, pytest.raises(KeyError) as failure:
        called(chain(origin.read()), 3)
    assert failure.value.__cause__ is origin.error
    assert counts.count("read.results", resource="catalogue", source="miss") == 1


def test_a_static_answer_of_a_coroutine_function_may_be_one() -> None:
    async def elsewhere(product_id: int) -> str:
        await asyncio.sleep(0)
        return f"https://cdn.example/{product_id}"

    chain = ReadChain("catalogue", static=StaticTier(answer=elsewhere, source="cdn"), key="{product_id}")
    origin = Origin("async def")
    origin.error = Unavailable("down")
    assert said(called(answering(chain, origin.read()), 3)) == ("https://cdn.example/3", "cdn", None, False)
    with pytest.raises(Misuse, match="async def"):
        chain(Origin("def").read())


# -- how far reads go


def test_DG6_a_level_says_how_far_up_reads_go(origin: Origin, clock: ManualClock) -> None:
    word = "origin"
    chain, server = on_lua(clock, local=LOCAL, static=StaticTier(answer="static"), reach=lambda: word)
    read = answering(chain, origin.read())
    called(read, 1)
    elsewhere, _ = on_lua(clock, server=server)
    called(elsewhere(origin.read()), 2)
    clock.advance(60)
    origin.asked.clear()
    trips = server.trips
    word = "distributed_cache"
    assert said(called(read, 1)) == ("product 1", "distributed_cache", 60.0, True)
    assert said(called(read, 2))[:2] == ("product 2", "distributed_cache")
    assert said(called(read, 3))[:2] == ("static", "static")
    assert server.trips == trips + 3
    word = "local_cache"
    assert said(called(read, 1)) == ("product 1", "local_cache", 60.0, True)
    assert said(called(read, 3))[:2] == ("static", "static")
    word = "static"
    assert said(called(read, 1))[:2] == ("static", "static")
    assert server.trips == trips + 3
    assert origin.asked == []
    word = "origin"
    assert said(called(read, 1)) == ("product 1", "origin", 0.0, False)


def test_a_level_that_allows_static_answers_only_is_heard_before_what_is_fresh(origin: Origin) -> None:
    words = ["origin"]
    chain = ReadChain("catalogue", local=LOCAL, static="static", key="{product_id}", reach=lambda: words[0])
    read = chain(origin.read())
    assert [called(read, 1), called(read, 1)] == ["product 1", "product 1"]
    words[0] = "static"
    assert called(read, 1) == "static"
    words[0] = "local_cache"
    assert called(read, 1) == "product 1"


def test_a_level_is_asked_once_a_read(origin: Origin, clock: ManualClock) -> None:
    asked: list[int] = []
    chain, _ = on_lua(clock, local=LOCAL, reach=lambda: asked.append(1) or "origin")
    for read in (chain(origin.read()), answering(chain, origin.read())):
        asked.clear()
        for _ in range(5):
            called(read, 1)
            clock.advance(4)
        assert len(asked) == 5


def test_where_a_level_lets_nobody_answer_it_says_so(origin: Origin) -> None:
    chain = ReadChain("catalogue", local=LOCAL, key="{product_id}", reach=lambda: "local_cache")
    with pytest.raises(Degraded, match="reads no farther than its local cache now"):
        called(chain(origin.read()), 1)
    assert origin.asked == []


@pytest.mark.parametrize("fault", [lambda: "everything", lambda: None, lambda: 1 // 0, list])
def test_a_level_that_talks_nonsense_stops_no_read(
    fault: Callable[[], Any], origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    read = ReadChain("catalogue", local=LocalTier(max_stale=600), key="{product_id}", reach=fault)(origin.read())
    with caplog.at_level(logging.WARNING, "backstay.resilience"):
        assert [called(read, 1), called(read, 1)] == ["product 1", "product 1"]
    assert len([r for r in caplog.records if "asks its origin" in r.message]) == 1


# -- open breakers


def test_DG6_a_tier_in_open_breaker_is_skipped_without_being_asked(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, local=LocalTier(max_stale=600), fresh=30)
    read = answering(chain, origin.read())
    server.down = True
    for each in range(3):
        assert called(read, each).source == "origin"
    assert chain.breaker is not None and chain.breaker.state is State.OPEN
    trips = server.trips
    with measured() as counts:
        for each in range(50):
            called(read, each)
    assert server.trips == trips
    assert counts.count("read.faults", resource="catalogue", cause="skipped") == 100  # a look and a keep each
    server.down = False
    clock.advance(2)
    for each in range(60, 63):
        called(read, each)
    assert chain.breaker.state is State.CLOSED


def test_DG6_an_origin_in_open_breaker_is_skipped_without_being_asked(origin: Origin) -> None:
    breaker = CircuitBreaker("stock-database", consecutive=1)
    chain = ReadChain("catalogue", local=LocalTier(max_stale=600), key="{product_id}")
    read = answering(chain, breaker(origin.read()))
    called(read, 1)
    origin.error = Unavailable("down")
    called(read, 1)
    asked = len(origin.asked)
    for _ in range(20):
        assert called(read, 1).source == "local_cache"
    assert len(origin.asked) == asked
    with pytest.raises(BreakerOpen):
        called(read, 2)


def failing(server: LuaServer, error: Exception) -> None:
    def fails(*args: Any) -> Any:
        server.trips += 1
        raise error

    server.run = fails  # type: ignore[method-assign, assignment]  # what a connection to a real server would raise


def test_a_cache_that_refuses_our_credentials_stops_no_read_and_is_named_in_the_log_once(
    origin: Origin, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    chain, server = on_lua(clock)
    failing(server, Misuse("redis://localhost:6379/0 refused the credentials: WRONGPASS"))
    with measured() as counts:
        assert [called(chain(origin.read()), each) for each in range(20)] == [f"product {each}" for each in range(20)]
    assert server.trips == 3, "then its breaker was open"
    assert counts.count("read.faults", resource="catalogue", cause="unreachable") == 3
    assert len([r for r in caplog.records if "refused the credentials" in r.message]) == 1


def test_connections_that_are_all_in_use_open_no_breaker(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    failing(server, BulkheadFull("all 64 connections are in use"))
    with measured() as counts:
        for each in range(20):
            called(chain(origin.read()), each)
    assert counts.count("read.faults", resource="catalogue", cause="skipped") == 40
    assert chain.breaker is not None and chain.breaker.state is State.CLOSED


def test_an_error_of_our_own_in_the_cache_is_not_hidden(clock: ManualClock) -> None:
    chain, server = on_lua(clock)
    failing(server, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        chain(Origin().read())(1)


def test_a_breaker_of_the_services_own_guards_the_cache(clock: ManualClock) -> None:
    own = CircuitBreaker("redis", consecutive=1)
    chain, server = on_lua(clock, tier={"breaker": own})
    assert chain.breaker is own
    server.down = True
    chain(Origin().read())(1)
    assert own.state is State.OPEN


# -- changes


def test_forgetting_ends_an_answer_in_every_tier(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, local=LOCAL)
    read = answering(chain, origin.read())
    elsewhere, _ = on_lua(clock, server=server)
    called(read, 1)
    origin.answers[1] = "changed"
    clock.advance(1)
    forget: Any = chain.forget_async if origin.colour == "async def" else chain.forget
    called(forget, "product:1")
    clock.advance(0.001)
    assert said(called(read, 1))[:2] == ("changed", "origin")
    assert said(called(answering(elsewhere, origin.read()), 1))[:2] == ("changed", "distributed_cache")


def test_what_was_forgotten_is_not_served_while_the_origin_fails(origin: Origin, clock: ManualClock) -> None:
    chain, _ = on_lua(clock, local=LOCAL)
    read = chain(origin.read())
    called(read, 1)
    clock.advance(1)
    chain.forget("product:1")
    origin.error = Unavailable("down")
    with pytest.raises(Unavailable):
        called(read, 1)


def test_what_is_forgotten_here_is_not_brought_back_by_a_cache_that_was_not_told(clock: ManualClock) -> None:
    origin = Origin()
    chain, server = on_lua(clock, local=LOCAL)
    read = chain(origin.read())
    read(1)
    clock.advance(1)
    server.down = True
    with pytest.raises(Unavailable):
        chain.forget("product:1")
    server.down = False
    origin.answers[1] = "changed"
    assert read(1) == "changed"


def test_a_slow_read_does_not_bring_back_what_was_forgotten_meanwhile(clock: ManualClock) -> None:
    chain, server = on_lua(clock, local=LOCAL)
    answers = iter(["old", "new"])

    def slow(product_id: int) -> str:
        answer = next(answers)
        clock.advance(1)
        if answer == "old":
            chain.forget("product:1")
            clock.advance(0.001)
        return answer

    read = chain.answers(slow)
    assert said(read(1))[:2] == ("old", "origin")  # it was asked before the change
    assert said(read(1))[:2] == ("new", "origin")
    assert said(read(1))[:2] == ("new", "local_cache")
    assert b"new" in (server.get(b"backstay:default:read:1:{catalogue:product:1}") or b"")


# -- telemetry


def test_DG6_the_sum_of_results_is_the_number_of_reads(origin: Origin, clock: ManualClock) -> None:
    chain, server = on_lua(clock, "algebra", local=LOCAL)
    read = chain(origin.read())
    with measured() as counts:
        for step in range(200):
            clock.advance(step % 7)
            origin.error = Unavailable("down") if step % 5 == 0 else None
            server.down = step % 3 == 0
            try:
                called(read, step % 4)
            except Unavailable:
                continue
    assert counts.count("read.results", resource="algebra") == 200
    by_source = {
        source: counts.count("read.results", resource="algebra", source=source)
        for source in ("origin", "distributed_cache", "local_cache", "static", "cdn", "miss")
    }
    assert sum(by_source.values()) == 200
    assert by_source["origin"] > 0 and by_source["local_cache"] > 0 and by_source["static"] == by_source["cdn"] == 0
    refills = {word: counts.count("read.refills", resource="algebra", result=word) for word in ("fetched", "failed")}
    assert refills == {"fetched": len(origin.asked) - refills["failed"], "failed": refills["failed"]}


def test_stale_answers_are_counted_as_such(origin: Origin, clock: ManualClock) -> None:
    chain, _ = on_lua(clock, "stale-ones", fresh=0)
    read = chain(origin.read())
    called(read, 1)
    origin.error = Unavailable("down")
    with measured() as counts:
        called(read, 1)
    assert counts.count("read.results", resource="stale-ones", source="distributed_cache", stale=True) == 1
    assert counts.count("read.age", resource="stale-ones") == 1


def test_reads_of_a_request_are_collected_with_the_worst_of_each_chain(origin: Origin, clock: ManualClock) -> None:
    first = ReadChain("first", local=LOCAL, key="{product_id}", clock=clock)
    second = ReadChain("second", local=LOCAL, key="{product_id}", clock=clock)
    read_first, read_second = first(origin.read()), second(origin.read())
    called(read_first, 1)
    clock.advance(3)
    called(read_first, 2)
    called(read_second, 1)
    clock.advance(1)
    with reads() as collected:
        for each in (2, 1, 2):
            called(read_first, each)
        called(read_second, 1)
        with reads() as inner:
            called(read_second, 1)
    assert {name: round(each.age or 0, 3) for name, each in collected.by_chain.items()} == {"first": 4.0, "second": 1.0}
    assert (collected.age, collected.stale) == (4.0, False)
    assert set(inner.by_chain) == {"second"}


# -- as a decorator


def test_the_decorated_function_keeps_its_face(origin: Origin) -> None:
    chain = ReadChain("catalogue", local=LOCAL, key="{product_id}")
    function = origin.read()
    read = chain(function)
    assert (read.__name__, inspect.signature(read)) == (function.__name__, inspect.signature(function))
    assert inspect.iscoroutinefunction(read) == inspect.iscoroutinefunction(function)
    assert called(read, product_id=1) == "product 1"


def test_methods_are_read_by_their_arguments() -> None:
    chain = ReadChain("catalogue", local=LOCAL, key="{self.shop}:{product_id}")

    class Catalogue:
        def __init__(self, shop: str) -> None:
            self.shop = shop

        @chain
        def product(self, product_id: int) -> str:
            return f"{self.shop} {product_id}"

    assert [Catalogue(shop).product(1) for shop in ("a", "b", "a")] == ["a 1", "b 1", "a 1"]


def test_functions_of_both_colours_share_what_one_of_them_read() -> None:
    chain = ReadChain("catalogue", local=LOCAL, key="{product_id}")
    plain, asynchronous = Origin("def"), Origin("async def")
    assert called(chain(plain.read()), 1) == called(chain(asynchronous.read()), 1) == "product 1"
    assert (plain.asked, asynchronous.asked) == ([1], [])


def test_a_function_without_arguments_needs_no_key() -> None:
    calls: list[int] = []
    read = ReadChain("offers", local=LOCAL)(lambda: calls.append(1) or "offers")
    assert [read(), read()] == ["offers", "offers"]
    assert calls == [1]


def test_keys_may_be_made_by_a_function_and_must_be_texts(origin: Origin) -> None:
    def key(product_id: int) -> Any:
        return f"p{product_id}" if product_id < 10 else product_id

    read = ReadChain("catalogue", local=LOCAL, key=key)(origin.read())
    assert called(read, 1) == "product 1"
    with pytest.raises(Misuse, match="a key is a text"):
        called(read, 10)


def test_streams_are_refused_when_they_are_decorated() -> None:
    def rows() -> Any:
        yield 1

    chain = ReadChain("catalogue", local=LOCAL)
    with pytest.raises(Misuse):
        chain(rows)
    with pytest.raises(Misuse, match="is a stream"):
        chain.answers(rows)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "needs a tier behind its origin"),
        ({"local": 60}, "must be LocalTier or a mapping"),
        ({"local": {}}, "local of 'catalogue' needs 'max_stale'"),
        ({"local": {"max_stale": 60, "maxx": 1}}, "has no setting 'maxx'"),
        ({"local": {"max_stale": 0}}, "max_stale must be above 0 s"),
        ({"local": {"max_stale": 5, "fresh": 6}}, "fresh must not exceed max_stale"),
        ({"local": {"max_stale": 5, "fresh": -1}}, "fresh must be at least 0 s"),
        ({"local": {"max_stale": float("nan")}}, "must be seconds"),
        ({"local": {"max_stale": 5, "max_entries": 0}}, "max_entries must be a whole number"),
        ({"local": {"max_stale": 5, "max_absent": 1.5}}, "max_absent must be a whole number"),
        ({"redis": "redis://localhost"}, "must be RedisTier or a mapping"),
        ({"redis": {"store": "postgres://x", "max_stale": 5}}, "malformed|Redis URL must|no|scheme"),
        ({"redis": {"store": "redis://x", "max_stale": 5, "budget": 0}}, "budget must be above 0 s"),
        ({"redis": {"store": "redis://x", "max_stale": 5, "codec": "json"}}, "codec must have encode"),
        ({"redis": {"store": "redis://x", "max_stale": 5, "namespace": "a:b"}}, "namespace must be"),
        ({"redis": {"store": "redis://x", "max_stale": 5, "max_bytes": 2**40}}, "max_bytes must be at most"),
        ({"redis": {"store": "redis://x", "max_stale": 5, "breaker": 7}}, "breaker must be"),
        ({"redis": {"store": object(), "max_stale": 5}}, "pass a URL"),
        ({"static": 1, "reach": "origin"}, "reach must be a function"),
        ({"static": 1, "key": 7}, "key must be"),
        ({"static": 1, "key": "product:{"}, "key template"),
        ({"static": 1, "on": "NoSuchError"}, "names no error"),
        ({"static": 1, "on": (KeyboardInterrupt,)}, "takes exception classes"),
        ({"static": 1, "budget": -1}, "budget must be above 0 s"),
        ({"static": 1, "absent": True}, "absent must be a function"),
        ({"static": 1, "absent_for": -1}, "absent_for must be at least 0 s"),
        ({"static": 1, "jitter": 1.5}, "jitter must be from 0 to 1"),
        ({"static": 1, "refills": 0}, "refills must be a whole number"),
        ({"static": 1, "refills": 2, "settings": ReadSettings()}, "not both"),
        ({"static": 1, "settings": {"refills": 2}}, "not both"),
    ],
)
def test_bad_settings_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(Misuse, match=text):
        ReadChain("catalogue", **options)


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_chain_needs_a_name(name: Any) -> None:
    with pytest.raises(Misuse, match="needs its name first"):
        ReadChain(name, static=1)


def test_a_name_that_would_not_stand_in_a_key_is_refused_with_redis() -> None:
    with pytest.raises(Misuse, match="without spaces"):
        ReadChain("my catalogue", redis=RedisTier(store="redis://localhost", max_stale=1))
    assert ReadChain("my catalogue", static=1).name == "my catalogue"


def test_a_misspelt_key_is_found_when_the_function_is_decorated(origin: Origin) -> None:
    with pytest.raises(Misuse, match="no such parameter"):
        ReadChain("catalogue", local=LOCAL, key="product:{id}")(origin.read())


def test_a_source_of_static_answers_is_one_of_two() -> None:
    with pytest.raises(Misuse, match="'static' or 'cdn'"):
        StaticTier(answer=1, source="disk")  # type: ignore[arg-type]  # the mistake


def test_a_password_in_the_stores_url_is_shown_nowhere() -> None:
    tier = RedisTier(store="redis://:hunter2@localhost", max_stale=5)
    chain = ReadChain("catalogue", redis=tier)
    assert "hunter2" not in repr(tier) + repr(chain) + repr(chain.breaker)


def test_the_cache_of_another_format_version_is_not_read(clock: ManualClock) -> None:
    server = LuaServer(clock)
    chain, _ = on_lua(clock, server=server)
    server.entries[b"backstay:default:read:1:{catalogue:product:1}"] = (b"2 17 v 00000000 x", 2**62)
    assert chain(Origin().read())(1) == "product 1"
