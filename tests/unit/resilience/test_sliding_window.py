"""The sliding window: its law against an exact log, in memory and by the shipped script, which agree."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from backstay.errors import Misuse
from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.rate_limiting.decision import NO_ROOM
from backstay.resilience.rate_limiting.sliding import SLOTS, Law, SlidingMemory
from backstay.resilience.rate_limiting.sliding.redis import SlidingRedis
from unit.resilience.lua_redis import LuaRedis, LuaStore

HOUR = 3600 * 1_000_000
KEY = b"backstay:test:window:1:{limit:k}"


class Log:
    """The exact log of admitted calls: what the window stands for."""

    def __init__(self) -> None:
        self.calls: deque[tuple[int, int]] = deque()

    def used(self, now: int, period: int) -> int:
        """Tokens admitted in the `period` up to now, its beginning left out."""
        return sum(cost for at, cost in self.calls if at > now - period)


def windows(server: LuaRedis, rate: Rate, **options: Any) -> SlidingRedis:
    store = LuaStore(server, options.pop("our_us", None))
    return SlidingRedis(store, rate, namespace="test", name=options.pop("name", "limit"), **options)


STEPS = st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 12)), min_size=1, max_size=120)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 30), st.integers(21, 3_000_000), STEPS)
def test_RL2_never_more_in_any_period_and_never_fewer_than_the_error_allows(
    count: int, period: int, steps: list[tuple[int, int]]
) -> None:
    law = Law(Rate(count=count, period=period / 1_000_000), 1_000_000)
    entries: deque[tuple[int, int]] = deque()
    log, now = Log(), 10**12
    slot = -(-period // SLOTS)
    for pause, cost in steps:
        now += pause
        cost = min(cost, count)
        stand = law.admit(entries, now, cost)
        if stand > 0:
            log.calls.append((now, cost))
            assert log.used(now, period) <= count
        else:
            # refused: with a slot more of memory an exact log would have refused as well
            assert log.used(now, period + slot) + cost > count
        assert len(entries) <= SLOTS + 2
        assert 0 <= stand.remaining <= count
        assert stand.remaining <= count - log.used(now, period)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(21, 3_000_000), STEPS)
def test_RL12_the_wait_is_exact(count: int, period: int, steps: list[tuple[int, int]]) -> None:
    law = Law(Rate(count=count, period=period / 1_000_000), 1_000_000)
    entries: deque[tuple[int, int]] = deque()
    now = 10**12
    for pause, cost in steps:
        now += pause
        cost = min(cost, count)
        stand = law.admit(entries, now, cost)
        if stand <= 0:
            early, late = deque(entries), deque(entries)
            assert law.admit(early, now - stand - 1, cost) <= 0
            assert law.admit(late, now - stand, cost) > 0
            decision = law.decide(stand, cost)
            assert decision.retry_after == -stand / 1_000_000
            assert decision.reset_after >= decision.retry_after
        empty = deque(entries)
        law.admit(empty, now + stand.reset, count)
        assert sum(tokens for _, tokens in empty) == count  # reset: then all of it is there


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 30), st.integers(1, 3_000_000), STEPS)
def test_RL3_memory_and_the_script_agree(count: int, period: int, steps: list[tuple[int, int]]) -> None:
    rate = Rate(count=count, period=period / 1_000_000)
    server = LuaRedis()
    law, entries, remote = Law(rate, 1_000_000), deque[tuple[int, int]](), windows(server, rate)
    for pause, cost in steps:
        server.now_us += pause
        cost = min(cost, count)
        mine, theirs = law.admit(entries, server.now_us, cost), remote.charge("k", cost)
        assert remote.decide(theirs, cost) == law.decide(mine, cost)
        if theirs <= 0 and pause % 2:  # a caller that obeys to the microsecond
            server.now_us -= theirs
            mine, theirs = law.admit(entries, server.now_us, cost), remote.charge("k", cost)
            assert theirs > 0
            assert remote.decide(theirs, cost) == law.decide(mine, cost)


def test_a_saturating_caller_gets_the_count_in_every_period_and_a_slot() -> None:
    law = Law(Rate.of("100/second"), 1_000_000)
    entries: deque[tuple[int, int]] = deque()
    admitted = [now for now in range(10**12, 10**12 + 10_500_000, 1000) if law.admit(entries, now, 1) > 0]
    assert len(admitted) == 1000  # 10 times in 10 periods of 1.05 s, where an exact log admits 1,100
    for first in range(len(admitted) - 100):
        assert admitted[first + 100] - admitted[first] >= 1_000_000


def test_it_keeps_the_promise_that_a_bucket_does_not() -> None:
    """P6 with another eye: burst and refill of a bucket come in one period, 10 and 9 here."""
    server = LuaRedis()
    subject = windows(server, Rate.of("10 per 60 second"))
    granted = 0
    for _ in range(60):
        granted += subject.charge("k", 1) > 0
        server.now_us += 1_000_000 - 1
    assert granted == 10


def test_RL4_the_servers_clock_stepping_back_mints_nothing_and_blocks_nobody_for_long() -> None:
    server = LuaRedis()
    subject = windows(server, Rate.of("10/second"))
    assert [subject.charge("k", 1) > 0 for _ in range(11)] == [True] * 10 + [False]
    server.now_us -= HOUR
    assert subject.charge("k", 1) <= 0
    server.now_us += 999_999
    assert subject.charge("k", 1) <= 0  # no time is made up
    server.now_us += 50_001
    assert [subject.charge("k", 1) > 0 for _ in range(11)] == [True] * 10 + [False]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 5), st.integers(-2_000_000, 0)), max_size=60))
def test_RL4_backward_steps_never_admit_more_than_the_law(steps: list[tuple[int, int, int]]) -> None:
    """Real time goes on by the first number; the server's clock is set back by the last one now and then."""
    server, log, passed = LuaRedis(), Log(), 0
    subject = windows(server, Rate.of("5/second"))
    for pause, cost, back in steps:
        passed += pause
        server.now_us += pause + (back if pause % 5 == 0 else 0)
        if subject.charge("k", cost) > 0:
            log.calls.append((passed, cost))
        assert log.used(passed, 1_000_000) <= 5


