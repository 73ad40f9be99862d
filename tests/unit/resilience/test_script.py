"""The shipped script beside what a server cannot be made to do: clocks that step, TIME refused, foreign values."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from backstay.resilience import Rate
from backstay.resilience.rate_limiting.backend import StoreFailed
from backstay.resilience.timeout import DeadlineExceeded, deadline
from unit.resilience.lua_redis import LuaRedis, lua_buckets
from unit.resilience.oracle import Oracle

HOUR = 3600 * 1_000_000
KEY = b"backstay:test:limit:1:{limit:k}"


@pytest.mark.parametrize("skew_us", [HOUR, -HOUR, 61_000_000, -61_000_000, 1, -1])
def test_RL4_a_clients_clock_changes_no_decision(skew_us: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clients share a bucket; the wall clock of one is off and steps while it runs (P6)."""
    rate = Rate.of("10 per 60 second")
    server, oracle = LuaRedis(), Oracle(rate)
    first, second = lua_buckets(server, rate), lua_buckets(server, rate)
    wall_us = 0
    monkeypatch.setattr("time.time_ns", lambda: wall_us * 1000)
    monkeypatch.setattr("time.time", lambda: wall_us / 1_000_000)
    for step in range(60):
        server.now_us += 3_000_000
        wall_us = server.now_us + (skew_us if step % 2 and step > 30 else 0)
        subject = second if step % 2 else first
        allowed, _ = oracle.charge(Fraction(server.now_us, 1_000_000), 1)
        assert (subject.charge("k", 1) > 0) == allowed


def test_RL4_the_servers_clock_stepping_back_mints_nothing() -> None:
    rate = Rate.of("10/second;burst=10")
    server = LuaRedis()
    buckets = lua_buckets(server, rate)
    assert [buckets.charge("k", 1) > 0 for _ in range(11)] == [True] * 10 + [False]
    server.now_us -= HOUR
    assert buckets.charge("k", 1) <= 0
    # The bucket owes at most its burst, so that it is full again in a second, and not in an hour and a second.
    server.now_us += 100_000
    assert buckets.charge("k", 1) > 0
    assert buckets.charge("k", 1) <= 0
    server.now_us += 1_000_000
    assert [buckets.charge("k", 1) > 0 for _ in range(11)] == [True] * 10 + [False]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 5), st.integers(-2_000_000, 0)), max_size=40))
def test_RL4_backward_steps_never_admit_more_than_the_law(steps: list[tuple[int, int, int]]) -> None:
    """Real time goes on by the first number; the clock is set back by the last one now and then."""
    rate = Rate.of("10/second;burst=5")
    server = LuaRedis()
    buckets = lua_buckets(server, rate)
    passed = admitted = 0
    for pause, cost, back in steps:
        passed += pause
        server.now_us += pause + (back if pause % 7 == 0 else 0)
        if buckets.charge("k", cost) > 0:
            admitted += cost
    assert admitted * 1_000_000 <= 5 * 1_000_000 + 10 * passed


def test_RL4_where_TIME_is_refused_the_callers_clocks_are_merged_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Rate.of("10 per 60 second")
    server = LuaRedis()
    server.refuses_time = True
    now_us = [1_800_000_000_000_000]
    monkeypatch.setattr("time.time_ns", lambda: now_us[0] * 1000)
    buckets = lua_buckets(server, rate, time_source="client")
    assert sum(buckets.charge("k", 1) > 0 for _ in range(12)) == 10
    now_us[0] -= 61_000_000  # the next caller is behind: the latest clock seen stays the time
    assert buckets.charge("k", 1) <= 0
    assert buckets.skew == pytest.approx(61.0)
    now_us[0] += 61_000_000 + 6_000_000
    assert buckets.charge("k", 1) > 0
    assert buckets.charge("k", 1) <= 0
    assert b"TIME" not in server.calls
    assert int(server.get(KEY).split()[2]) == now_us[0]


def test_RL5_the_key_lives_until_the_bucket_is_full_and_not_a_millisecond_less() -> None:
    server = LuaRedis()
    fast = lua_buckets(server, Rate.of("1000/second;burst=100"))  # P1: a lifetime of 0 s meant no limit at all
    fast.charge("k", 1)
    assert server.entries[KEY][1] - server.now_us // 1000 == 1
    slow = lua_buckets(server, Rate.of("7 per 60 second"), name="slow")
    slow.charge("k", 2)
    assert server.entries[b"backstay:test:limit:1:{slow:k}"][1] - server.now_us // 1000 == 17_143


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 50), st.lists(st.integers(0, 2_000_000), min_size=1, max_size=30))
def test_RL5_expiry_never_forgets_a_bucket_that_is_not_full(count: int, burst: int, pauses: list[int]) -> None:
    rate = Rate(count=count, burst=burst)
    expiring, keeping = LuaRedis(), LuaRedis()
    short, eternal = lua_buckets(expiring, rate), lua_buckets(keeping, rate)
    for pause in pauses:
        for server in (expiring, keeping):
            server.now_us += pause
        keeping.entries = {key: (value, float("inf")) for key, (value, _) in keeping.entries.items()}
        assert (short.charge("k", 1) > 0) == (eternal.charge("k", 1) > 0)


