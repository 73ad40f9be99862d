"""Decisions as HTTP fields (RL-12), told on allowed answers as well where the application wants it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from backstay.resilience import Decision, Rate
from backstay.resilience.rate_limiting.announced import AnnouncedBuckets, AsyncAnnouncedBuckets
from backstay.resilience.rate_limiting.backends.memory import MemoryBuckets
from backstay.resilience.rate_limiting.decision import Result, decide
from backstay.resilience.rate_limiting.http import collecting, headers, note
from backstay.resilience.rate_limiting.http_middleware import AsgiRateLimitFields, WsgiRateLimitFields
from unit.resilience.structured_fields import parse_list

SECOND = 1_000_000_000


class Clock:
    now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


def decision(
    *,
    allowed: bool = True,
    retry_after: float = 0.0,
    remaining: int = 3,
    reset_after: float = 4.2,
    rate: str = "10 per 60 second",
    result: Result = "acquired",
) -> Decision:
    return Decision(
        allowed=allowed, retry_after=retry_after, remaining=remaining, reset_after=reset_after, limit=Rate.of(rate),
        result=result,
    )  # fmt: skip


def test_RL12_fields_of_an_allowed_call() -> None:
    assert headers(decision(), name="purchase") == {
        "RateLimit-Policy": '"purchase";q=10;w=60',
        "RateLimit": '"purchase";r=3;t=5',
    }


def test_RL12_fields_of_a_refusal() -> None:
    fields = headers(decision(allowed=False, retry_after=6.01, remaining=0, result="limited"))
    assert fields == {"RateLimit-Policy": '"default";q=10;w=60', "RateLimit": '"default";r=0;t=7', "Retry-After": "7"}


def test_RL12_a_wait_below_a_second_is_never_told_as_none() -> None:
    fields = headers(decision(allowed=False, retry_after=0.0001, remaining=0, result="limited"))
    assert fields["Retry-After"] == "1"


def test_RL12_the_policy_is_the_bucket() -> None:
    assert headers(decision(rate="100/second;burst=200"))["RateLimit-Policy"] == '"default";q=200;w=2'
    assert headers(decision(rate="1000/second;burst=10"))["RateLimit-Policy"] == '"default";q=10;w=1'


@pytest.mark.parametrize("result", ["store_error_open", "store_error_local", "store_error_closed"])
def test_RL12_nothing_is_told_that_nobody_knows(result: Result) -> None:
    assert headers(decision(result=result)) == {}
    assert headers(decision(allowed=False, retry_after=2.5, result=result)) == {"Retry-After": "3"}


@given(
    count=st.integers(1, 1000), period=st.integers(1, 3600), burst=st.integers(1, 5000), data=st.data(),
)  # fmt: skip
def test_RL12_values_agree_with_the_decision(count: int, period: int, burst: int, data: st.DataObject) -> None:
    rate = Rate(count=count, period=float(period), burst=burst)
    clock = Clock()
    buckets = MemoryBuckets(rate, clock_ns=clock)
    for _ in range(data.draw(st.integers(1, 5))):
        cost = data.draw(st.integers(1, burst))
        made = decide(buckets.charge("k", cost), rate, buckets.scale, cost)
        fields = headers(made, name="k")
        [(name, limit)] = parse_list(fields["RateLimit"])
        [(_, policy)] = parse_list(fields["RateLimit-Policy"])
        assert (name, limit["r"], policy["q"]) == ("k", made.remaining, burst)
        assert 0 <= limit["r"] <= policy["q"]
        assert ("Retry-After" in fields) == (not made.allowed)
        if not made.allowed:
            after = int(fields["Retry-After"])
            assert after >= made.retry_after
            assert after == limit["t"]  # the draft: not before the end of the effective window
            clock.now += after * SECOND
            assert buckets.charge("k", cost) > 0  # a client that obeys is served
        clock.now += data.draw(st.integers(0, period)) * SECOND


@pytest.mark.parametrize("name", ['a"b\\c', "caf\u00e9", "line\nbreak", "x" * 100])
def test_RL12_any_name_is_a_structured_string(name: str) -> None:
    fields = headers(decision(), name=name)
    [(told, _)] = parse_list(fields["RateLimit"])
    assert len(told) == len(name)
    assert "\n" not in fields["RateLimit"]
    if name.isascii() and name.isprintable():
        assert told == name


def test_RL12_the_decisions_of_a_request_go_out_together() -> None:
    with collecting() as collected:
        note("app", decision())
        note("user", decision(allowed=False, retry_after=9.5, remaining=0, result="limited"))
        note("user", decision())  # a refusal stays: it is what the answer is about
        note("tenant", decision(allowed=False, retry_after=3.5, remaining=0, result="limited"))
    fields = collected.headers()
    assert [name for name, _ in parse_list(fields["RateLimit"])] == ["app", "user", "tenant"]
    assert dict(parse_list(fields["RateLimit"]))["user"] == {"r": 0, "t": 10}
    assert fields["Retry-After"] == "10"
    note("late", decision())  # nobody collects any more
    assert collected.headers() == fields


def test_RL12_announced_buckets_tell_and_decide_as_before() -> None:
    clock = Clock()
    rate = Rate.of("2/hour")
    plain, told = MemoryBuckets(rate, clock_ns=clock), MemoryBuckets(rate, clock_ns=clock)
    announced = AnnouncedBuckets(told, "purchase")
    asynchronous = AsyncAnnouncedBuckets(_OfAsyncio(told), "purchase")
    assert announced.charge("k", 1) == plain.charge("k", 1)  # with nobody who collects
    with collecting() as collected:
        assert asyncio.run(asynchronous.charge("k", 1)) == plain.charge("k", 1)
        assert parse_list(collected.headers()["RateLimit"]) == [("purchase", {"r": 0, "t": 3600})]
        assert announced.charge("k", 1) == plain.charge("k", 1) < 0
        assert collected.headers()["Retry-After"] == "1800"
    assert announced.utilization() == told.utilization()


class _OfAsyncio:
    def __init__(self, buckets: MemoryBuckets) -> None:
        self._buckets = buckets
        self.rate, self.scale = buckets.rate, buckets.scale

    async def charge(self, key: str, cost: int) -> int:
        return self._buckets.charge(key, cost)


def test_RL12_a_thread_with_the_requests_context_is_heard_and_others_are_not() -> None:
    with collecting() as collected:
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.run, args=(lambda: note("own", decision()),)),
            threading.Thread(target=lambda: note("foreign", decision())),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [name for name, _ in parse_list(collected.headers()["RateLimit"])] == ["own"]


def test_RL12_asgi_answers_carry_the_fields_and_keep_their_own() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        note("web", decision(allowed=False, retry_after=4.5, remaining=0, result="limited"))
        await send({"type": "http.response.start", "status": 429, "headers": [(b"Retry-After", b"60")]})
        await send({"type": "http.response.body", "body": b"no"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(AsgiRateLimitFields(app)({"type": "http"}, receive, send))
    assert dict(sent[0]["headers"]) == {
        b"Retry-After": b"60",
        b"ratelimit-policy": b'"web";q=10;w=60',
        b"ratelimit": b'"web";r=0;t=5',
    }
    assert sent[1] == {"type": "http.response.body", "body": b"no"}
    sent.clear()
    asyncio.run(AsgiRateLimitFields(app)({"type": "websocket"}, receive, send))
    assert sent[0]["headers"] == [(b"Retry-After", b"60")]


def test_RL12_wsgi_answers_carry_the_fields() -> None:
    started: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["limited"]:
            note("web", decision())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"served"]

    def start_response(status: str, fields: Any, *exc_info: Any) -> None:
        started.append((status, dict(fields)))

    for limited in (True, False):
        assert list(WsgiRateLimitFields(app)({"limited": limited}, start_response)) == [b"served"]
    assert started == [
        ("200 OK", {"Content-Type": "text/plain", "RateLimit-Policy": '"web";q=10;w=60', "RateLimit": '"web";r=3;t=5'}),
        ("200 OK", {"Content-Type": "text/plain"}),
    ]


def test_the_reader_of_structured_fields_refuses_what_is_none() -> None:
    for wrong in ["a;r=1", '"a";r=1.5.5', '"a"r=1', '"a\u00e9";r=1', '"a";R=1']:
        with pytest.raises(ValueError, match="structured"):
            parse_list(wrong)