def test_RL4_where_TIME_is_refused_a_caller_behind_takes_over_the_latest_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    server = LuaRedis()
    server.refuses_time = True
    now_us = [1_800_000_000_000_000]
    monkeypatch.setattr("time.time_ns", lambda: now_us[0] * 1000)
    subject = windows(server, Rate.of("10 per 60 second"), time_source="client")
    assert sum(subject.charge("k", 1) > 0 for _ in range(12)) == 10
    now_us[0] -= 61_000_000
    assert subject.charge("k", 1) <= 0
    now_us[0] += 61_000_000 + 63_000_000
    assert subject.charge("k", 1) > 0
    assert b"TIME" not in server.calls


def test_RL5_one_small_key_a_window_that_lives_as_long_as_it_counts() -> None:
    server = LuaRedis()
    subject = windows(server, Rate.of("1000000/hour"))
    for _ in range(500):
        subject.charge("k", 7)
        server.now_us += 20_000_000
    [(value, expires)] = server.entries.values()
    assert list(server.entries) == [KEY]
    assert value.count(b":") <= SLOTS + 2
    assert len(value) < 600
    written = server.calls.count(b"SET")
    assert subject.charge("k", 1_000_000) <= 0
    assert server.calls.count(b"SET") == written  # a refusal writes nothing
    assert 3600 * 1000 <= expires - (server.now_us - 20_000_000) // 1000 <= 3600 * 1000 * 21 // 20 + 1


def test_RL8_nothing_is_charged_after_the_moment_that_the_call_carries() -> None:
    server = LuaRedis()
    ours_us = [10**12]
    subject = windows(server, Rate.of("10/hour"), our_us=lambda: ours_us[0])
    assert subject.charge("k", 1) > 0
    server.now_us += HOUR * 2  # our idea of the server's clock is old: mended within the call, and charged once
    assert subject.charge("k", 1) > 0
    assert server.calls.count(b"SET") == 2


def test_a_foreign_value_is_an_error_and_stays_what_it_is() -> None:
    server = LuaRedis()
    server.entries[KEY] = (b"not a window", float("inf"))
    with pytest.raises(StoreFailed, match="no sliding window"):
        windows(server, Rate.of("10/hour")).charge("k", 1)
    assert server.entries[KEY][0] == b"not a window"


def test_RL9_only_empty_windows_are_forgotten() -> None:
    now = [10**12]
    subject = SlidingMemory(Rate.of("1/second"), max_keys=50, clock_ns=lambda: now[0])
    assert all(subject.charge(f"key {each}", 1) > 0 for each in range(50))
    assert subject.charge("one more", 1) == NO_ROOM
    assert not subject.decide(NO_ROOM, 1)
    assert all(subject.charge(f"key {each}", 1) < 0 for each in range(50))
    assert subject.utilization() == 1.0
    now[0] += 1_100_000_000
    assert subject.utilization() == 0.0
    assert all(subject.charge(f"new {each}", 1) > 0 for each in range(50))
    assert len(subject) <= 50


def test_RL3_threads_share_a_window_exactly() -> None:
    subject = SlidingMemory(Rate.of("500/hour"))
    granted: list[int] = []

    def run() -> None:
        granted.append(sum(subject.charge("k", 1) > 0 for _ in range(200)))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 500


def test_bad_settings_are_refused_when_it_is_configured() -> None:
    with pytest.raises(Misuse, match="no burst"):
        SlidingMemory(Rate.of("10/second;burst=20"))
    with pytest.raises(Misuse, match="max_keys"):
        SlidingMemory(Rate.of("10/second"), max_keys=0)
    with pytest.raises(Misuse, match="71 years|exactly"):
        windows(LuaRedis(), Rate.of("10 per 100 year"))