def test_RL5_one_small_key_a_bucket_and_no_write_by_a_refusal() -> None:
    server = LuaRedis()
    buckets = lua_buckets(server, Rate.of("1000000/hour;burst=1000000"))
    for _ in range(500):
        buckets.charge("k", 1)
    assert list(server.entries) == [KEY]
    assert len(server.entries[KEY][0]) <= 100
    buckets.charge("k", 1_000_000)
    assert server.calls.count(b"SET") == 500


def test_RL8_nothing_is_charged_after_the_moment_that_the_call_carries() -> None:
    server = LuaRedis()
    buckets = lua_buckets(server, Rate.of("10/hour"))
    buckets.charge("k", 1)
    store, terms = buckets.store, buckets.terms
    before = server.entries[KEY]
    late = store._encode(terms.body("k", 1), terms.moment_and_rate, store.clock() + store.budget, False)
    server.now_us += 50_001  # the call lay in a frozen server's socket a microsecond too long
    assert server.execute(late)[0] == -1
    assert server.entries[KEY] == before
    in_time = store._encode(terms.body("k", 1), terms.moment_and_rate, store.clock() + store.budget, False)
    server.now_us += 49_990  # floats of seconds are good to a microsecond or so
    assert server.execute(in_time)[0] == 1


def test_RL8_a_stale_idea_of_the_servers_clock_is_mended_within_the_call() -> None:
    server = LuaRedis()
    ours_us = [10**12]
    buckets = lua_buckets(server, Rate.of("10/hour"), our_us=lambda: ours_us[0])
    assert buckets.charge("k", 1) > 0
    server.now_us += HOUR  # a failover to a server whose clock is ahead
    assert buckets.charge("k", 1) > 0
    assert [answer[0] for answer in server.answers] == [1, -1, 1]


def test_a_forgotten_script_is_sent_again_and_nothing_is_charged_twice() -> None:
    server = LuaRedis()
    buckets = lua_buckets(server, Rate.of("10/hour"))
    assert buckets.charge("k", 1) > 0
    server.scripts.clear()  # SCRIPT FLUSH
    assert buckets.charge("k", 1) > 0
    assert server.calls.count(b"SET") == 2


def test_a_foreign_value_is_an_error_and_stays_what_it_is() -> None:
    server = LuaRedis()
    server.entries[KEY] = (b"not a bucket", float("inf"))
    with pytest.raises(StoreFailed, match="no token bucket"):
        lua_buckets(server, Rate.of("10/hour")).charge("k", 1)
    assert server.entries[KEY][0] == b"not a bucket"


def test_another_rate_on_the_same_key_mints_nothing() -> None:
    server = LuaRedis()
    fine = lua_buckets(server, Rate.of("999983/hour;burst=50"))
    for _ in range(50):
        fine.charge("k", 1)
    coarse = lua_buckets(server, Rate.of("2/hour;burst=2"))
    granted = 0
    for _ in range(100):
        granted += coarse.charge("k", 1) > 0
    assert granted <= 2
    assert fine.charge("k", 50) <= 0  # bounded by the smaller burst, never more than the larger one allows


def test_long_and_odd_keys_are_one_key_each_in_one_slot() -> None:
    server = LuaRedis()
    buckets = lua_buckets(server, Rate.of("1/hour"))
    odd = ["a" * 201, "a" * 202, "}", "{", "a b", "\u00e4\u20ac\U0001f600", "a:b", "a:%3A"]
    assert all(buckets.charge(key, 1) > 0 for key in odd)
    assert not any(buckets.charge(key, 1) > 0 for key in odd)
    assert len(server.entries) == len(odd)
    assert all(len(key) < 300 for key in server.entries)
    # RL-7: everything of a limiter's one call is in one key, whose slot is that of the braces
    assert all(key.startswith(b"backstay:test:limit:1:{limit:") for key in server.entries)


def test_RL8_a_store_is_asked_no_longer_than_the_work_in_hand_lasts() -> None:
    """What goes back goes back all the same; `tests/faults` has the same on a frozen server."""
    buckets = lua_buckets(LuaRedis(), Rate.of("10/hour"))
    store = buckets.store
    now = store.clock()
    assert store.enter() == pytest.approx(now + 0.05, abs=1e-6)
    with deadline(0.02, clock=store.clock):
        assert store.enter() == pytest.approx(now + 0.02, abs=1e-6)
        assert store.since(store.enter()) == 0
        assert store.enter(heeding=False) == pytest.approx(now + 0.05, abs=1e-6)
    with deadline(5, clock=store.clock):
        assert store.enter() == pytest.approx(now + 0.05, abs=1e-6)
    assert buckets.charge("k", 1) > 0
    with deadline(0, clock=store.clock):
        with pytest.raises(DeadlineExceeded, match="was not asked"):
            buckets.charge("k", 1)
        with pytest.raises(DeadlineExceeded):
            buckets.take("k", 1, 0.0)
        assert buckets.give("k", 1, 0)
    assert buckets.take("k", 10, 0.0).balance > 0
